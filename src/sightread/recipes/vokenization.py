"""The comparisons of the vokenization paper (Tan & Bansal 2020), and those that it lacks.

    sightread compare recipes.vokenization:table5 --out table5

| recipe | compared | on the controlled world | paper-sized |
| --- | --- | --- | --- |
| table2 | vokens against text alone, for encoders of several sizes and kinds | `table2` | `paper_table2` |
| table3 | further training with vokens, against noise of the same distance | `table3` | `paper_table3` |
| table4 | text of captions, text of the same length, no pre-training | `table4` | `paper_table4` |
| table5 | pictures of sentences against pictures of tokens | `table5` | `paper_table5` |
| table6 | vokens that carry less and less: another token's, the token itself, any | `table6` | `paper_table6` |
| objectives | every voken objective, head and choice of labels | `objectives` | |
| controls | text alone for longer, vokens alone | `controls` | |
| rivals | contrast on early layers, distillation from a grounded teacher | `rivals` | |

Those on the world are sized for about a quarter of an hour on two cores, `--workers 2`; hence five worlds where arms
are few, three where they are many. A paper-sized one takes GPUs, and its data from `--data`, laid out as
`experiments/real.py` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.presets import PRESETS
from sightread.experiments.real import RealExperiment
from sightread.experiments.world import WorldExperiment
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig

VOKENS = Arm(name="voken classification")
AS_THEIR_CODE = {"head": "dense"}  # the paper's equation 1 has a linear head
AS_MATCHING = {"captions_per_block": 1}  # on a world, as many captions as the vokenizer learns from

TABLE_2 = (
    TEXT_ONLY,
    VOKENS,
    Arm(name="larger, text-only", method="lm", vokens="none", start="large"),
    Arm(name="larger, vokens", start="large", control="larger, text-only"),
    Arm(name="RoBERTa, text-only", method="lm", vokens="none", start="roberta"),
    Arm(name="RoBERTa, vokens", start="roberta", control="RoBERTa, text-only"),
    Arm(name="decoder, text-only", method="lm", vokens="none", start="decoder"),
    Arm(name="decoder, vokens", start="decoder", control="decoder, text-only"),
)
TABLE_3 = (
    TEXT_ONLY,
    Arm(name="then more text", method="lm", vokens="none", start="text-only"),
    Arm(name="then vokens", start="text-only", control="then more text"),
    Arm(name="then noise instead", method="weight noise", start="text-only", after="then vokens"),
)
TABLE_4 = (
    Arm(name="not pre-trained", method="start"),
    Arm(name="captions", method="lm", vokens="captions"),
    Arm(name="as much text", method="lm", vokens="as long as captions"),
)
TABLE_5 = (
    TEXT_ONLY,
    Arm(name="SentLabel", vokens="sentence", settings={"labelled": "sentence", "packed": False}),
    Arm(name="Propagated", vokens="sentence"),
    Arm(name="term frequency", vokens="frequency"),
    VOKENS,
)
TABLE_6 = (
    TEXT_ONLY,
    Arm(name="random vokens", vokens="random"),
    Arm(name="shuffled vokens", vokens="shuffled"),
    Arm(name="tokens as vokens", vokens="tokens"),
    VOKENS,
)
OBJECTIVES = (
    TEXT_ONLY,
    VOKENS,
    Arm(name="masked tokens alone", settings={"labelled": "masked"}),
    Arm(name="unmasked tokens alone", settings={"labelled": "unmasked"}),
    Arm(name="shared transform", settings={"head": "shared"}),
    Arm(name="soft vokens", vokens="top", settings={"objective": "soft"}),
    Arm(name="voken contrast", settings={"objective": "contrastive"}),
    Arm(name="voken regression", settings={"objective": "regression"}),
    Arm(name="regression, smooth L1", settings={"objective": "regression", "distance": "smooth_l1"}),
    Arm(name="term frequency, regression", vokens="frequency", settings={"objective": "regression"}),
)
CONTROLS = (
    TEXT_ONLY,
    VOKENS,
    Arm(name="vokens alone", settings={"lm_weight": 0.0}),
    Arm(name="one more epoch", method="lm", vokens="none", settings={"num_train_epochs": 4}),
    Arm(name="compute of vokens", method="lm", vokens="none", after=VOKENS.name),
)
RIVALS = (
    TEXT_ONLY,
    VOKENS,
    Arm(name="lexical contrast", method="lexical contrast", vokens="none", settings=AS_MATCHING),
    Arm(name="grounded teacher", method="lexical contrast", vokens="none", settings={**AS_MATCHING, "layer": -1}),
    Arm(name="student of text", method="grounded teacher", vokens="none", after=TEXT_ONLY.name),
    Arm(name="its student", method="grounded teacher", vokens="none", after="grounded teacher",
        control="student of text"),
)  # fmt: skip
LONGER = Arm(name="text-only, a tenth longer", method="lm", vokens="none", settings={"num_train_epochs": 44})


def _paper(*arms: Arm) -> RealExperiment:
    """After the paper, sections 4 and 5, and the scripts of its code: COCO, Visual Genome, WikiText-103, GLUE.

    The image encoder there is a ResNeXt-101, which Transformers lacks; its optimiser Adam, here AdamW without decay.
    """
    return RealExperiment(
        arms=arms,
        text_encoder="google-bert/bert-base-uncased", image_encoder="microsoft/resnet-101",
        captions="coco/captions_train2017.json", images="coco/train2017", bank="vg", bank_size=50_000,
        corpus="wiki103.txt.gz",
        starts={"encoder": "new:bert-6L-512H", "large": "new:bert-12L-768H", "roberta": "new:roberta-12L-768H",
                "bert-base": "google-bert/bert-base-uncased"},
        tokenizers={"roberta": "FacebookAI/roberta-base"},
        matching=MatchingConfig(
            objective="hinge", margin=0.5, dropout=0.3, input_dropout=0.0,
            training={"num_train_epochs": 20, "per_device_train_batch_size": 256, "learning_rate": 1e-3,
                      "weight_decay": 0.0, "lr_scheduler_type": "constant"},
        ),
        pretraining=PretrainingConfig(
            max_length=128, packed=True,
            training={"num_train_epochs": 40, "per_device_train_batch_size": 256, "learning_rate": 2e-4,
                      "weight_decay": 0.01, "warmup_steps": 10_000, "bf16": True, "save_strategy": "steps",
                      "save_steps": 10_000},
        ),
        finetuning=PRESETS["vokenization"].config,
        tasks={"sst2": "glue/SST-2", "qnli": "glue/QNLI", "qqp": "glue/QQP", "mnli": "glue/MNLI"},
    )  # fmt: skip


def _on_worlds(*arms: Arm, worlds: int = 5) -> WorldExperiment:
    return WorldExperiment(seeds=tuple(range(worlds)), arms=arms)


def table2() -> WorldExperiment:
    """Vokens against text alone: BERT, a larger BERT, RoBERTa with vokens carried over, and a decoder."""
    return _on_worlds(*TABLE_2, worlds=3)


def table3() -> WorldExperiment:
    """An encoder trained further with vokens, with text, and one moved as far by noise."""
    return _on_worlds(*TABLE_3)


def table4() -> WorldExperiment:
    """Captions as text, against as much ordinary text, and none; eight epochs each, since there are few captions."""
    none, *trained = TABLE_4
    return _on_worlds(none, *(replace(arm, settings={"num_train_epochs": 8}) for arm in trained))


def table5() -> WorldExperiment:
    """Pictures retrieved for sentences, by word counts, and for tokens in context."""
    return _on_worlds(*TABLE_5)


def table6() -> WorldExperiment:
    """Vokens by lot, of another token, the token itself, and by the vokenizer."""
    return _on_worlds(*TABLE_6)


def objectives() -> WorldExperiment:
    """Every voken objective."""
    return _on_worlds(*OBJECTIVES, worlds=3)


def controls() -> WorldExperiment:
    """Text alone for longer, and vokens alone."""
    return _on_worlds(*CONTROLS)


def rivals() -> WorldExperiment:
    """Two methods that reported more than vokens."""
    return _on_worlds(*RIVALS, worlds=3)


def everything() -> WorldExperiment:
    """All arms but those of table 4, whose control is another: an hour or two."""
    groups = (TABLE_2, TABLE_3, TABLE_5, TABLE_6, OBJECTIVES, CONTROLS, RIVALS)
    return _on_worlds(*{arm.name: arm for group in groups for arm in group}.values())


def paper_table2() -> RealExperiment:
    """BERT of 6 layers × 512 and of 12 × 768, and RoBERTa, 200,000 steps of Wikipedia, a tenth more for text alone."""
    sizes = {"BERT-6L": "encoder", "BERT-12L": "large", "RoBERTa-12L": "roberta"}
    arms = [
        arm
        for name, start in sizes.items()
        for arm in (
            Arm(name=name, method="lm", vokens="none", start=start, settings={"max_steps": 220_000}),
            Arm(name=f"{name} + vokens", start=start, control=name, settings={"max_steps": 200_000, **AS_THEIR_CODE}),
        )
    ]
    small = _paper(*arms)
    tasks = {**small.tasks, "squad": "squad", "squad2": "squad2", "swag": "swag"}
    return replace(small, corpus="wikipedia.txt.gz", tasks=tasks)


def paper_table3() -> RealExperiment:
    """BERT-base, noise as far as vokens took it, one more epoch of text, and of text with vokens."""
    epoch = {"num_train_epochs": 1}
    return _paper(
        Arm(name="BERT", method="start", start="bert-base"),
        Arm(name="BERT, more text", method="lm", vokens="none", start="bert-base", settings=epoch),
        Arm(name="BERT + vokens", start="bert-base", settings={**epoch, **AS_THEIR_CODE}),
        Arm(name="BERT + noise", method="weight noise", start="bert-base", after="BERT + vokens"),
    )


def paper_table4() -> RealExperiment:
    """Captions as text, as much of Wikipedia, and no pre-training."""
    return _paper(*TABLE_4)


def paper_table5() -> RealExperiment:
    """SentLabel, Propagated, term frequency, vokens, of COCO's pictures: those of Visual Genome have no captions."""
    return replace(_paper(LONGER, *_as_their_code(TABLE_5)), bank="")


def paper_table6() -> RealExperiment:
    """Random, shuffled, tokens, vokens."""
    return _paper(LONGER, *_as_their_code(TABLE_6))


def _as_their_code(arms: Sequence[Arm]) -> list[Arm]:
    return [replace(arm, settings={**arm.settings, **AS_THEIR_CODE}) if arm.method == "voken" else arm for arm in arms]
