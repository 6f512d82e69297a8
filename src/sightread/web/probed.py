"""Two encoders' answers to the same questions of a probe, side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import rankdata

from sightread.artifacts import MANIFEST, Artifact
from sightread.errors import ArtifactError, ConfigError, DataError
from sightread.probes.run import ANSWERS, KIND

PAGE = 50  # rows at a time
KINDS = ("all", "first", "second", "equal")


@dataclass(frozen=True)
class Score:
    """One score of an encoder: its value and interval, and each answer with its `value`, the higher the better."""

    value: float
    low: float | None
    high: float | None
    answers: Sequence[Mapping[str, Any]]


Answers = dict[str, dict[str, Score]]
"""By encoder, and by probe and score."""


def read_answers(folders: Sequence[str]) -> Answers:
    """What `sightread probe` wrote: folders of it, of one encoder or of one probe.

    Args:
        folders: As folder, or as label=folder, which names the encoder.

    Raises:
        ConfigError: If a folder holds no probe, or two answer the same questions under one label.
        ArtifactError: If one is damaged.
    """
    answers: Answers = {}
    for given in folders:
        label, _, folder = given.rpartition("=") if not Path(given).is_dir() else ("", "", given)
        found = [path for depth in ("", "*/", "*/*/") for path in sorted(Path(folder).glob(depth + MANIFEST))]
        if not found:
            raise ConfigError(f"there is no finished probe in {folder}; give what `sightread probe` wrote")
        for path in found:
            for encoder, name, score in _scores(path.parent):
                scores = answers.setdefault(label or encoder, {})
                if name in scores:
                    raise ConfigError(f"two answers of {label or encoder!r} to {name}; name them: label=folder")
                scores[name] = score
    return answers


def compared(answers: Answers, first: str, second: str, name: str, kind: str, begin: int) -> dict[str, Any]:
    """Answers of two encoders to the same questions, where they differ most first.

    Args:
        answers: Of all encoders.
        first: An encoder.
        second: Another.
        name: Probe and score.
        kind: Of `KINDS`: which rows; those where the first, the second, or none of the two does better.
        begin: Rows to leave out, as they are known.

    Returns:
        `scores` of both, how many rows there are of each kind, `counts`, and at most `PAGE` `rows`.

    Raises:
        DataError: If one of them has no such answers.
    """
    scores = [answers.get(encoder, {}).get(name) for encoder in (first, second)]
    if None in scores:
        raise DataError(f"{first!r:.80} and {second!r:.80} have not both answered {name!r:.80}")
    mine, theirs = (_by_question(score.answers) for score in scores if score)
    rows = [_row(mine[question], theirs[question]) for question in mine if question in theirs]
    rows.sort(key=lambda row: -abs(row["gain"]))
    counts = Counter(row["better"] for row in rows)
    shown = [row for row in rows if kind in {"all", row["better"]}]
    return {
        "scores": [{"value": score.value, "low": score.low, "high": score.high} for score in scores if score],
        "counts": {"all": len(rows), **{kind: counts[kind] for kind in KINDS[1:]}},
        "rows": shown[begin : begin + PAGE],
    }


def _scores(folder: Path) -> list[tuple[str, str, Score]]:
    artifact, found = Artifact.open(folder, KIND), dict[str, list[dict[str, Any]]]()
    try:
        for line in (folder / ANSWERS).read_text(encoding="utf-8").splitlines():
            answer = json.loads(line)
            found.setdefault(answer["score"], []).append(answer)
        results = [result for result in artifact.report["results"] if result["score"] in found]
        return [
            (
                result["encoder"], f"{result['probe']}, {result['score']}",
                Score(result["value"], result["low"], result["high"], _valued(found[result["score"]])),
            )
            for result in results
            if result["value"] is not None
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"the answers in {folder} are damaged ({error}); probe again with --overwrite") from error


def _valued(answers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Answers that are numbers beside other numbers get a value, too: how near their ranks are, 1 at best."""
    if all("value" in answer for answer in answers):
        return [dict(answer) for answer in answers]
    said, right = (rankdata([answer[side] for answer in answers]) for side in ("prediction", "gold"))
    near = 1 - abs(said - right) / len(answers)
    return [{**answer, "value": value} for answer, value in zip(answers, near.tolist(), strict=True)]


def _by_question(answers: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """Answers by what was asked, and the how manieth time."""
    seen, found = Counter[tuple[Any, ...]](), {}
    for answer in answers:
        question = tuple(answer.get(part) for part in ("item", "against", "gold"))
        found[*question, seen[question]] = answer
        seen[question] += 1
    return found


def _row(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    gain = mine["value"] - theirs["value"]
    said = [answer.get("prediction", answer.get("answer")) for answer in (mine, theirs)]
    return {
        "item": mine["item"], "against": mine.get("against"), "gold": mine.get("gold"), "said": said,
        "values": [mine["value"], theirs["value"]], "gain": gain,
        "better": "first" if gain > 0 else "second" if gain < 0 else "equal",
    }  # fmt: skip
