"""Comparisons on real data: a vokenizer from captioned pictures, a corpus vokenized, arms pre-trained and fine-tuned.

    sightread compare recipes.flickr8k:flickr8k --data DATA --set text_encoder=MINILM --out flickr8k

Every stage is a folder below `--out`: `vokenizer`, `vokens-…`, one for each arm, `scores/<arm>/<task>`, and the
comparison of `sightread compare`; run again with --resume, it goes on where it stopped. Paths are taken below `--data`
where they are there, else they name a repository of the Hub. For the paper-sized recipes `--data` holds

    coco/captions_train2017.json, coco/train2017/   captioned pictures
    vg/                                             pictures of the bank: Visual Genome without those of COCO
    wikipedia.txt.gz                                a paragraph a line
    glue/SST-2, glue/QNLI, glue/QQP, glue/MNLI      official files
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import write_atomic
from sightread.errors import ConfigError
from sightread.experiments import Outcome
from sightread.experiments.arms import Arm, levels_of, stores_of, train
from sightread.experiments.ground import VOKENIZERS, Ground, make_store
from sightread.experiments.jobs import Job, run_jobs
from sightread.finetuning import FinetuningConfig
from sightread.methods.matching import MatchingConfig
from sightread.pretraining import PretrainingConfig
from sightread.runtime import quiet_progress

if TYPE_CHECKING:
    from sightread.data.captions import Captions

TEXT_ONLY = Arm(name="text-only", method="lm", vokens="none")


@dataclass(frozen=True, kw_only=True)
class RealExperiment:
    """A comparison on real data: its arms, and all settings. Paths are below `--data`, or names on the Hub.

    Attributes:
        arms: What is compared; the first is the control.
        text_encoder: The vokenizer's text encoder.
        image_encoder: Its image encoder.
        captions: Captions that it learns from.
        images: Their pictures.
        split: File that lists the pictures to learn from; "" for all.
        test_split: File that lists pictures to score retrieval on; "" for none.
        bank: Pictures of the bank; "" for those of the captions.
        bank_size: V; None for all.
        corpus: The text.
        corpus_lines: Lines of it that are read; None for all.
        starts: Where arms begin, by name; "" stands for the vokenizer's text encoder.
        tokenizers: Tokenizers of starts that have another than the vokenizer's.
        matching: The vokenizer.
        pretraining: Settings that all arms share.
        finetuning: Settings of fine-tuning.
        tasks: Folders of the tasks, by name.
        num_train: Training rows of each task, drawn with the seed; None for all.
        seeds: Seeds of fine-tuning.
    """

    arms: tuple[Arm, ...]
    text_encoder: str
    image_encoder: str
    captions: str
    images: str
    split: str = ""
    test_split: str = ""
    bank: str = ""
    bank_size: int | None = None
    corpus: str
    corpus_lines: int | None = None
    starts: Mapping[str, str] = field(default_factory=lambda: {"encoder": ""})
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    matching: MatchingConfig
    pretraining: PretrainingConfig
    finetuning: FinetuningConfig
    tasks: Mapping[str, str]
    num_train: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def run(
        self, out: Path, *, data: Path | None = None, workers: int = 1, say: Callable[[str], None] = print
    ) -> Outcome:
        """See `Experiment`; writes the comparison, and `results.json` with retrieval scores and seconds.

        Raises:
            ConfigError: If no data is given, or no text encoder; or if an arm stands before the one that it rests on.
            DataError: If captions, corpus or a task are not there.
        """
        from sightread.compare import compare_runs
        from sightread.report import as_text, write_comparison
        from sightread.runs import read_runs
        from sightread.tasks import load_task

        if data is None:
            raise ConfigError("this recipe reads real data; give --data, or set SIGHTREAD_DATA")
        if not self.text_encoder:
            raise ConfigError("this recipe takes any text encoder; name a folder or Hub name: --set text_encoder=…")
        quiet_progress()
        ground, shared = _ground(self, data, out), (self, data, out)
        for task, folder in self.tasks.items():  # what is missing is said now, and not after days
            load_task(task, _place(data, folder)).load("train")
        stages = {
            "pre-training": [Job(arm.name, pretrain_arm, (*shared, arm), arm.after) for arm in self.arms],
            "fine-tuning": [Job(f"{arm.name} on {task}", finetune_arm, (*shared, arm, task))
                            for arm in self.arms for task in self.tasks],
        }  # fmt: skip
        done = {stage: run_jobs(jobs, workers) for stage, jobs in stages.items()}  # begun when they are asked for
        results: dict[str, Any] = {"seconds": {}}
        with _timed(results, "matching", say):
            _match(self, data, out)
        if self.test_split:
            with _timed(results, "retrieval", say):
                results["retrieval"] = _retrieval(self, data, out)
        for kind, start in stores_of(self.arms):
            with _timed(results, f"vokens: {kind} {start}", say):
                make_store(kind, ground, start)
        for stage, jobs in done.items():
            with _timed(results, stage, say):
                for job, _ in jobs:
                    say(f"  {job.name}")
        runs = read_runs([f"{arm.name}={out / 'scores' / arm.name}" for arm in self.arms])
        comparison = compare_runs(runs, controls={arm.name: arm.control for arm in self.arms if arm.control})
        write_comparison(out, comparison)
        write_atomic(out / "results.json", json.dumps(results, indent=1))
        return Outcome(as_text(comparison), "\n".join(comparison.verdicts()), out / "comparison.html")


def pretrain_arm(experiment: RealExperiment, data: Path, out: Path, arm: Arm) -> None:
    """Pre-train an arm, if it has not been."""
    quiet_progress()
    train(arm, _ground(experiment, data, out))


def finetune_arm(experiment: RealExperiment, data: Path, out: Path, arm: Arm, task: str) -> None:
    """Fine-tune an arm on a task with all seeds; those that are done are left as they are."""
    from sightread.finetuning import finetune_seeds
    from sightread.tasks import load_task

    quiet_progress()
    config = replace(experiment.finetuning, num_train=experiment.num_train)
    finetune_seeds(
        out / arm.name / "encoder", load_task(task, _place(data, experiment.tasks[task])), seeds=experiment.seeds,
        config=config, out=out / "scores" / arm.name / task, resume=True,
    )  # fmt: skip


def _place(data: Path, name: str) -> Path | str:
    """A path below the data, or else a name on the Hub."""
    return data / name if (data / name).exists() else name


def _captions(experiment: RealExperiment, data: Path, split: str) -> Captions:
    from sightread.data.captions import read_captions, read_ids

    captions = read_captions(_place(data, experiment.captions), data / experiment.images)
    return captions.only(read_ids(data / split)) if split else captions


def _ground(experiment: RealExperiment, data: Path, out: Path) -> Ground:
    from sightread.data.corpora import Corpus

    starts = {name: _place(data, start or experiment.text_encoder) for name, start in experiment.starts.items()}
    return Ground(
        folder=out, corpus=Corpus(_place(data, experiment.corpus), max_lines=experiment.corpus_lines),
        captions=_captions(experiment, data, experiment.split), tokenizer=out / "vokenizer" / "text_encoder",
        vokenizers={level: out / name for level, name in VOKENIZERS.items()},
        image_encoder=_place(data, experiment.image_encoder), features=out / "features", starts=starts,
        image_options={"pooling": experiment.matching.pooling, "view": experiment.matching.view},
        tokenizers={start: _place(data, name) for start, name in experiment.tokenizers.items()},
        pretraining=experiment.pretraining,
    )  # fmt: skip


def _match(experiment: RealExperiment, data: Path, out: Path) -> None:
    from sightread.bank import build_bank
    from sightread.data.images import read_pictures
    from sightread.encoders.image import ImageEncoder
    from sightread.encoders.text import TextEncoder
    from sightread.methods import matching

    captions, settings = _captions(experiment, data, experiment.split), experiment.matching
    source, bank, cache = _place(data, experiment.image_encoder), None, out / "features"
    image_encoder = ImageEncoder.from_pretrained(source, settings.pooling, settings.view)
    if experiment.bank or experiment.bank_size:
        pictures = read_pictures(str(_place(data, experiment.bank))) if experiment.bank else captions.pictures
        kept = out / "features-bank" if experiment.bank else cache
        bank, _ = build_bank(pictures, image_encoder, size=experiment.bank_size, seed=settings.seed, cache=kept)
    for level in levels_of(experiment.arms):
        matching.train(
            replace(settings, level=level), captions, out / VOKENIZERS[level], cache=cache, resume=True, bank=bank,
            text_encoder=TextEncoder.from_pretrained(_place(data, experiment.text_encoder), settings.layers),
            image_encoder=image_encoder,
        )  # fmt: skip


def _retrieval(experiment: RealExperiment, data: Path, out: Path) -> dict[str, Any]:
    from sightread.analysis.retrieval import bag_of_words_scores, retrieval_scores
    from sightread.encoders.features import image_features
    from sightread.vokenizer import Vokenizer

    caches = out / "features", out / "features-test"
    parts = [_captions(experiment, data, split) for split in (experiment.split, experiment.test_split)]
    vokenizer = Vokenizer.from_pretrained(out / "vokenizer")
    scores = retrieval_scores(vokenizer, parts[1], cache=caches[1])
    features = [
        image_features(vokenizer.image_encoder, part.pictures, cache=cache)[0]
        for part, cache in zip(parts, caches, strict=True)
    ]
    return scores | {"bag_of_words": bag_of_words_scores(parts[0], features[0], parts[1], features[1])}


@contextmanager
def _timed(results: dict[str, Any], stage: str, say: Callable[[str], None]) -> Iterator[None]:
    started = time.monotonic()
    yield
    results["seconds"][stage] = round(time.monotonic() - started, 1)
    say(f"{stage}: {results['seconds'][stage]:.0f} s")
