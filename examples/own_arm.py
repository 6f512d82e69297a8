"""Write an arm of your own, and compare it with its control on controlled worlds.

    python examples/own_arm.py /tmp/own-arm

An arm is a row of a table, in words: how it is trained (`experiments/trainers.py` lists the methods), what it reads,
where it starts, and the settings that differ from what all arms share. What it needs is made once, for all arms. Here
the worlds are so small, and so few, that the table shows how it is done, and no more.
"""

import sys
from pathlib import Path

from sightread.cli.app import run_recipe
from sightread.config import override
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.world import WorldExperiment
from sightread.runtime import quiet_progress

OWN = Arm(
    name="unmasked tokens alone",
    method="voken",
    vokens="matched",
    settings={"objective": "regression", "labelled": "unmasked"},
)
SMALL = [  # as `sightread compare … --set` takes them
    "world.num_scenes=300", "world.num_sentences=1500", "world.image_size=32", "world.sentences_per_noun=3",
    "world.harm_examples=40", "num_pictures=100", "image.per_device_train_batch_size=16", "image.num_train_epochs=3",
    "matching.per_device_train_batch_size=32", "matching.num_train_epochs=4", "pretraining.num_train_epochs=1",
    "pretraining.per_device_train_batch_size=32", "finetuning.num_train_epochs=3", "probing.num_train_epochs=3",
]  # fmt: skip


def main(folder: Path) -> None:
    """Train two arms on two worlds; the first is the control."""
    quiet_progress()
    experiment = override(WorldExperiment(seeds=(0, 1), arms=(TEXT_ONLY, OWN)), SMALL)
    run_recipe(experiment, folder, workers=1, overwrite=False, resume=True)  # as `sightread compare` does


if __name__ == "__main__":
    main(Path(sys.argv[1]))
