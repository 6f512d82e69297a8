"""Comparisons on real data: a vokenizer from captioned pictures, a corpus vokenized, arms pre-trained and fine-tuned.

    sightread compare recipes.flickr8k:flickr8k --data DATA --set text_encoder=MINILM --out flickr8k

Every stage is a folder below `--out`: `vokenizer`, `vokens-…`, one for each arm, `scores/<arm>/<task>`, and the
comparison of `sightread compare`; run again with --resume, it goes on where it stopped. Paths are taken below `--data`;
a model may be a name on the Hub instead, and data `hf:NAME`. For the paper-sized recipes `--data` holds

    coco/captions_train2017.json, coco/train2017/   captioned pictures
    vg/                                             pictures of the bank: Visual Genome without those of COCO
    wikipedia.txt.gz, wiki103.txt.gz                a paragraph a line
    glue/SST-2, glue/QNLI, glue/QQP, glue/MNLI, squad, squad2, swag   official files

and for those of transferred and associative grounding

    coco/test.txt                                   pictures of them that are kept for perplexity, one a line
    books/                                          text, too
    imagenet/train/<wnid>/, imagenet/synsets.tsv    pictures of synsets; lines of wnid, TAB, lemmas
    wordnet/nouns.tsv.gz, glove.txt                 synset, lemmas and definition; word vectors
    joci, pdtb, glue/RTE, sick, vua                 official files
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightread.artifacts import write_atomic
from sightread.config import check_choice, override
from sightread.contracts import Pictures
from sightread.errors import ConfigError, DataError
from sightread.experiments import Outcome, stages
from sightread.experiments.arms import Arm
from sightread.experiments.ground import SYNSET_BANK, VOKENIZERS, Ground, make_store
from sightread.experiments.jobs import Job, run_jobs
from sightread.experiments.needs import associations_of, check_arms, levels_of, pictures_of, stores_of
from sightread.experiments.presets import Preset
from sightread.experiments.stages import BASE, PASSAGES, REGIONS
from sightread.experiments.trainers import train
from sightread.finetuning import FinetuningConfig
from sightread.methods.matching import MatchingConfig
from sightread.methods.semantic_visual import EmbeddingConfig
from sightread.methods.towers import TowersConfig
from sightread.pretraining import PretrainingConfig
from sightread.runtime import data_root, quiet_progress
from sightread.vokenization.job import engine_of

if TYPE_CHECKING:
    from sightread.data.captions import Captions

CAPTIONED = "captions"  # the name of the regions that unpaired arms read
CARVE = "carve="
MODEL, DATA = r"new:.+|[\w.-]+/[\w.-]+", "hf:.+"  # what else than a path below the data may name a model, or data


@dataclass(frozen=True, kw_only=True)
class RealExperiment:
    """A comparison on real data: its arms, and all settings. Paths are below `--data`; models may be Hub names.

    Attributes:
        arms: What is compared; the first is the control.
        text_encoder: The vokenizer's text encoder, whose tokenizer all arms read by, but for `tokenizers`.
        image_encoder: Its image encoder.
        captions: Captions that it learns from.
        images: Their pictures.
        split: File that lists the pictures to learn from; "" for all.
        test_split: File that lists pictures to score retrieval on; "" for none.
        bank: Pictures of the bank; "" for those of the captions.
        bank_size: V; None for all.
        corpus: The text; "" for passages.
        passages: Corpora that are cut into passages and split at random, instead: their train split is the corpus,
            their test split the test corpus.
        corpus_lines: Lines of the corpus that are read; None for all.
        test_corpus: Text on which grounded arms foretell hidden words; "" for none. Without it or passages, and
            without `test_split`, no perplexity is measured.
        test_lines: Lines of it; None for all.
        words: Word vectors, for associations; "" for those of the tokens of the start.
        clip_tokenizer: Tokenizer of a small CLIP; "" for that of the text encoder.
        towers: The small CLIP, learnt from the captions.
        embedding: A semantic-visual embedding, learnt from them, too.
        synsets: File of the synsets that `synset_images` show: then these are the bank of pictures by object.
        synset_images: Pictures whose paths hold the number of a synset.
        definitions: File of definitions of synsets; "" for none.
        base: Language modelling on the corpus, which then makes of the text encoder what arms begin with; None: they
            begin with it as it is.
        starts: Where arms begin, by name; "" stands for the vokenizer's text encoder.
        tokenizers: Tokenizers of starts that have another than the vokenizer's.
        matching: The vokenizer.
        pretraining: Settings that all arms share.
        finetuning: Settings of fine-tuning.
        regions: Pictures whose regions are found, by name: their folder, and the detector, or a file of boxes. Those
            called "captions" are what unpaired arms read.
        tasks: Folders of the tasks, by name.
        pictured: Of a task about pictures, by its name: whose regions it reads, and its settings, `carve=…` among them.
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
    corpus: str = ""
    passages: tuple[str, ...] = ()
    corpus_lines: int | None = None
    test_corpus: str = ""
    test_lines: int | None = None
    words: str = ""
    clip_tokenizer: str = ""
    towers: TowersConfig = field(default_factory=TowersConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    synsets: str = ""
    synset_images: str = ""
    definitions: str = ""
    base: PretrainingConfig | None = None
    starts: Mapping[str, str] = field(default_factory=lambda: {"encoder": ""})
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    matching: MatchingConfig
    pretraining: PretrainingConfig
    finetuning: FinetuningConfig
    regions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tasks: Mapping[str, str]
    pictured: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    num_train: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def check(self, data: Path | None) -> None:
        """See `Experiment`.

        Raises:
            ConfigError: If no data is given, or no text encoder; or if arms cannot be trained, as `check_arms`.
            DataError: If captions, pictures, corpus or a task are not there, or a model neither there nor on the Hub.
            ArtifactError: If an encoder cannot be loaded.
        """
        from sightread.encoders.image import ImageEncoder
        from sightread.encoders.text import TextEncoder
        from sightread.tasks import load_task, task_class

        data = _root(data)
        if not self.text_encoder:
            raise ConfigError("this recipe takes any text encoder; name a folder or Hub name: --set text_encoder=…")
        check_arms(self.arms, self.starts, self.pretraining)
        if bool(self.corpus) == bool(self.passages):
            raise ConfigError("the text is either a corpus or passages of several; give one of the two")
        ground = _ground(replace(self, corpus=self.corpus or self.passages[0], passages=(), base=None), data, Path())
        if self.test_split:
            _captions(self, data, self.test_split)
        elif self.test_corpus:
            raise ConfigError("perplexity is of captions, too: give test_split beside test_corpus")
        if self.test_corpus and self.passages:
            raise ConfigError("passages have a test split of their own; leave test_corpus out")
        if bool(self.synsets) != bool(self.synset_images):
            raise ConfigError("objects are found by synsets and pictures of them: give both, or none")
        places = self.bank, self.test_corpus, *self.passages, self.synset_images, self.synsets, self.definitions
        for place in filter(None, places):
            _place(data, place, DATA)
        for task, (name, *settings) in self.pictured.items():
            check_choice(f"regions of {task}", name, self.regions)
            override(task_class(task).defaults, _without_carve(settings))
        if any(arm.reads for arm in self.arms):
            check_choice("regions of unpaired arms", CAPTIONED, self.regions)
        for images, detector in self.regions.values():
            _place(data, images, DATA)
            _place(data, detector, MODEL)
        for task, folder in self.tasks.items():
            source = _place(data, folder, DATA)
            if task not in self.pictured:
                load_task(task, source).load("train")
        TextEncoder.from_pretrained(ground.tokenizer, self.matching.layers)
        ImageEncoder.from_pretrained(ground.image_encoder, **ground.image_options)

    def run(
        self, out: Path, *, data: Path | None = None, workers: int = 1, say: Callable[[str], None] = print
    ) -> Outcome:
        """See `Experiment`; writes the comparison, and `results.json` with retrieval scores and seconds.

        Raises:
            SightreadError: As `check`.
        """
        quiet_progress()
        self.check(data)
        out.mkdir(parents=True, exist_ok=True)
        data, timed = _root(data), partial(_timed, out / "results.json", say)
        if self.passages:
            with timed("passages"):
                sources = [_place(data, name, DATA) for name in self.passages]
                stages.cut_passages(sources, out / PASSAGES, self.pretraining.seed)
        ground = replace(_ground(self, data, out), engine=engine_of("local", workers))
        if ground.vokenizers or pictures_of(self.arms):
            with timed("bank"):
                self._make_banks(data, ground)
        if ground.vokenizers:
            with timed("matching"):
                stages.match(self.matching, ground)
        if self.test_split and "token" in ground.vokenizers:
            with timed("retrieval") as results:
                results["retrieval"] = stages.retrieval(_captions(self, data, self.test_split), ground)
        if self.regions:
            with timed("regions"):
                stages.find_regions(
                    {name: (_place(data, images, DATA), _place(data, detector, MODEL))
                     for name, (images, detector) in self.regions.items()}, ground,
                )  # fmt: skip
        for kind, start in stores_of(self.arms):
            with timed(f"vokens: {kind} {start}"):
                make_store(kind, ground, start)
        if self.base is not None:
            with timed("language model"):
                stages.train_base(self.base, ground)
        if associations_of(self.arms):
            with timed("pictures beside text"):
                stages.find_pictures(self.arms, ground)
        for stage, jobs in self._jobs(data, out).items():
            with timed(stage):
                for job, _ in run_jobs(jobs, workers):
                    say(f"  {job.name}")
        if self.test_split and (self.test_corpus or self.passages):
            with timed("perplexities") as results:
                found = results["perplexities"] = self._perplexities(data, ground)
            if not self.tasks:
                return Outcome(found, "")
        return _compare(self, out)

    def _make_banks(self, data: Path, ground: Ground) -> None:
        """The pictures that vokens are chosen from, or that text is read beside, and those of synsets."""
        from sightread.data.images import read_pictures

        def read(images: str) -> Pictures:
            return read_pictures(_place(data, images, DATA))

        seed, folder = self.matching.seed, ground.folder
        pictures = read(self.bank) if self.bank else ground.captions.pictures
        cache = folder / "features-bank" if self.bank else ground.features
        stages.make_bank("bank", ground, pictures, cache=cache, seed=seed, size=self.bank_size)
        if self.synset_images:
            pictures = read(self.synset_images)
            stages.make_bank(SYNSET_BANK, ground, pictures, cache=folder / "features-synsets", seed=seed)

    def _perplexities(self, data: Path, ground: Ground) -> str:
        from sightread.data.corpora import Corpus

        path = ground.folder / PASSAGES / "test.txt" if self.passages else _place(data, self.test_corpus, DATA)
        text = Corpus(path, max_lines=self.test_lines)
        return stages.perplexities(self.arms, ground, text, _captions(self, data, self.test_split))

    def _jobs(self, data: Path, out: Path) -> dict[str, list[Job]]:
        shared = self, data, out
        return {
            "pre-training": [Job(arm.name, pretrain_arm, (*shared, arm), arm.after) for arm in self.arms],
            "fine-tuning": [Job(f"{arm.name} on {task}", finetune_arm, (*shared, arm, task))
                            for arm in self.arms for task in self.tasks],
        }  # fmt: skip


def pretrain_arm(experiment: RealExperiment, data: Path, out: Path, arm: Arm) -> None:
    """Pre-train an arm, if it has not been."""
    quiet_progress()
    train(arm, _ground(experiment, data, out))


def finetune_arm(experiment: RealExperiment, data: Path, out: Path, arm: Arm, task: str) -> None:
    """Fine-tune an arm on a task with all seeds; those that are done are left as they are."""
    from sightread.finetuning import finetune_seeds
    from sightread.tasks import load_task

    quiet_progress()
    options = dict[str, Any]()
    if task in experiment.pictured:
        name, *settings = experiment.pictured[task]
        carve = "".join(s.removeprefix(CARVE) for s in settings if s.startswith(CARVE))
        settings = [*_without_carve(settings), f"tags={arm.settings.get('tags', True)}"]
        options = {"regions": out / REGIONS.format(name), "carve": carve, "settings": settings}
    config = Preset(config=replace(experiment.finetuning, num_train=experiment.num_train)).settings(task)
    finetune_seeds(
        out / arm.name / "encoder", load_task(task, _place(data, experiment.tasks[task], DATA), **options),
        seeds=experiment.seeds, config=config, out=out / "scores" / arm.name / task, resume=True,
    )  # fmt: skip


def _without_carve(settings: Sequence[str]) -> list[str]:
    """The settings that are the task's own."""
    return [setting for setting in settings if not setting.startswith(CARVE)]


def _root(data: Path | None) -> Path:
    if root := data or data_root():
        return root
    raise ConfigError("this recipe reads real data; give --data, or set SIGHTREAD_DATA")


def _place(data: Path, name: str, elsewhere: str) -> Path | str:
    """A path below the data, or a name that is no path; never what happens to lie in the current folder."""
    if (data / name).exists():
        return data / name
    if re.fullmatch(elsewhere, name) and not Path(name).exists():
        return name
    also = "hf:NAME" if elsewhere == DATA else "a name on the Hub"
    raise DataError(f"there is no {data / name}; give a path below {data}, a whole path, or {also}")


def _captions(experiment: RealExperiment, data: Path, split: str) -> Captions:
    from sightread.data.captions import read_captions, read_ids

    captions = read_captions(_place(data, experiment.captions, DATA), data / experiment.images)
    return captions.only(read_ids(data / split)) if split else captions


def _ground(experiment: RealExperiment, data: Path, out: Path) -> Ground:
    from sightread.data.corpora import Corpus

    def model(name: str) -> Path | str:
        return _place(data, name, MODEL)

    base = model(experiment.text_encoder) if experiment.base is None else out / BASE / "encoder"
    return Ground(
        folder=out, corpus=Corpus(_corpus_path(experiment, data, out), max_lines=experiment.corpus_lines),
        captions=_captions(experiment, data, experiment.split), tokenizer=model(experiment.text_encoder),
        vokenizers={level: out / VOKENIZERS[level] for level in levels_of(experiment.arms)},
        image_encoder=model(experiment.image_encoder), features=out / "features",
        image_options={"pooling": experiment.matching.pooling, "view": experiment.matching.view},
        starts={name: model(start) if start else base for name, start in experiment.starts.items()},
        tokenizers={start: model(name) for start, name in experiment.tokenizers.items()},
        pretraining=experiment.pretraining, words=data / experiment.words if experiment.words else None,
        synsets=data / experiment.synsets if experiment.synsets else None,
        definitions=data / experiment.definitions if experiment.definitions else None,
        regions=out / REGIONS.format(CAPTIONED), towers=experiment.towers, embedding=experiment.embedding,
        clip_tokenizer=model(experiment.clip_tokenizer) if experiment.clip_tokenizer else "",
    )  # fmt: skip


def _corpus_path(experiment: RealExperiment, data: Path, out: Path) -> Path | str:
    return out / PASSAGES / "train.txt" if experiment.passages else _place(data, experiment.corpus, DATA)


def _compare(experiment: RealExperiment, out: Path) -> Outcome:
    from sightread.compare import compare_runs
    from sightread.report import TITLE, as_text, write_comparison
    from sightread.runs import read_runs

    folders = {arm.name: f"scores/{arm.name}" for arm in experiment.arms}
    controls = {arm.name: arm.control for arm in experiment.arms if arm.control}
    runs = read_runs([f"{arm}={out / folder}" for arm, folder in folders.items()])
    comparison = compare_runs(runs, controls=controls)
    write_comparison(out, comparison)
    return Outcome(
        as_text(comparison), "\n".join(comparison.verdicts()), TITLE,
        scores=[f"{arm}={folder}" for arm, folder in folders.items()], controls=controls,
    )  # fmt: skip


@contextmanager
def _timed(path: Path, say: Callable[[str], None], stage: str) -> Iterator[dict[str, Any]]:
    """The results so far; what the stage takes is added to what it took before the comparison was stopped."""
    results = json.loads(path.read_text()) if path.is_file() else {"seconds": {}}
    began, before = time.monotonic(), results["seconds"].get(stage, 0.0)
    try:
        yield results
    finally:
        results["seconds"][stage] = round(before + time.monotonic() - began, 1)
        write_atomic(path, json.dumps(results, indent=1))
    say(f"{stage}: {results['seconds'][stage]:.0f} s")
