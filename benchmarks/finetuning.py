"""Examples a second of fine-tuning, beside what Hugging Face's run_glue.py does with the same settings.

    python benchmarks/finetuning.py --encoder MODEL --data glue/RTE

That script pads every sequence to max_seq_length unless told otherwise, and to the longest of a random batch if told.
All three train on the same rows with the same batch size and number of steps, one after the other, in this process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

from sightread.encoders.text import load_model, load_tokenizer
from sightread.finetuning import TaskData
from sightread.runtime import machine
from sightread.task_model import FinetuningObjective
from sightread.tasks.classification import Classification
from sightread.train import fit, quiet_progress, training_arguments

MAX_LENGTH = 128


def settings(steps: int, batch_size: int) -> dict:
    return {"max_steps": steps, "per_device_train_batch_size": batch_size, "learning_rate": 2e-5, "report_to": "none",
            "save_strategy": "no", "disable_tqdm": True}  # fmt: skip


def ours(encoder: str, task: Classification, steps: int, batch_size: int, folder: Path) -> float:
    tokenizer = load_tokenizer(encoder)
    data = TaskData(task, tokenizer, MAX_LENGTH, splits=[])
    objective = FinetuningObjective(load_model(encoder, "AutoModel"), task)
    own = {**settings(steps, batch_size), "train_sampling_strategy": "group_by_length"}
    args = training_arguments(folder, own, seed=0)
    began = time.perf_counter()
    fit(objective, data.examples["train"], args=args)
    return steps * batch_size / (time.perf_counter() - began)


def run_glue(encoder: str, task: Classification, steps: int, batch_size: int, folder: Path, *, pad: bool) -> float:
    tokenizer, rows = load_tokenizer(encoder), task.load("train")
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=len(task.labels))
    columns = [list(column) for column in zip(*(row.inputs for row in rows), strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=MAX_LENGTH, padding="max_length" if pad else False)
    examples = [
        {**{name: values[i] for name, values in encoded.items()}, "labels": task.labels.index(row.gold)}
        for i, row in enumerate(rows)
    ]
    args = TrainingArguments(output_dir=str(folder), use_cpu=True, **settings(steps, batch_size))
    trainer = Trainer(model=model, args=args, train_dataset=examples, data_collator=DataCollatorWithPadding(tokenizer))
    began = time.perf_counter()
    trainer.train()
    return steps * batch_size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of RTE")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    quiet_progress()
    task = Classification("rte", options.data)
    call = options.encoder, task, options.steps, options.batch_size
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        print(f"run_glue.py, padded to {MAX_LENGTH}   {run_glue(*call, Path(folder), pad=True):6.1f} examples/s")
        print(f"run_glue.py, dynamic padding  {run_glue(*call, Path(folder), pad=False):6.1f} examples/s")
        print(f"sightread                     {ours(*call, Path(folder)):6.1f} examples/s")


if __name__ == "__main__":
    main()
