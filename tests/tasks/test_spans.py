"""SQuAD: an answer survives tokens, windows and Unicode; the best span is the best of all."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightread.contracts import Row
from sightread.errors import DataError
from sightread.metrics import METRICS
from sightread.runtime import data_root
from sightread.tasks.spans import LONGEST_ANSWER, Question, Spans, best_span

CONTEXT = "Anna has a red box . The box is in the garden . Ben sees a small round cup in the kitchen ."


def squad(questions, version="1.1"):
    return json.dumps(
        {"version": version, "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}
    )


def question(text, answer, **more):
    given = [] if answer is None else [{"text": answer, "answer_start": CONTEXT.index(answer)}]
    return {"id": text, "question": text, "answers": given, **more}


@pytest.fixture
def task(tmp_path):
    asked = [question("what has anna ?", "a red box"), question("where is the box ?", "the garden")]
    (tmp_path / "train-v1.1.json").write_text(squad(asked))
    return Spans("squad", tmp_path)


@pytest.fixture
def task2(tmp_path):
    asked = [question("what has anna ?", "a red box"), question("who sings ?", None, is_impossible=True)]
    (tmp_path / "dev-v2.0-part.json").write_text(squad(asked, "2.0"))
    return Spans("squad2", tmp_path)


def test_official_files(task, task2):
    rows = task.load("train")
    assert [row.gold for row in rows] == [["a red box"], ["the garden"]]
    begin, end = rows[1].inputs.answer
    assert CONTEXT[begin:end] == "the garden"
    assert [row.gold for row in task2.load("dev")] == [["a red box"], []]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (squad([{"id": "7", "question": "x", "answers": [{"text": "cat", "answer_start": 3}]}]),
         "question 7: the answer 'cat' does not stand at character 3"),
        (squad([question("who ?", None)]), "question who .* has no answer; .* use squad2"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "is empty|is not of SQuAD's format"),
        ('{"data": [{"paragraphs": [{"qas": [{"id": 1}]}]}]}', "is not of SQuAD's format: KeyError"),
        ("{", r"train-v1\.1\.json:1 is no JSON"),
    ],
)  # fmt: skip
def test_faults_are_named(content, message, task, tmp_path):
    (tmp_path / "train-v1.1.json").write_text(content)
    with pytest.raises(DataError, match=message):
        task.load("train")


def perfect(examples):
    """Scores that point at the labelled tokens, or at the first where the answer is not in the window."""
    outputs = []
    for labels, ids in zip(examples.labels, examples.input_ids, strict=True):
        scores = np.zeros((len(ids), 2))
        scores[labels[0], 0] = scores[labels[1], 1] = 9 if labels[0] else 4
        outputs.append(scores)
    return outputs


@pytest.mark.parametrize("max_length", [16, 24, 64])
def test_the_answer_survives_windows(max_length, task, tokenizer):
    rows = task.load("train")
    examples = task.encode(rows, tokenizer, max_length)
    assert (len(examples) > 2) == (max_length < 64)
    assert task.predict(perfect(examples), rows, examples) == ["a red box", "the garden"]


def check_survival(tokenizer, task, context, begin, end, max_length):
    """The characters that the labelled tokens cover hold the answer, and no token more than that takes."""
    rows = [Row(Question("what is it ?", context, (begin, end)), [context[begin:end]])]
    examples = task.encode(rows, tokenizer, max_length)
    whole = [(spans, labels) for spans, labels in zip(examples.spans, examples.labels, strict=True) if labels.any()]
    covered = [(spans[first, 0], spans[last, 1]) for spans, (first, last) in whole]
    for spans, (first, last) in whole:
        assert spans[first, 0] <= begin
        assert spans[last, 1] >= end
        assert spans[first, 1] > begin
        assert spans[last, 0] < end
    return covered


WORDS = st.lists(
    st.sampled_from(["red", "box", "naïve", "東京", "e\u0301t", "«x»", "10,5", "🙂", "don't", "."]),
    min_size=3,
    max_size=30,
)


@given(WORDS, st.data())
def test_labels_cover_the_answer_in_unicode(tokenizer, words, data):
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 2, len(words) - 1)))
    begin = len(" ".join(words[:first])) + (first > 0)
    end = begin + len(" ".join(words[first : last + 1]))
    task = Spans("squad", "nowhere")
    check_survival(tokenizer, task, context, begin, end, data.draw(st.sampled_from([24, 48, 512])))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["tok-bert-base-uncased", "tok-roberta-base", "tok-albert-base-v2"])
@pytest.mark.parametrize("max_length", [64, 384])
def test_answers_of_the_dev_set_survive(name, max_length):
    """With real tokenizers, nearly every answer is found again from perfect scores; the rest ends within a token."""
    from sightread.encoders.text import load_tokenizer

    task = Spans("squad", data_root() / "data" / "squad")
    rows = task.load("dev")[:300]
    examples = task.encode(rows, load_tokenizer(data_root() / "models" / name), max_length)
    said = task.predict(perfect(examples), rows, examples)
    assert METRICS["span"].scores(said, [row.gold for row in rows])["exact_match"] > 0.97


@given(st.integers(1, 12), st.integers(0, 5), st.integers(0, 10_000))
def test_best_span_equals_brute_force(length, before, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-3, 4, size=(before + length + 1, 2)).astype(float)  # small integers, so that there are ties
    spans = np.full((len(scores), 2), -1)
    spans[before : before + length] = np.arange(2 * length).reshape(-1, 2)
    allowed = [
        (i, j) for i in range(before, before + length) for j in range(i, min(i + LONGEST_ANSWER, before + length))
    ]
    best = max(scores[i, 0] + scores[j, 1] for i, j in allowed)
    score, first, last = best_span(scores, spans)
    assert (score, (first, last) in allowed) == (best, True)
    assert scores[first, 0] + scores[last, 1] == best


def test_no_answer_is_the_least_of_the_windows_and_wins_where_it_is_ahead(task2, tokenizer):
    rows = task2.load("dev")
    examples = task2.encode(rows, tokenizer, 16)
    outputs = perfect(examples)  # windows without the answer score 4 + 4 for none; a span scores 9 + 9, or 0
    said = task2.predict(outputs, rows, examples)
    assert METRICS["span_or_none"].scores(said, [row.gold for row in rows])["exact_match"] == 1
    assert said[0]["span"] == "a red box"
    none_of_first = min(s[0].sum() for s, row in zip(outputs, examples.row_of, strict=True) if row == 0)
    assert said[0]["no_answer"] == none_of_first - 18
    assert said[1]["no_answer"] == 8
    assert said[1]["span"]  # what it would have said


def test_the_loss_is_the_mean_of_two_cross_entropies(task):
    outputs, labels = torch.randn(3, 7, 2), torch.tensor([[1, 2], [0, 0], [4, 6]])
    logs = outputs.numpy() - np.log(np.exp(outputs.numpy()).sum(axis=1, keepdims=True))
    by_hand = -np.mean([logs[i, labels[i, end], end] for i in range(3) for end in (0, 1)])
    assert float(task.loss(outputs, labels)) == pytest.approx(by_hand, rel=1e-5)
