"""Comparisons on the controlled world, the positive control: the whole pipeline, with a known answer.

    sightread demo --out demo          (or: make demo)

For each seed a fresh world is made, and encoders are compared on the looks of nouns that no label was given for:

    text-only              language modelling alone                                      must be at chance
    random vokens          voken classification, each token's picture drawn by lot       must be at chance
    voken classification   the paper's objective
    voken regression       the voken's image feature instead of its number
    oracle                 the text-only encoder, looks written into the sentences       shows that the task can be done

All pre-training runs read the same sentences in the same order with the same masks, from the same initial weights, for
the same number of steps. Every encoder is then fine-tuned to tell the look of 54 nouns and tested on 30 others.
Agreement and word order need no vision; there a linear head on the frozen encoder is trained, for fine-tuning masters
them from any start and would hide the harm. Settings were chosen on the dev nouns (12 others); docs/results.md tells
how, and the one exception. Other comparisons, with other arms, stand in `recipes/vokenization.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightread.artifacts import write_atomic
from sightread.compare import Comparison
from sightread.errors import ConfigError
from sightread.experiments import Outcome
from sightread.experiments.arms import TEXT_ONLY, Arm
from sightread.experiments.jobs import Job, run_jobs
from sightread.experiments.needs import check_arms
from sightread.experiments.one_world import COLUMNS, ORACLE, WorldSettings, prepare, train_and_score, trained

DEMO = (
    TEXT_ONLY,
    Arm(name="random vokens", vokens="random"),
    Arm(name="voken classification"),
    Arm(name="voken regression", settings={"objective": "regression"}),
    Arm(name="oracle", method=ORACLE, start=TEXT_ONLY.name),
)
HEADLINE = COLUMNS[0]
TITLE = "Does seeing help? The controlled world"
EXPLANATION = (
    "Made-up nouns have looks that no text states; pictures show them. Each encoder is fine-tuned to tell the look of "
    "some nouns from text, then asked about others. The oracle reads the look in the sentence. Agreement and word "
    "order need no vision: a linear head on the frozen encoder shows what grounding costs."
)
_TABLE_SHOWS = "Accuracy on held-out nouns (looks), and on tasks that need no vision; mean and 95 % interval over seeds"
_SAID_OF_STRIPS = (
    "the {noun} is in the garden .",
    "anna has a {noun} .",
    "the red box is large .",
    "a small round cup is in the kitchen .",
)


@dataclass(frozen=True, kw_only=True)
class WorldExperiment(WorldSettings):
    """A comparison on worlds; see `WorldSettings`."""

    arms: tuple[Arm, ...] = DEMO

    def check(self, data: Path | None) -> None:
        """See `Experiment`; raises `ConfigError` for data, which it makes itself, and as `check_arms`."""
        if data:
            raise ConfigError(f"this recipe makes its own data and reads nothing of {data}; run it without --data")
        check_arms([trained(arm) for arm in self.arms], {*self.encoders, TEXT_ONLY.name}, self.pretraining)

    def run(
        self, out: Path, *, data: Path | None = None, workers: int = 2, say: Callable[[str], None] = print
    ) -> Outcome:
        """See `Experiment`; takes no data, and writes `table.md`, `results.json` and `strip.png`."""
        self.check(data)
        started, seconds, found = time.monotonic(), 0.0, dict[tuple[str, int], dict[str, Any]]()
        for job, (took, result) in run_jobs(self._jobs(out), workers):
            say(f"[{time.monotonic() - started:4.0f} s] {job.name:<50} {took:5.1f} s")
            seconds += took
            found |= result
        comparison = _comparison(self, found)
        write_atomic(out / "results.json", comparison.to_json())
        write_atomic(out / "table.md", comparison.markdown())
        sentences, seen = _draw_strip(self, out)
        return Outcome(
            f"{_TABLE_SHOWS}\n\n{comparison.table()}", verdict(comparison), TITLE, EXPLANATION, sentences, seen,
            seconds=seconds,
        )  # fmt: skip

    def _jobs(self, out: Path) -> list[Job]:
        """Each seed is prepared, and its arms trained as soon as what they rest on is there."""
        jobs = list[Job]()
        for seed in self.seeds:
            prepared, where = f"seed {seed}: world, text-only encoder, vokens", (self, seed, out / f"seed-{seed}")
            jobs.append(Job(prepared, prepare, where))
            jobs += [
                Job(f"seed {seed}: {arm.name}", train_and_score, (*where, arm),
                    f"seed {seed}: {arm.after}" if arm.after else prepared)
                for arm in self.arms
            ]  # fmt: skip
        return jobs


def _comparison(experiment: WorldExperiment, found: dict[tuple[str, int], dict[str, Any]]) -> Comparison:
    names = [arm.name for arm in experiment.arms]
    runs = {name: [found[name, seed] for seed in experiment.seeds] for name in names}
    columns = experiment.columns
    scores = {name: {c.name: [run["scores"][c.name] for run in runs[name]] for c in columns} for name in names}
    diverged = {
        name: [f"{task} of seed {seed}" for seed, run in zip(experiment.seeds, runs[name], strict=True)
               for task in run["diverged"]]
        for name in names
    }  # fmt: skip
    controls = {arm.name: arm.control for arm in experiment.arms if arm.control}
    seconds = {name: [run["seconds"] for run in runs[name]] for name in names}
    return Comparison(columns, experiment.seeds, scores, controls, diverged, seconds)


def verdict(comparison: Comparison) -> str:
    """What the headline says, in words, whatever it is."""
    control, *arms = comparison.scores
    mean = {arm: f"{comparison.summary(arm, HEADLINE.name).mean:.2f}" for arm in comparison.scores}
    named = {arm: f"{arm} {mean[arm]}" + _over(comparison, arm) for arm in arms}
    above = [named[arm] for arm in arms if comparison.apart(arm, HEADLINE.name)]
    rest = [named[arm] for arm in arms if not comparison.apart(arm, HEADLINE.name)]
    return (
        f"Asked for the colour of nouns that carried no label, {control} scores {mean[control]} (chance is "
        f"{HEADLINE.chance:.2f}). Clearly above: {', '.join(above) or 'none'}. NOT clearly above: "
        f"{', '.join(rest) or 'none'}."
    )


def _over(comparison: Comparison, arm: str) -> str:
    control = comparison.control_of(arm)
    return "" if control == comparison.control else f" (over {control})"


def _draw_strip(experiment: WorldExperiment, out: Path) -> tuple[list[str], str]:
    """Draw the first of some sentences about two held-out nouns; returns all, and what their pictures alone tell."""
    from sightread.analysis.strips import draw_strip, voken_strip
    from sightread.vokenizer import Vokenizer

    folder = out / f"seed-{experiment.seeds[0]}"
    nouns = [line.split("\t") for line in (folder / "world" / "nouns.tsv").read_text().splitlines()[1:]]
    known = [noun for noun in nouns if noun[-1] == experiment.split][:2]
    sentences = [s.format(noun=noun[0]) for s, noun in zip(_SAID_OF_STRIPS, [*known, *known], strict=True)]
    draw_strip(voken_strip(Vokenizer.from_pretrained(folder / "vokenizer"), sentences[0])).save(out / "strip.png")
    return sentences, " ".join(f"A {noun[0]} is {', '.join(noun[1:-1])}: no text says so." for noun in known)
