import math
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, asdict, dataclass, field
from importlib import import_module
from typing import Any

import pytest

from sightread.config import check_choice, override
from sightread.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 1
    margin: float = 0.5
    name: str = "x"
    packed: bool = False
    limit: int | None = 7
    layers: tuple[int, ...] = (0, -1)
    words: tuple[str, ...] | None = None
    training: Mapping[str, Any] = field(default_factory=lambda: {"learning_rate": 1.0, "seed": 3})


@dataclass(frozen=True)
class Bare:
    steps: int = 1


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("steps=12", "steps", 12),
        ("margin=1e-4", "margin", 1e-4),
        ("margin=2", "margin", 2.0),
        ("name=12", "name", "12"),
        ("name=none", "name", "none"),
        ("name=a=b", "name", "a=b"),
        ("packed=true", "packed", True),
        ("packed=0", "packed", False),
        ("limit=9", "limit", 9),
        ("limit=None", "limit", None),
        ("limit=none", "limit", None),
        ("layers=-1", "layers", (-1,)),
        ("layers=1,2,-3", "layers", (1, 2, -3)),
        ("words=a,b", "words", ("a", "b")),
        ("words=none", "words", None),
    ],
)
def test_values_take_the_type_of_their_field(assignment, key, value):
    changed = asdict(override(Config(), [assignment]))
    assert type(changed[key]) is type(value)
    assert changed == asdict(Config()) | {key: value}


def test_training_arguments_go_to_training_and_the_config_given_stays(tmp_path):
    config = Config()
    changed = override(config, ["learning_rate=1e-4", "num_train_epochs=2", "bf16=true", "steps=4"])
    assert dict(changed.training) == {"learning_rate": 1e-4, "num_train_epochs": 2.0, "bf16": True, "seed": 3}
    assert changed.steps == 4
    assert config == Config()
    with pytest.raises(FrozenInstanceError):
        changed.steps = 5


def test_report_to_none_means_no_reports(tmp_path):
    from transformers import TrainingArguments

    training = override(Config(), ["report_to=none"]).training
    assert TrainingArguments(**training, output_dir=str(tmp_path), use_cpu=True).report_to == []


def test_without_training_there_are_no_training_arguments():
    assert override(Bare(), ["steps=2"]) == Bare(2)
    with pytest.raises(ConfigError, match="unknown setting 'learning_rate'; this step knows steps"):
        override(Bare(), ["learning_rate=1"])


@dataclass(frozen=True, kw_only=True)
class Outer:
    size: int = 2
    inner: Config = field(default_factory=Config)
    bare: Bare = field(default_factory=Bare)


def test_a_config_within_is_reached_by_a_dot():
    changed = override(Outer(), ["inner.steps=4", "size=3", "inner.learning_rate=2", "bare.steps=5", "inner.name=a.b"])
    training = {"learning_rate": 2.0, "seed": 3}
    assert changed == Outer(size=3, inner=Config(steps=4, name="a.b", training=training), bare=Bare(5))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("steps=3", "unknown setting 'steps'; did you mean 'inner.steps' or 'bare.steps'"),
        ("max_steps=3", "unknown setting 'max_steps'; did you mean 'inner.max_steps'?"),
        ("iner.margin=3", "unknown setting 'iner.margin'; did you mean 'inner.margin'"),
        ("inner.margn=3", "inner: unknown setting 'margn'; did you mean 'margin'"),
        ("inner.steps=x", "inner: steps=x: .*valid integer"),
        ("size.steps=3", "unknown setting 'size.steps'"),
        ("zzzzz=1", "unknown setting 'zzzzz'; this step knows bare, inner, size"),
    ],
)
def test_a_fault_within_is_named_with_its_place(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(Outer(), [assignment])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("layer=3", "unknown setting 'layer'; did you mean 'layers'"),
        ("lerning_rate=1", "unknown setting 'lerning_rate'; did you mean 'learning_rate'"),
        ("zzzzz=1", "unknown setting 'zzzzz'; this step knows layers, limit, margin"),
        ("training={}", "unknown setting 'training'"),
        ("steps", "'steps' is not of the form key=value"),
        ("steps=1.5", "steps=1.5: .*valid integer"),
        ("steps=none", "steps=none: .*valid integer"),
        ("packed=perhaps", "packed=perhaps: .*boolean"),
        ("layers=1,x", "layers=1,x: .*valid integer"),
        ("num_train_epochs=many", "num_train_epochs=many: .*valid number"),
    ],
)
def test_a_fault_is_named(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(Config(), [assignment])


def test_all_faults_come_at_once():
    with pytest.raises(ConfigError) as caught:
        override(Config(), ["layer=3", "steps=1.5", "name", "limit=2", "learning_rate=fast"])
    assert all(fault in str(caught.value) for fault in ("'layer'", "steps=1.5", "'name'", "learning_rate=fast"))
    assert "limit" not in str(caught.value)


SHARES = """
    pretraining.PretrainingConfig.mask_probability          methods.lexical_contrast.ContrastConfig.mask_probability
    methods.distillation.XdbertConfig.mask_probability      methods.distillation.XdbertConfig.clip_probability
    methods.towers.TowersConfig.dropout                     methods.towers.TowersConfig.input_dropout
    methods.matching.MatchingConfig.dropout                 methods.matching.MatchingConfig.input_dropout
    methods.visual_awareness.AwarenessConfig.dropout        methods.voken.VokenConfig.mask_probability
    methods.joint_masked.JointConfig.region_probability     grounded.GroundingConfig.mask_probability
    methods.unpaired.UnpairedConfig.tag_with_region         methods.grounded_teacher.DistillationConfig.mask_probability
    tasks.translation.TranslationConfig.dropout             tasks.translation.TranslationConfig.label_smoothing
"""


@pytest.mark.parametrize("setting", SHARES.split())
def test_a_share_lies_between_0_and_1(setting):
    module, kind, name = setting.rsplit(".", 2)
    config = getattr(import_module(f"sightread.{module}"), kind)
    for value in (1.5, -1.0, math.nan):
        with pytest.raises(ConfigError, match=rf"^{name}={value}: expected (between 0 and 1|a positive number)$"):
            config(**{name: value})


def test_check_choice():
    check_choice("pooling", "mean", ["cls", "mean"])
    with pytest.raises(ConfigError, match="pooling is 'maen', expected one of cls, mean; did you mean 'mean'"):
        check_choice("pooling", "maen", (choice for choice in ("cls", "mean")))
