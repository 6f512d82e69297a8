"""The real run: Flickr8k pictures and captions, MiniLM, MobileNetV2, English Wikipedia.

    python -m sightread.recipes.flickr8k --data ../shared --text-encoder MINILM --out runs/flickr8k

Matching on the train split, retrieval on the test split beside chance and a bag of words, a bank, at least a million
tokens of Wikipedia vokenized, an encoder pre-trained with vokens and its control for equal steps. Both, and the encoder
they started from, are fine-tuned on 500 rows each of RTE, SICK and SST-2. Every stage is a folder below `--out`; run
again, it goes on where it stopped. `docs/results.md` has the results, whatever they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sightread.finetuning import FinetuningConfig
from sightread.methods.matching import MatchingConfig
from sightread.methods.voken import VokenConfig
from sightread.pretraining import PretrainingConfig


@dataclass(frozen=True, kw_only=True)
class Flickr8kConfig:
    """Settings of the real run.

    Attributes:
        matching: The vokenizer.
        corpus_lines: Lines (paragraphs) of the corpus that are vokenized.
        objectives: The encoders that are pre-trained: the control first.
        pretraining: Settings that they share.
        finetuning: Settings of fine-tuning.
        num_train: Training rows of each task, by name; None for all.
        seeds: Seeds of fine-tuning.
    """

    matching: MatchingConfig = field(default_factory=lambda: MatchingConfig(hidden=512, max_length=64, view="both"))
    corpus_lines: int = 12000
    objectives: tuple[str, ...] = ("mlm", "classification")
    pretraining: PretrainingConfig = field(
        default_factory=lambda: PretrainingConfig(
            max_length=64, packed=True,
            training={"max_steps": 200, "per_device_train_batch_size": 32, "learning_rate": 1e-4, "warmup_steps": 0.1,
                      "weight_decay": 0.01},
        )
    )  # fmt: skip
    finetuning: FinetuningConfig = field(
        default_factory=lambda: FinetuningConfig(
            pooling="mean", max_length=64,
            training={"num_train_epochs": 3, "per_device_train_batch_size": 16, "learning_rate": 5e-5,
                      "warmup_steps": 0.1, "weight_decay": 0.01, "train_sampling_strategy": "group_by_length"},
        )
    )  # fmt: skip
    num_train: dict[str, int | None] = field(default_factory=lambda: {"rte": 500, "sick": 500, "sst2": 500})
    seeds: tuple[int, ...] = (0, 1, 2)


def run(config: Flickr8kConfig, data: Path, text_encoder: str, out: Path) -> dict[str, Any]:
    """All stages; returns, and writes to `results.json`, the scores and seconds of each."""
    results: dict[str, Any] = {"seconds": {}}
    with _timed(results, "matching"):
        _match(config, data, text_encoder, out)
    with _timed(results, "retrieval"):
        results["retrieval"] = _retrieval(data, out)
    with _timed(results, "vokenization"):
        _vokenize(config, data, out)
    for objective in config.objectives:
        with _timed(results, f"pre-training {objective}"):
            _pretrain(config, objective, text_encoder, out)
    encoders = {name: str(out / name / "encoder") for name in config.objectives} | {"start": text_encoder}
    for name, encoder in encoders.items():
        with _timed(results, f"fine-tuning {name}"):
            results[name] = _finetune(config, data, encoder, out / "scores" / name)
    (out / "results.json").write_text(json.dumps(results, indent=1))
    return results


def _match(config: Flickr8kConfig, data: Path, text_encoder: str, out: Path) -> None:
    from sightread.data.captions import read_captions, read_ids
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    folder = data / "data" / "flickr8k"
    captions = read_captions(folder / "captions.tsv", folder / "images").only(read_ids(folder / "split_train.txt"))
    matching.train(
        config.matching, captions, out / "vokenizer", cache=out / "features-train", resume=True,
        text_encoder=TextEncoder.from_pretrained(text_encoder, config.matching.layers),
        image_encoder=ImageEncoder.from_pretrained(
            data / "models" / "mobilenet-v2-1.0-224", config.matching.pooling, config.matching.view
        ),
    )  # fmt: skip


def _retrieval(data: Path, out: Path) -> dict[str, Any]:
    from sightread.analysis.retrieval import bag_of_words_scores, retrieval_scores
    from sightread.data.captions import read_captions, read_ids
    from sightread.encoders.features import image_features
    from sightread.vokenizer import Vokenizer

    folder = data / "data" / "flickr8k"
    captions = read_captions(folder / "captions.tsv", folder / "images")
    train, test = (captions.only(read_ids(folder / f"split_{split}.txt")) for split in ("train", "test"))
    vokenizer = Vokenizer.from_pretrained(out / "vokenizer")
    scores = retrieval_scores(vokenizer, test, cache=out / "features-test")
    features = [
        image_features(vokenizer.image_encoder, part.pictures, cache=out / f"features-{name}")[0]
        for name, part in (("train", train), ("test", test))
    ]
    return scores | {"bag_of_words": bag_of_words_scores(train, features[0], test, features[1])}


def _vokenize(config: Flickr8kConfig, data: Path, out: Path) -> None:
    from sightread.data.corpora import Corpus
    from sightread.vokenization.job import vokenize
    from sightread.vokenizer import Vokenizer

    text = data / "data" / "corpora" / "enwiki-sample" / "train.txt.gz"
    corpus = Corpus(text, max_lines=config.corpus_lines)
    vokenize(corpus, Vokenizer.from_pretrained(out / "vokenizer"), out / "vokens", resume=True)


def _pretrain(config: Flickr8kConfig, objective: str, start: str, out: Path) -> None:
    from sightread.bank import ImageBank
    from sightread.data.voken_corpus import VokenCorpus
    from sightread.methods import mlm, voken

    corpus = VokenCorpus(out / "vokens")
    if objective == "mlm":
        mlm.train(config.pretraining, corpus, out / "mlm", start=start, resume=True)
        return
    settings = VokenConfig(**vars(config.pretraining), objective=objective)
    voken.train(
        settings, corpus, out / objective, start=start, bank=ImageBank.load(out / "vokenizer" / "bank"), resume=True
    )


def _finetune(config: Flickr8kConfig, data: Path, encoder: str, out: Path) -> dict[str, Any]:
    from sightread.finetuning import finetune_seeds
    from sightread.tasks.classification import Classification

    folders = {"rte": "glue/RTE", "sick": "sick", "sst2": "glue/SST-2"}
    scores = {}
    for name, folder in folders.items():
        task = Classification(name, data / "data" / folder)
        settings = replace(config.finetuning, num_train=config.num_train[name])
        summaries = finetune_seeds(encoder, task, seeds=config.seeds, config=settings, out=out / name, resume=True)
        scores[name] = {score: vars(summary) for score, summary in summaries.items()}
    return scores


@contextmanager
def _timed(results: dict[str, Any], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    results["seconds"][stage] = round(time.monotonic() - started, 1)
    print(f"{stage}: {results['seconds'][stage]:.0f} s", flush=True)


def main() -> None:
    """Command line of the recipe."""
    import argparse

    from sightread.runtime import data_root, quiet_progress

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_root(), help="folder of data/ and models/ [SIGHTREAD_DATA]")
    parser.add_argument("--text-encoder", required=True, help="folder or Hub name of the text encoder")
    parser.add_argument("--out", type=Path, default=Path("runs/flickr8k"))
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("give --data, or set SIGHTREAD_DATA")
    quiet_progress()
    run(Flickr8kConfig(), arguments.data, arguments.text_encoder, arguments.out)


if __name__ == "__main__":
    main()
