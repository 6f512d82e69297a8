"""The real run: Flickr8k pictures and captions, any text encoder, MobileNetV2, English Wikipedia.

    sightread compare recipes.flickr8k:flickr8k --data DATA --set text_encoder=MINILM --workers 2 --out flickr8k

docs/results.md has the results, whatever they are.
"""

from __future__ import annotations

from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.real import RealExperiment
from sightread.finetuning import FinetuningConfig
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig


def flickr8k() -> RealExperiment:
    """Flickr8k pictures and captions, MobileNetV2, a million tokens of Wikipedia: an hour or two on two cores.

    The text encoder is the user's: `--set text_encoder=FOLDER`.
    """
    return RealExperiment(
        arms=(
            TEXT_ONLY,
            Arm(name="voken classification"),
            Arm(name="random vokens", vokens="random"),
            Arm(name="tokens as vokens", vokens="tokens"),
            Arm(name="as it is", method="start"),
        ),
        text_encoder="",
        image_encoder="models/mobilenet-v2-1.0-224",
        captions="data/flickr8k/captions.tsv", images="data/flickr8k/images",
        split="data/flickr8k/split_train.txt", test_split="data/flickr8k/split_test.txt",
        corpus="data/corpora/enwiki-sample/train.txt.gz", corpus_lines=12000,
        matching=MatchingConfig(hidden=512, max_length=64, view="both"),
        pretraining=PretrainingConfig(
            max_length=64, packed=True,
            training={"max_steps": 200, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "warmup_steps": 0.1,
                      "weight_decay": 0.01},
        ),
        finetuning=FinetuningConfig(
            pooling="mean", max_length=64,
            training={"num_train_epochs": 3, "per_device_train_batch_size": 16, "learning_rate": 5e-5,
                      "warmup_steps": 0.1, "weight_decay": 0.01, "train_sampling_strategy": "group_by_length"},
        ),
        tasks={"sst2": "data/glue/SST-2", "rte": "data/glue/RTE", "sick": "data/sick", "mrpc": "data/glue/MRPC",
               "cola": "data/glue/CoLA"},
        num_train=500, seeds=(0, 1, 2),
    )  # fmt: skip
