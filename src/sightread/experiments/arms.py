"""Arms of a comparison: what each reads, how it is trained, and the voken corpora that this takes.

An `Arm` is a row of a table, in words; a `Ground` is what all arms of a comparison share. `make_store` makes a voken
corpus, `train` an encoder. Both leave alone what is there, so that a comparison which was stopped goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import MANIFEST, Artifact
from sightread.config import check_choice, check_training
from sightread.pretraining import KIND, PretrainingConfig, is_fresh, start_model
from sightread.runtime import seed_everything

if TYPE_CHECKING:
    from sightread.bank import ImageBank
    from sightread.data.captions import Captions
    from sightread.data.corpora import Corpus
    from sightread.data.voken_corpus import VokenCorpus

TOP = 5  # pictures a token, for soft vokens
VOKENIZERS = {"token": "vokenizer", "sentence": "vokenizer-sentence"}  # their folders, by level


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An encoder of a comparison.

    Attributes:
        name: What it is called in tables.
        method: A key of `METHODS`.
        vokens: A key of `STORES`: what it reads.
        start: A key of `Ground.starts`: where it begins.
        after: The arm that it rests on: a teacher, what noise imitates, or whose cost "lm" is to match.
        control: The arm it is compared with; by default the first.
        settings: Settings of the method, and `TrainingArguments`, that differ from what the arms share.
    """

    name: str
    method: str = "voken"
    vokens: str = "matched"
    start: str = "encoder"
    after: str = ""
    control: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("vokens", self.vokens, STORES)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the arms of a comparison share.

    Attributes:
        folder: Where voken corpora and encoders are written, each under the name of its store or arm.
        corpus: The text.
        captions: Captioned pictures that the vokenizers, and methods that see captions, learn from.
        tokenizer: The tokenizer of the text, a folder or Hub name.
        vokenizers: Folders of vokenizers by level, "token" or "sentence".
        image_encoder: Folder or Hub name of the image encoder.
        image_options: Its pooling and view; see `ImageEncoder`.
        features: Folder that keeps the pictures' features.
        starts: Where arms begin, by name: a checkpoint, or what makes fresh weights; see `pretraining.start_model`.
        pretraining: Settings that all arms share, the seed among them.
        tokenizers: Other tokenizers, by the start that needs them; vokens are carried over to them.
        options: How voken corpora are written; see `vokenization.job.Options`.
    """

    folder: Path
    corpus: Corpus
    captions: Captions
    tokenizer: str | Path
    vokenizers: Mapping[str, Path]
    image_encoder: str | Path
    features: Path
    image_options: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str | Path]
    pretraining: PretrainingConfig
    tokenizers: Mapping[str, str | Path] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def bank(self) -> ImageBank:
        """The pictures that vokens are chosen from."""
        from sightread.bank import ImageBank

        return ImageBank.load(self.vokenizers["token"] / "bank")


def levels_of(arms: Sequence[Arm]) -> list[str]:
    """The levels of the vokenizers that some arms need."""
    return ["token", *({"sentence"} & {arm.vokens for arm in arms})]


def stores_of(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """The voken corpora that some arms read, each once: its kind, and the start whose tokenizer it has."""
    return sorted({(arm.vokens, arm.start) for arm in arms if arm.method not in ("start", "weight noise")})


def make_store(kind: str, ground: Ground, start: str = "") -> VokenCorpus:
    """The voken corpus of this kind, a key of `STORES`, for the tokenizer of a start; made if it is not there."""
    from sightread.encoders.text import load_tokenizer
    from sightread.vokenization.revokenize import revokenize

    if start not in ground.tokenizers:
        return STORES[kind](ground, load_tokenizer(ground.tokenizer), ground.folder / f"vokens-{kind}")
    tokenizer, out = load_tokenizer(ground.tokenizers[start]), ground.folder / f"vokens-{kind}-{start}"
    if kind == "none":
        return STORES[kind](ground, tokenizer, out)
    return revokenize(make_store(kind, ground), tokenizer, out, resume=True, **ground.options)


def train(arm: Arm, ground: Ground) -> Path:
    """Train an arm, if it has not been; returns the folder that `AutoModel` loads."""
    folder = ground.folder / arm.name
    METHODS[arm.method](arm, ground, folder)
    return folder / "encoder"


def _config(arm: Arm, ground: Ground, kind: type[PretrainingConfig]) -> Any:
    """The method's config: what the arms share, and what is this one's own."""
    known = {f.name for f in fields(kind)} - {"training"}
    own = {name: value for name, value in arm.settings.items() if name in known}
    training = {name: value for name, value in arm.settings.items() if name not in known}
    check_training(training, known)
    shared = {f.name: getattr(ground.pretraining, f.name) for f in fields(PretrainingConfig)}
    return kind(**{**shared, **own, "training": {**ground.pretraining.training, **training}})


def _train_lm(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import lm

    matched = {"match_compute_of": ground.folder / arm.after} if arm.after else {}
    config = _config(arm, ground, PretrainingConfig)
    lm.train(
        config, make_store(arm.vokens, ground, arm.start), out, start=ground.starts[arm.start], resume=True, **matched
    )


def _train_voken(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import voken

    config = _config(arm, ground, voken.VokenConfig)
    bank = ground.bank() if config.objective in voken.OF_FEATURES else None
    voken.train(
        config, make_store(arm.vokens, ground, arm.start), out, start=ground.starts[arm.start], bank=bank, resume=True
    )


def _train_contrast(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.encoders.features import image_features
    from sightread.encoders.image import ImageEncoder
    from sightread.methods import lexical_contrast

    encoder = ImageEncoder.from_pretrained(ground.image_encoder, **ground.image_options)
    features, rows, _ = image_features(encoder, ground.captions.pictures, cache=ground.features)
    lexical_contrast.train(
        _config(arm, ground, lexical_contrast.ContrastConfig), make_store(arm.vokens, ground, arm.start), out,
        start=ground.starts[arm.start], captions=ground.captions.keep_pictures(rows), features=features, resume=True,
    )  # fmt: skip


def _distil(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods import grounded_teacher

    grounded_teacher.train(
        _config(arm, ground, grounded_teacher.DistillationConfig), make_store(arm.vokens, ground, arm.start), out,
        start=ground.starts[arm.start], teacher=ground.folder / arm.after / "encoder", resume=True,
    )  # fmt: skip


def _add_noise(arm: Arm, ground: Ground, out: Path) -> None:
    from sightread.methods.weight_noise import add_noise

    if not (out / MANIFEST).is_file():
        add_noise(
            ground.starts[arm.start], ground.folder / arm.after, out, seed=ground.pretraining.seed, overwrite=True
        )


def _leave(arm: Arm, ground: Ground, out: Path) -> None:
    """The start itself, or fresh weights."""
    from sightread.encoders.text import load_tokenizer

    source = ground.starts[arm.start]
    tokenizer = load_tokenizer(ground.tokenizers.get(arm.start, ground.tokenizer) if is_fresh(source) else source)
    artifact = Artifact.begin(out, KIND, config={"start": str(source)}, resume=True)
    if not artifact.finished:
        seed_everything(ground.pretraining.seed)
        start_model(source, tokenizer).save_pretrained(artifact.path / "encoder")
        tokenizer.save_pretrained(artifact.path / "encoder")
        artifact.finish({})


METHODS: Mapping[str, Callable[[Arm, Ground, Path], None]] = {
    "lm": _train_lm, "voken": _train_voken, "lexical contrast": _train_contrast, "grounded teacher": _distil,
    "weight noise": _add_noise, "start": _leave,
}  # fmt: skip


def _tokenized(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.vokenization.job import tokenize

    return tokenize(ground.corpus, tokenizer, out, resume=True, **ground.options)


def _captions(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.data.corpora import Corpus
    from sightread.vokenization.job import tokenize

    return tokenize(Corpus(_captions_file(ground)), tokenizer, out, resume=True, **ground.options)


def _as_long_as_captions(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    """As many lines of the text as hold as many words as all captions."""
    from sightread.data.corpora import Corpus
    from sightread.vokenization.job import tokenize

    words = sum(len(text.split()) for text in ground.captions.texts)
    read = itertools.accumulate(len(line.split()) for line in ground.corpus)
    lines = 1 + sum(1 for _ in itertools.takewhile(lambda total: total < words, read))
    return tokenize(Corpus(ground.corpus.source, max_lines=lines), tokenizer, out, resume=True, **ground.options)


def _captions_file(ground: Ground) -> Path:
    from sightread.artifacts import write_atomic

    path = ground.folder / "captions.txt"
    if not path.is_file():
        write_atomic(path, "".join(f"{text}\n" for text in ground.captions.texts))
    return path


def _matched(level: str, top: int) -> Callable[[Ground, Any, Path], VokenCorpus]:
    def make(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
        from sightread.vokenization.job import vokenize
        from sightread.vokenizer import Vokenizer

        vokenizer = Vokenizer.from_pretrained(ground.vokenizers[level])
        return vokenize(ground.corpus, vokenizer, out, top=top, resume=True, **ground.options)

    return make


def _random(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.vokenization.baselines import random_vokens

    source, seed = make_store("matched", ground), ground.pretraining.seed
    return random_vokens(source, tokenizer, out, seed=seed, resume=True, **ground.options)


def _shuffled(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.vokenization.baselines import shuffled_vokens

    source, seed = make_store("matched", ground), ground.pretraining.seed
    return shuffled_vokens(source, tokenizer, out, seed=seed, resume=True, **ground.options)


def _tokens(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.vokenization.baselines import token_vokens

    return token_vokens(make_store("none", ground), tokenizer, out, resume=True, **ground.options)


def _frequency(ground: Ground, tokenizer: Any, out: Path) -> VokenCorpus:
    from sightread.vokenization.baselines import frequency_vokens

    return frequency_vokens(
        make_store("none", ground), tokenizer, out, captions=ground.captions, bank=ground.bank(),
        seed=ground.pretraining.seed, resume=True, **ground.options,
    )  # fmt: skip


STORES: Mapping[str, Callable[[Ground, Any, Path], VokenCorpus]] = {
    "none": _tokenized, "matched": _matched("token", 1), "top": _matched("token", TOP),
    "sentence": _matched("sentence", 1), "random": _random, "shuffled": _shuffled, "tokens": _tokens,
    "frequency": _frequency, "captions": _captions, "as long as captions": _as_long_as_captions,
}  # fmt: skip
