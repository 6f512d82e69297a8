"""Extractive question answering: where in the paragraph is the answer? SQuAD v1.1 and v2.0 in their official JSON.

A paragraph that is too long is read in windows that overlap by `STRIDE` tokens; in each, the head gives every token a
score for being the first and the last of the answer, and the best span over all windows wins (Devlin et al. 2019,
sections 4.2 and 4.3). "No answer" is the span of the first token, and its score is the least over the windows. In
v2.0 it is said where it beats the best span by more than a threshold; that is 0, and the scores with the best one in
hindsight are reported beside it, as by the official script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.contracts import IGNORED, Row
from sightread.data.encoded import Encoded, padding_id
from sightread.data.tables import Layout, Rows, TableTask, read_json
from sightread.errors import ConfigError, DataError

STRIDE = 128
LONGEST_QUESTION = 64
LONGEST_ANSWER = 30


def _questions(path: Path) -> Rows:
    content = read_json(path)
    try:
        return [
            (f"{path} question {question['id']}", {
                "question": question["question"], "context": paragraph["context"],
                "answers": [] if question.get("is_impossible") else question["answers"],
            })
            for article in content["data"] for paragraph in article["paragraphs"] for question in paragraph["qas"]
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not of SQuAD's format: {error!r}") from error


@dataclass(frozen=True, kw_only=True)
class Paragraphs(Layout):
    """The layout of a question-answering data set.

    Attributes:
        metric: Its scores, a key of `METRICS`.
    """

    metric: str


def _squad(version: str, metric: str) -> Paragraphs:
    files = {split: (f"{split}-v{version}.json", f"{split}-v{version}*.json") for split in ("train", "dev")}
    return Paragraphs(columns=("question", "context"), label="answers", files=files, reader=_questions, metric=metric)


DATASETS = {"squad": _squad("1.1", "span"), "squad2": _squad("2.0", "span_or_none")}


@dataclass(frozen=True)
class Question:
    """A question and the paragraph that may answer it.

    Attributes:
        question: The question.
        context: The paragraph.
        answer: Characters of the first given answer, (begin, end); None if there is none.
    """

    question: str
    context: str
    answer: tuple[int, int] | None


class Windows(Encoded):
    """Windows of paragraphs, each after the question, which is cut at `LONGEST_QUESTION` tokens or half of the room.

    Attributes:
        spans: For each window the characters of every token, int64 (L, 2), -1 outside the paragraph.
    """

    def __init__(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> None:
        longest = min(LONGEST_QUESTION, max_length // 2)
        room = max_length - longest - tokenizer.num_special_tokens_to_add(pair=True)
        if room < 2:
            raise ConfigError(f"max_length={max_length} leaves no room for a paragraph; 384 is usual")
        questions = [row.inputs.question.strip() for row in rows]
        tokens = tokenizer(
            questions, add_special_tokens=False, truncation=True, max_length=longest, return_offsets_mapping=True
        )
        ends = [offsets[-1][1] if offsets else 0 for offsets in tokens["offset_mapping"]]
        encoding = tokenizer(
            [question[:end] for question, end in zip(questions, ends, strict=True)],
            [row.inputs.context for row in rows],
            truncation="only_second", max_length=max_length, stride=min(STRIDE, room // 2),
            return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
        )  # fmt: skip
        row_of = encoding["overflow_to_sample_mapping"]
        self.spans = [self._spans(encoding, window) for window in range(len(row_of))]
        labels = [answer_tokens(spans, rows[row].inputs.answer) for spans, row in zip(self.spans, row_of, strict=True)]
        super().__init__(encoding, labels, padding_id(tokenizer), row_of=row_of)

    @staticmethod
    def _spans(encoding: Any, window: int) -> np.ndarray:
        inside = np.array([part == 1 for part in encoding.sequence_ids(window)])
        return np.where(inside[:, None], np.array(encoding["offset_mapping"][window]), -1)


def answer_tokens(spans: np.ndarray, answer: tuple[int, int] | None) -> np.ndarray:
    """First and last token of an answer in a window, int64 (2,); (0, 0) if it is not all there.

    Args:
        spans: Characters of every token, int64 (L, 2), -1 outside the paragraph.
        answer: Characters of the answer.
    """
    if answer is None:
        return np.zeros(2, np.int64)
    touched = np.flatnonzero((spans[:, 0] < answer[1]) & (spans[:, 1] > answer[0]) & (spans[:, 0] >= 0))
    whole = len(touched) and spans[touched[0], 0] <= answer[0] and spans[touched[-1], 1] >= answer[1]
    return np.array([touched[0], touched[-1]] if whole else [0, 0], np.int64)


class Spans(TableTask[Paragraphs]):
    """An extractive question-answering task; see `contracts.Task` and `TableTask`."""

    layouts, reads = DATASETS, "tokens"

    @property
    def metric(self) -> str:
        """Its scores, a key of `METRICS`."""
        return self.layout.metric

    def head(self, width: int) -> nn.Module:
        """A score for the first and the last token, (B, L, D) -> (B, L, 2)."""
        return nn.Linear(width, 2)

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Windows:
        """Rows as windows."""
        return Windows(rows, tokenizer, max_length)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean of the cross-entropies of the first and the last token; outputs (B, L, 2), labels int64 (B, 2)."""
        scores = outputs.float().transpose(1, 2)  # (B, 2, L)
        return functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Windows) -> list[Any]:
        """The answer to each question; for SQuAD 2.0 the best `span` and `no_answer`, how far "none" is ahead of it.

        Args:
            outputs: Scores (L, 2) of each window.
            rows: The questions.
            examples: The windows.
        """
        best: list[tuple[float, str]] = [(-np.inf, "")] * len(rows)
        none = np.full(len(rows), np.inf)
        for scores, spans, row in zip(outputs, examples.spans, examples.row_of, strict=True):
            none[row] = min(none[row], float(scores[0].sum()))
            score, first, last = best_span(scores, spans)
            if score > best[row][0]:
                best[row] = score, rows[row].inputs.context[spans[first, 0] : spans[last, 1]].strip()
        if self.metric == "span":
            return [text for _, text in best]
        return [
            {"span": text, "no_answer": float(lead - score)} for lead, (score, text) in zip(none, best, strict=True)
        ]

    def row(self, record: Mapping[str, Any], where: str) -> Row:
        """The question, and all accepted answers (none: [])."""
        context, answers = record["context"], record["answers"]
        if isinstance(answers, dict):  # as the Hub has them
            answers = [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]
        for answer in answers:
            begin, text = answer["answer_start"], answer["text"]
            if context[begin : begin + len(text)] != text:
                raise DataError(f"{where}: the answer {text!r} does not stand at character {begin} of its paragraph")
        if not answers and self.metric == "span":
            raise DataError(f"{where} has no answer; questions without one are of SQuAD v2.0: use squad2")
        first = answers[0] if answers else None
        span = (first["answer_start"], first["answer_start"] + len(first["text"])) if first else None
        texts = list(dict.fromkeys(answer["text"] for answer in answers))
        return Row(Question(record["question"], context, span), texts)


def best_span(scores: np.ndarray, spans: np.ndarray) -> tuple[float, int, int]:
    """The span of highest score in a window: its score, first and last token; -inf if the window holds no paragraph.

    Args:
        scores: Scores for being first and last, float (L, 2).
        spans: Characters of every token, int64 (L, 2), -1 outside the paragraph.
    """
    inside = np.flatnonzero(spans[:, 0] >= 0)
    if not len(inside):
        return -np.inf, 0, 0
    low, high = inside[0], inside[-1] + 1
    total = scores[low:high, 0][:, None] + scores[low:high, 1][None, :]  # (L, L), first by last
    length = np.arange(high - low)[None, :] - np.arange(high - low)[:, None]
    total = np.where((length >= 0) & (length < LONGEST_ANSWER), total, -np.inf)
    first, last = np.unravel_index(total.argmax(), total.shape)
    return float(total[first, last]), int(first + low), int(last + low)
