"""Questions about the looks of things, from the official files. A data set is a row of `QUESTION_SETS`.

    data set                      question                            choices  answer
    memory_colors                 the usual colour of a thing         11       one colour
    coda                          the colours of things               11       how people spread them
    vicomte_color/shape/material  the same, counted in pictures       12/12/18 counts, and the most frequent one
    vicomte_cooccur               which of two is seen with a thing   2        one
    vicomte_size_larger/smaller   which of two is smaller/larger      2        one
    relative_size                 which of two is larger              2        one
    shape_association(_adj)       the basic shape of a thing          3        one shape (noun, or adjective)

Memory Colors: Norlund et al. 2021; CoDa: Paik et al. 2021; ViComTe: Zhang et al. 2022; RelativeSize: Bagherinezhad et
al. 2016; shape association: Alper et al. 2023. Where there are splits the test split is asked, else everything: nothing
is trained.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightread.data.tables import read_json, text_lines
from sightread.errors import DataError
from sightread.probes.files import find, number_of, records, texts_of

COLORS = ("black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")  # of CoDa

MEMORY_COLOR_PROMPTS = (  # those of the authors that hold no separator, in American spelling
    "Q: What is the color of [X]? A: It is [Y].",
    "What is the color of [X]? [Y].",
    "The color of [X] is [Y].",
    "The usual color of [X] is [Y].",
    "[X] usually has the color of [Y].",
    "What is the usual color of [X]? [Y].",
    "What is the typical color of [X]? [Y].",
)
CODA_PLURAL_PROMPTS = (
    "Most [X] [Y].",
    "Everyone knows that most [X] [Y].",
    "Everyone knows that [X] [Y].",
    "Commonly [X] [Y].",
    "All [X] [Y].",
    "It is known that [X] [Y].",
    "It's known that [X] [Y].",
    "It is known that most [X] [Y].",
    "It's known that most [X] [Y].",
)
CODA_SINGULAR_PROMPTS = ("This [X] [Y].",)
SIZE_PROMPTS = ("The [X] is [Y] than the [Z].", "The size of the [X] is [Y] than that of the [Z].")


class Cloze(NamedTuple):
    """A prompt with one slot `[Y]`, and what each choice puts there."""

    prompt: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A thing, what may be said of it, and what is right.

    Attributes:
        subject: The thing.
        choices: The answers to choose from.
        clozes: Ways of asking; a choice's score is its mean over them.
        answer: Number of the right choice.
        distribution: How much each choice holds, where that is known.
    """

    subject: str
    choices: tuple[str, ...]
    clozes: tuple[Cloze, ...]
    answer: int
    distribution: tuple[float, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    """A data set.

    Attributes:
        questions: The questions.
        priors: What one would answer without looking at the subject, by name: a weight for each choice. From the train
            split where there is one, else from the questions themselves, which flatters the prior.
        sayable: Whether a choice can be said before the subject ("red banana"), as Stroop probing needs.
    """

    questions: Sequence[Question]
    priors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sayable: bool = True


def memory_colors(data: Path) -> QuestionSet:
    """109 things with one typical colour."""
    rows = records(data, "probes/memory_colors.jsonl")
    things = [texts_of(where, row, "item", "label") for where, row in rows]
    colors = tuple(sorted({color for _, color in things}))
    questions = []
    for (_, row), (item, color) in zip(rows, things, strict=True):
        phrase = f"{row.get('descriptor') or ''} {item}".strip()
        questions.append(Question(item, colors, _clozes(MEMORY_COLOR_PROMPTS, phrase, colors), colors.index(color)))
    return QuestionSet(questions, _majority(color for _, color in things))


def coda(data: Path) -> QuestionSet:
    """Things with the colours that annotators gave them, averaged over those annotations that passed the filter."""
    shares = _coda_shares(data)
    questions = []
    for where, row in records(data, "probes/coda/objects.jsonl"):
        (class_id,) = texts_of(where, row, "class_id")
        if class_id not in shares:
            raise DataError(f"{where}: {class_id} has no annotation that is included")
        forms = _coda_forms(where, row)
        clozes = tuple(Cloze(prompt, COLORS) for _, prompts in forms for prompt in prompts)
        questions.append(_distributed(forms[0][0], COLORS, shares[class_id], clozes))
    return QuestionSet(questions, _majority(q.choices[q.answer] for q in questions) | _mean_distribution(questions))


def vicomte_values(data: Path, relation: str) -> QuestionSet:
    """Things with the counts of an attribute's values in the annotations of pictures.

    Counts come in the alphabetical order of the values, which are those words of the list that are no synonyms.
    """
    words = find(data, f"probes/vicomte/words/{relation}-words.txt")
    values = tuple(sorted(line.strip() for _, line in text_lines(words) if line.strip() and ":" not in line))
    [(place, counts)] = records(data, f"probes/vicomte/distributions/{relation}-dist.jsonl")[:1]
    prompts = _vicomte_prompts(data, relation)

    def question(where: str, row: Mapping[str, Any]) -> Question:
        subject, value = texts_of(where, row, "sub", "obj")
        if value not in values:
            raise DataError(f"{where} has the value {value!r}, which is not in {words}")
        if not isinstance(found := counts.get(subject), list) or len(found) != len(values):
            raise DataError(f"{place} has {found} for {subject!r}, expected {len(values)} counts, one a value")
        shares = _shares(f"{place} {subject!r}", found)
        asked = _distributed(subject, values, shares, _clozes(prompts, subject, values))
        return replace(asked, answer=values.index(value))

    train, test = ([question(*row) for row in _vicomte_split(data, relation, split)] for split in ("train", "test"))
    return QuestionSet(test, _majority(q.choices[q.answer] for q in train) | _mean_distribution(train))


def vicomte_pairs(data: Path, relation: str) -> QuestionSet:
    """Which of two things stands in a relation to a third.

    The wrong choices are of another kind than the right ones: whoever knows what is right in train, and nothing of the
    subject, is right in 98 (co-occurrence) to 100 % (size) of these. Read the majority beside the score.
    """
    prompts = _vicomte_prompts(data, relation)
    questions = []
    for where, row in _vicomte_split(data, relation, "test"):
        subject, *choices = texts_of(where, row, "sub", "obj", "alt")
        questions.append(Question(subject, tuple(choices), _clozes(prompts, subject, tuple(choices)), 0))
    train = [texts_of(where, row, "obj")[0] for where, row in _vicomte_split(data, relation, "train")]
    return QuestionSet(questions, _majority(train), sayable=False)


def relative_size(data: Path) -> QuestionSet:
    """Pairs of things, the larger one first in the file.

    Each prompt is asked both ways round ("the ant is [Y] than the bee", "the bee is [Y] than the ant"), with larger and
    smaller changing sides, so that a liking for either word cancels out exactly.
    """
    path, questions = find(data, "probes/relative_size_pairs.txt"), []
    for where, line in text_lines(path):
        if not line.strip():
            continue
        pair = tuple(line.split())
        if len(pair) != 2:
            raise DataError(f"{where} has {len(pair)} words, expected two: the larger thing and the smaller one")
        clozes = []
        for prompt in SIZE_PROMPTS:
            for (one, other), words in ((pair, ("larger", "smaller")), (pair[::-1], ("smaller", "larger"))):
                clozes.append(Cloze(prompt.replace("[X]", one).replace("[Z]", other), words))
        questions.append(Question(pair[0], pair, tuple(clozes), 0))
    if not questions:
        raise DataError(f"{path} is empty")
    return QuestionSet(questions, sayable=False)


def shape_association(data: Path, name: str, prompts: str) -> QuestionSet:
    """Things with one basic shape, with the authors' prompts, in which MASK and WORD stand for shape and thing."""
    templates, questions = _shape_prompts(find(data, f"probes/isbertblind/{prompts}.json")), []
    for where, row in records(data, f"probes/isbertblind/{name}.csv"):
        word, shape, options = texts_of(where, row, "word", "gt", "options")
        shapes = tuple(option.strip(" '\"") for option in options.strip("[] ").split(","))
        if shape not in shapes:
            raise DataError(f"{where} has the answer {shape!r}, which is none of its options {options}")
        questions.append(Question(word, shapes, _clozes(templates, word, shapes), shapes.index(shape)))
    return QuestionSet(questions, _majority(q.choices[q.answer] for q in questions))


QUESTION_SETS: dict[str, Callable[[Path], QuestionSet]] = {
    "memory_colors": memory_colors,
    "coda": coda,
    **{f"vicomte_{r}": partial(vicomte_values, relation=r) for r in ("color", "shape", "material")},
    **{f"vicomte_{r}": partial(vicomte_pairs, relation=r) for r in ("cooccur", "size_larger", "size_smaller")},
    "relative_size": relative_size,
    "shape_association": partial(shape_association, name="shape_association", prompts="shapes"),
    "shape_association_adj": partial(shape_association, name="shape_association_adj", prompts="shapes_adj"),
}


def _clozes(prompts: Sequence[str], subject: str, words: tuple[str, ...]) -> tuple[Cloze, ...]:
    return tuple(Cloze(prompt.replace("[X]", subject), words) for prompt in prompts)


def _shares(where: str, weights: Sequence[Any]) -> np.ndarray:
    found = np.array([number_of(where, weight) for weight in weights])
    if found.sum() <= 0:
        raise DataError(f"{where} has weights that sum to {found.sum():g}, expected more than 0")
    return found / found.sum()


def _distributed(subject: str, values: tuple[str, ...], shares: np.ndarray, clozes: tuple[Cloze, ...]) -> Question:
    return Question(subject, values, clozes, int(shares.argmax()), tuple(shares.tolist()))


def _majority(answers: Any) -> dict[str, Mapping[str, float]]:
    return {"majority": Counter(answers)}


def _mean_distribution(questions: Sequence[Question]) -> dict[str, Mapping[str, float]]:
    mean = np.mean([question.distribution for question in questions], axis=0)
    return {"mean distribution": dict(zip(questions[0].choices, mean.tolist(), strict=True))}


def _coda_shares(data: Path) -> dict[str, np.ndarray]:
    """Mean over annotators of how each spread a thing's colours, by class."""
    found = defaultdict[str, list[np.ndarray]](list)
    for where, row in records(data, "probes/coda/annotations.jsonl"):
        if row.get("included"):
            found[texts_of(where, row, "class_id")[0]].append(_shares(where, [row.get(color) for color in COLORS]))
    return {class_id: np.mean(shares, axis=0) for class_id, shares in found.items()}


def _coda_forms(where: str, row: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """A thing's plural and singular, as far as it has them, each with its prompts."""
    forms = []
    for name, be, prompts in (
        ("object_pl", "areis_pl", CODA_PLURAL_PROMPTS),
        ("object_s", "areis_s", CODA_SINGULAR_PROMPTS),
    ):
        if row.get(name):
            thing, is_or_are = texts_of(where, row, name, be)
            forms.append((thing, [prompt.replace("[X]", f"{thing} {is_or_are}") for prompt in prompts]))
    if not forms:
        raise DataError(f"{where} has neither object_pl nor object_s")
    return forms


def _vicomte_split(data: Path, relation: str, split: str) -> list[tuple[str, Mapping[str, Any]]]:
    return records(data, f"probes/vicomte/db/{relation}/{split}.jsonl")


def _vicomte_prompts(data: Path, relation: str) -> list[str]:
    rows = records(data, f"probes/vicomte/prompts/{relation}.jsonl")
    return [texts_of(where, row, "template")[0] for where, row in rows]


def _shape_prompts(path: Path) -> list[str]:
    config = read_json(path)
    if not isinstance(config, dict) or not config.get("prompts"):
        raise DataError(f"{path} has no prompts; expected an object with a list of them")
    return [str(prompt).replace("MASK", "[Y]").replace("WORD", "[X]") for prompt in config["prompts"]]
