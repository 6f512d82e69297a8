"""Ground an encoder in captioned pictures, and ask whether it knows now what no text has told it.

    python examples/ground_and_finetune.py /tmp/ground-and-finetune

Of the methods that ground, lexical contrast: while it reads, an encoder finds the pictures of captions by their words.
The control is the text-only encoder of `vokenize_a_text.py`: the same weights to begin with, the same lines in the same
order with the same masks. Both are fine-tuned to tell the colour of some nouns, and are asked about others. No text
states the colour of any, so that the control can only guess, at 1 in 6.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import sightread
from sightread.compare import compare_runs
from sightread.encoders.features import image_features
from sightread.finetuning import FinetuningConfig
from sightread.methods import lexical_contrast
from sightread.report import as_text
from sightread.runs import read_runs
from sightread.runtime import quiet_progress
from sightread.tasks import load_task
from vokenize_a_text import PRETRAINING, encoders

SEEDS = (0, 1)  # five for a claim, and more worlds than one
FINETUNING = FinetuningConfig(
    pooling="mean", max_length=32,
    training={"num_train_epochs": 6, "per_device_train_batch_size": 32, "learning_rate": 1e-3},
)  # fmt: skip


def main(folder: Path) -> None:
    """Train, fine-tune, compare."""
    quiet_progress()
    _, image_encoder = encoders(folder)
    captions = sightread.read_captions(folder / "world")
    features, *_ = image_features(image_encoder, captions.pictures)
    config = lexical_contrast.ContrastConfig(**asdict(PRETRAINING))
    lexical_contrast.train(
        config, sightread.VokenCorpus(folder / "tokens"), folder / "grounded", start=folder / "config.json",
        captions=captions, features=features, resume=True,
    )  # fmt: skip
    task, scores = load_task("world", folder / "world" / "tasks" / "color"), folder / "scores"
    for name in ("text-only", "grounded"):
        encoder = folder / name / "encoder"
        sightread.finetune_seeds(encoder, task, seeds=SEEDS, config=FINETUNING, out=scores / name, resume=True)
    print(as_text(compare_runs(read_runs([scores / "text-only", scores / "grounded"]))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
