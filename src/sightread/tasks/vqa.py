"""Visual question answering, VQA 2.0 (Goyal et al. 2017), as a choice among frequent answers.

Ten people answer a question. An answer that c of n people gave is worth what the official evaluation gives for it: the
mean, over the n ways to leave one person out, of min(1, how many of the others said so / 3),

    s(c, n) = (c · min(1, (c - 1) / 3) + (n - c) · min(1, c / 3)) / n.

The vocabulary are the answers that are the most frequent one of at least `min_answers` questions of the training split
(Teney et al. 2018). The loss is the binary cross-entropy of each answer's logit and its worth, summed over answers and
averaged over questions. Answers are compared as `normalise` writes them. The official evaluation leaves answers that
all ten gave alike as they are; here they are normalised, too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import Row
from sightread.data.encoded_pictures import EncodedPictures, Pictured, PictureSettings, PictureTask
from sightread.data.tables import Layout, Rows, read_records
from sightread.errors import ConfigError, DataError

_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_CONTRACTED = {
    (word + end).replace("'", ""): word + end
    for end, words in {
        "n't": "ai are ca could did does do had has have is might must need ought sha should was were wo would",
        "'ve": "could might must not should they we what where who would you",
        "'re": "there they what why you", "'am": "ma", "'clock": "o", "'all": "y",
        "'s": "he how somebody someone that there what when where who why",
        "'d": "he how it someone something there they where who you",
        "'ll": "how it somebody someone something they what who why you",
    }.items()
    for word in words.split()
}  # fmt: skip


@lru_cache(maxsize=2**16)
def normalise(answer: str) -> str:
    """An answer as the official evaluation compares it.

    Lower case; no articles; numbers to ten as digits; apostrophes where a contraction lacks one; no full stop but in a
    decimal. Other punctuation is a space, or nothing where a space is beside it or digits are parted by a comma.
    """
    text = " ".join(answer.split())
    joined = re.search(r"\d,\d", text)
    gone: dict[str, Any] = {sign: "" if joined or f"{sign} " in text or f" {sign}" in text else " " for sign in _SIGNS}
    text = re.sub(r"\.(?!\d)", "", text.translate(str.maketrans(gone)))
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTED.get(word, word) for word in words if word not in _ARTICLES)


def worth(count: int, total: int) -> float:
    """What an answer is worth that `count` of `total` people gave; s(c, n) above."""
    return (count * min(1, (count - 1) / 3) + (total - count) * min(1, count / 3)) / total


def read_questions(path: Path) -> Rows:
    """Questions with their answers: the official questions with the annotations beside them, or JSON lines.

    Raises:
        DataError: If questions and annotations do not fit each other, or something is missing.
    """
    if not path.name.removesuffix(".gz").endswith("_questions.json"):
        return read_records(path)
    questions = read_records(path, part="questions")
    beside = path.with_name(path.name.replace("OpenEnded_", "").replace("_questions.json", "_annotations.json"))
    try:
        if not beside.is_file():
            if "_test" not in path.name:  # the answers of the test split alone are kept back
                raise DataError(f"{path.name} has its answers in {beside.name}, which is not beside it")
            return [(f"{path} question {record['question_id']}", record) for _, record in questions]
        answers = {record["question_id"]: record for _, record in read_records(beside, part="annotations")}
        asked = [record["question_id"] for _, record in questions]
        alone = [*(id_ for id_ in asked if id_ not in answers), *(answers.keys() - set(asked))]
        if alone:
            raise DataError(
                f"{path.name} and {beside.name} do not fit: {len(alone)} questions are in one of them alone "
                f"(first: {alone[0]}); take both of one release"
            )
        return [(f"{path} question {id_}", {**record, **_answers(answers[id_])})
                for id_, (_, record) in zip(asked, questions, strict=True)]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} or {beside.name} is not of VQA's format: {error!r}") from error


def _answers(annotation: Mapping[str, Any]) -> dict[str, Any]:
    counts = Counter(answer["answer"] for answer in annotation["answers"])
    return {"answers": counts, "answer": annotation["multiple_choice_answer"], "answer_type": annotation["answer_type"]}


DATASETS = {
    "vqa2": Layout(
        columns=("question", "image_id"), label="answers", reader=read_questions, hub_splits={},
        files={"train": ("v2_OpenEnded_mscoco_train2014_questions.json", "train.jsonl"),
               "dev": ("v2_OpenEnded_mscoco_val2014_questions.json", "valid.jsonl"),
               "test": ("v2_OpenEnded_mscoco_test2015_questions.json", "test.jsonl")},
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AnswerSettings(PictureSettings):
    """What is read of pictures, and which answers can be given.

    Attributes:
        min_answers: Questions of the training split that an answer must be the most frequent one of.
    """

    min_answers: int = 9


class SoftLabels(Sequence[np.ndarray]):
    """What every answer of a vocabulary is worth for each question, float32 (C,), made when it is asked for.

    Args:
        worths: For each question what answers are worth, by their number.
        num_answers: C.
    """

    def __init__(self, worths: Sequence[Mapping[int, float]], num_answers: int) -> None:
        self.worths, self.num_answers = worths, num_answers

    def __len__(self) -> int:
        return len(self.worths)

    def __getitem__(self, row: Any) -> Any:
        label = np.zeros(self.num_answers, np.float32)
        label[list(self.worths[row])] = list(self.worths[row].values())
        return label


class VQA(PictureTask[Layout]):
    """Visual question answering; see `contracts.Task` and `PictureTask`."""

    layouts, reads, metric, defaults = DATASETS, "sequence", "vqa", AnswerSettings()

    @cached_property
    def answers(self) -> list[str]:
        """The vocabulary, the most frequent answer first; whether a question's picture is there is of no matter."""
        counts = Counter(normalise(str(record.get("answer", ""))) for _, record in self.table.load("train"))
        frequent = (a for a in counts if a and counts[a] >= self.settings.min_answers)
        answers = sorted(frequent, key=lambda a: (-counts[a], a))
        if not answers:
            raise ConfigError(f"no answer is given {self.settings.min_answers} times or more; set a lower min_answers")
        return answers

    def head(self, width: int) -> nn.Module:
        """Dropout and a linear layer on one vector a question (B, D) -> logits (B, C)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(self.answers)))

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> EncodedPictures:
        """Rows as examples."""
        number = {answer: i for i, answer in enumerate(self.answers)}
        golds = [row.gold["answers"] if row.gold else {} for row in rows]
        worths = [{number[answer]: worth for answer, worth in gold.items() if answer in number} for gold in golds]
        return self.encode_beside(rows, tokenizer, max_length, SoftLabels(worths, len(number)))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy of logits (B, C) and worths float32 (B, C), summed over answers."""
        return functional.binary_cross_entropy_with_logits(outputs.float(), labels, reduction="sum") / len(labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Any) -> list[str]:
        """The answer of highest logit to each question, of logits (C,)."""
        return [self.answers[int(logits.argmax())] for logits in outputs]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The question, its picture, what each answer is worth, and the type of the answer."""
        try:
            inputs, said = Pictured((str(record["image_id"]),), str(record["question"])), record.get("answers")
            counts = Counter[str]()
            for answer, count in (said or {}).items():
                counts[normalise(answer)] += count
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where} is no question with its answers ({type(error).__name__}: {error})") from error
        if said is None:
            return Row(inputs, None)
        if counts.total() < 1:
            raise DataError(f"{where} has no answers")
        worths = {answer: worth(count, counts.total()) for answer, count in counts.items()}
        return Row(inputs, {"answers": worths, "type": record.get("answer_type")})
