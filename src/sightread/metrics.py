"""What predictions are worth. A way of scoring is a row of `METRICS`.

The scores come from scikit-learn, SciPy, seqeval and sacreBLEU, those of answers from `squad.py`. Every main score but
Spearman's is a function of sums over examples, so that it can be computed for thousands of resamples at once:
`total(parts(predictions, gold).sum(axis=0))` is the main score of all examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightread.errors import DataError
from sightread.squad import SCORES, best_no_answer_threshold, token_f1

Rows = Sequence[Any]
MIN_IOU = 0.5
"""Overlap above which a box is the right one."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A way of scoring.

    Attributes:
        main: The score that is reported and selected by.
        compute: All scores, by name, of at least one row; every row has its gold.
        parts: Predictions and gold of N rows -> float64 (N, P), one row an example; None where the main score is no
            function of sums over examples. Only parts of one call may be added up.
        total: Sums of parts (..., P) -> main scores (...).
        recompute: Where there are no parts: numbers predicted and gold, float64 (..., N) -> main scores (...).
        lower_is_better: True for errors.
    """

    main: str
    compute: Callable[[Rows, Rows], dict[str, float]]
    parts: Callable[[Rows, Rows], np.ndarray] | None = None
    total: Callable[[np.ndarray], np.ndarray] | None = None
    recompute: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    lower_is_better: bool = False

    def scores(self, predictions: Rows, gold: Rows) -> dict[str, float]:
        """All scores over the rows whose gold is not None; empty if there are none.

        Raises:
            DataError: If there are more of one than of the other, within a row too.
        """
        predictions, gold = labelled(predictions, gold)
        return self.compute(predictions, gold) if gold else {}


def labelled(predictions: Rows, gold: Rows) -> tuple[list[Any], list[Any]]:
    """Predictions and gold of the rows whose gold is not None; raises `DataError` if their numbers differ."""
    if len(predictions) != len(gold):
        raise DataError(f"{len(predictions)} predictions for {len(gold)} rows; expected one a row")
    kept = [i for i, answer in enumerate(gold) if answer is not None]
    return [predictions[i] for i in kept], [gold[i] for i in kept]


# Labels


def _classification(predictions: Rows, gold: Rows) -> dict[str, float]:
    from sklearn.metrics import f1_score

    macro_f1 = f1_score(gold, predictions, average="macro", zero_division=0)
    return {**_accuracy(predictions, gold), "macro_f1": float(macro_f1)}


def _accuracy(predictions: Rows, gold: Rows) -> dict[str, float]:
    from sklearn.metrics import accuracy_score

    return {"accuracy": float(accuracy_score(gold, predictions))}


def _paraphrase(predictions: Rows, gold: Rows) -> dict[str, float]:
    """MRPC and QQP: the mean of accuracy and F1 of "1", as GLUE averages them."""
    scores = _accuracy(predictions, gold) | {"f1": _scores_of_one(predictions, gold)["f1"]}
    return {"accuracy_f1": (scores["accuracy"] + scores["f1"]) / 2, **scores}


def _cola(predictions: Rows, gold: Rows) -> dict[str, float]:
    """Matthews' correlation, which is 0 where predictions or gold are constant."""
    from sklearn.metrics import matthews_corrcoef

    return {"matthews": float(matthews_corrcoef(gold, predictions)), **_accuracy(predictions, gold)}


def _target(predictions: Rows, gold: Rows) -> dict[str, float]:
    """Labelled words of all rows pooled, whatever the row they stand in."""
    _check_lengths(predictions, gold)
    pooled = [label for row in predictions for label in row], [label for row in gold for label in row]
    return {**_scores_of_one(*pooled), **_accuracy(*pooled)} if pooled[1] else {}


def _scores_of_one(predictions: Rows, gold: Rows) -> dict[str, float]:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predictions, labels=["1"], average="macro", zero_division=0
    )
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}


def _entities(predictions: Rows, gold: Rows) -> dict[str, float]:
    """Whole entities, as CoNLL's script counts them."""
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    _check_lengths(predictions, gold)
    precision, recall, f1, _ = precision_recall_fscore_support(gold, predictions, average="micro", zero_division=0)
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}


def _check_lengths(predictions: Rows, gold: Rows) -> None:
    for i, (guesses, answers) in enumerate(zip(predictions, gold, strict=True)):
        if len(guesses) != len(answers):
            raise DataError(f"labelled row {i} (from 0): {len(guesses)} labels predicted for {len(answers)} words")


# Numbers


def _numbers(predictions: Rows, gold: Rows) -> dict[str, float]:
    """Correlations and the root of the mean squared error; a correlation with a constant counts as 0."""
    from scipy import stats

    guesses, answers = _finite(predictions), np.asarray(gold, dtype=np.float64)
    pearson = spearman = 0.0
    if np.ptp(guesses) == 0 or np.ptp(answers) == 0:
        warnings.warn("predictions or gold are constant: their correlation, not defined, counts as 0", stacklevel=2)
    else:
        pearson = float(stats.pearsonr(guesses, answers).statistic)
        spearman = float(stats.spearmanr(guesses, answers).statistic)
    return {"pearson": pearson, "spearman": spearman, "rmse": float(np.sqrt(np.mean((guesses - answers) ** 2)))}


def _finite(predictions: Rows | np.ndarray) -> np.ndarray:
    guesses = np.asarray(predictions, dtype=np.float64)
    broken = ~np.isfinite(guesses)
    if broken.any():
        warnings.warn(f"{broken.sum()} predictions are no finite numbers and count as 0", stacklevel=2)
    return np.where(broken, 0.0, guesses)


# Questions


def _span(predictions: Rows, gold: Rows) -> dict[str, float]:
    pairs = list(zip(predictions, gold, strict=True))
    return {score: float(np.mean([of(*pair) for pair in pairs])) for score, of in SCORES.items()}


def _span_or_none(predictions: Rows, gold: Rows) -> dict[str, float]:
    """SQuAD 2.0; beside the scores as they are, those of the best threshold in hindsight, which its script reports."""
    levels, spans = [said["no_answer"] for said in predictions], [said["span"] for said in predictions]
    best = {f"best_{score}": best_no_answer_threshold(levels, spans, gold, score)[1] for score in SCORES}
    return _span(_said(predictions), gold) | best


def _said(predictions: Rows) -> list[str]:
    """The answer of each: the span, or none where that is ahead."""
    return ["" if said["no_answer"] > 0 else said["span"] for said in predictions]


def _token_f1s_or_none(predictions: Rows, gold: Rows) -> np.ndarray:
    return _token_f1s(_said(predictions), gold)


# Translations


def _translation(predictions: Rows, gold: Rows) -> dict[str, float]:
    """BLEU and chrF of the whole corpus, 0 to 100."""
    return {name: float(score.corpus_score(predictions, [gold]).score) for name, score in _sacrebleu().items()}


def translation_signatures() -> dict[str, str]:
    """sacreBLEU's signatures of "bleu" and "chrf": what must be told with the numbers to make them comparable."""
    scores = _sacrebleu()
    for score in scores.values():
        score.corpus_score(["one"], [["one"]])  # the number of references is part of a signature
    return {name: str(score.get_signature()) for name, score in scores.items()}


def _sacrebleu() -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"bleu": BLEU(), "chrf": CHRF()}


# Sums over examples, and main scores from them


def _hits(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 2): right, 1."""
    return _values([float(guess == answer) for guess, answer in zip(predictions, gold, strict=True)])


def _values(values: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(values, dtype=np.float64), np.ones(len(values))], axis=1)


def _mean(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums[..., 0], sums[..., 1])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient, 0 where the denominator is not positive."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1.0), 0.0)


def _counts_of_one(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 3): rightly "1", predicted "1", gold "1", of rows of labels."""
    _check_lengths(predictions, gold)
    both = [sum(p == g == "1" for p, g in zip(*row, strict=True)) for row in zip(predictions, gold, strict=True)]
    return np.array([both, [row.count("1") for row in predictions], [row.count("1") for row in gold]], float).T


def _entity_counts(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 3): entities found, predicted, gold."""
    from seqeval.metrics.sequence_labeling import get_entities

    _check_lengths(predictions, gold)
    pairs = [(set(get_entities(p)), set(get_entities(g))) for p, g in zip(predictions, gold, strict=True)]
    return np.array([(len(p & g), len(p), len(g)) for p, g in pairs], dtype=np.float64)


def _f1(sums: np.ndarray) -> np.ndarray:
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _paraphrase_parts(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 5): right, 1, and the counts of "1"."""
    counts = _counts_of_one([[guess] for guess in predictions], [[answer] for answer in gold])
    return np.concatenate([_hits(predictions, gold), counts], axis=1)


def _paraphrase_total(sums: np.ndarray) -> np.ndarray:
    return (_mean(sums) + _f1(sums[..., 2:])) / 2


def _confusion(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 4): the cell of the confusion matrix, 2 · (gold is "1") + (prediction is "1")."""
    cells = [2 * (answer == "1") + (guess == "1") for guess, answer in zip(predictions, gold, strict=True)]
    return np.eye(4)[cells]


def _matthews(sums: np.ndarray) -> np.ndarray:
    tn, fp, fn, tp = np.moveaxis(sums, -1, 0)
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _moments(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 6): 1, x, y, xx, yy, xy, standardised over all rows so that the sums do not cancel."""
    x, y = (_standardized(values) for values in (_finite(predictions), np.asarray(gold, dtype=np.float64)))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _standardized(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() if np.ptp(values) else 1.0)


def _pearson(sums: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = np.moveaxis(_ratio(sums[..., 1:], sums[..., :1]), -1, 0)
    variances = np.stack([xx - x * x, yy - y * y])
    variances[variances < 1e-12] = 0.0  # what rounding leaves of a constant
    return np.clip(_ratio(xy - x * y, np.sqrt(variances.prod(axis=0))), -1.0, 1.0)


def _spearman(predictions: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the ranks, rows at once."""
    from scipy.stats import rankdata

    x, y = (rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (_finite(predictions), gold))
    return _ratio((x * y).sum(axis=-1), np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1)))


def _squared_errors(predictions: Rows, gold: Rows) -> np.ndarray:
    return _values((_finite(predictions) - np.asarray(gold, dtype=np.float64)) ** 2)


def _root_mean(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean(sums))


def _token_f1s(predictions: Rows, gold: Rows) -> np.ndarray:
    return _values([token_f1(guess, answers) for guess, answers in zip(predictions, gold, strict=True)])


def _ngram_counts(predictions: Rows, gold: Rows) -> np.ndarray:
    """(N, 10): length, reference length, matches of 1- to 4-grams, their numbers."""
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(effective_order=True)  # which alters nothing that is counted, and silences a warning
    rows = [bleu.sentence_score(guess, [answer]) for guess, answer in zip(predictions, gold, strict=True)]
    return np.array([[row.sys_len, row.ref_len, *row.counts, *row.totals] for row in rows], dtype=np.float64)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU as sacreBLEU smooths it: the k-th order without a match counts 2^-k of one."""
    length, reference, matches, ngrams = np.split(sums, [1, 2, 6], axis=-1)
    found = matches > 0
    precisions = _ratio(np.where(found, matches, 0.5 ** np.cumsum(~found, axis=-1)), ngrams)
    brevity = np.exp(np.minimum(1 - _ratio(reference, length), 0.0))[..., 0]
    with np.errstate(divide="ignore"):
        return np.where(found.any(axis=-1), 100 * brevity * np.exp(np.log(precisions).mean(axis=-1)), 0.0)


# Pictures


def _vqa(predictions: Rows, gold: Rows) -> dict[str, float]:
    """What the answers are worth, on average, and by the type of the answer where that is known."""
    worths, types = _worths(predictions, gold)[:, 0], np.array([str(answer["type"]) for answer in gold])
    return {"accuracy": float(worths.mean())} | {
        name: float(worths[types == kind].mean()) for kind, name in _ANSWER_TYPES.items() if kind in types
    }


def _worths(predictions: Rows, gold: Rows) -> np.ndarray:
    return _values([answer["answers"].get(guess, 0.0) for guess, answer in zip(predictions, gold, strict=True)])


def _ranks(predictions: Rows, gold: Rows) -> dict[str, float]:
    """Share of captions whose picture is among the first, its median rank, and among how many it was sought."""
    ranks = np.array([said["rank"] for said in predictions])
    recalls = {f"R@{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
    return recalls | {"median_rank": float(np.median(ranks)), "candidates": float(predictions[0]["of"])}


def _found_first(predictions: Rows, gold: Rows) -> np.ndarray:
    return _values([float(said["rank"] <= 1) for said in predictions])


def _referring(predictions: Rows, gold: Rows) -> dict[str, float]:
    return {"accuracy": float(_boxes_found(predictions, gold)[:, 0].mean())}


def _boxes_found(predictions: Rows, gold: Rows) -> np.ndarray:
    pairs = zip(predictions, gold, strict=True)
    return _values([float(guess is not None and iou([guess], [box])[0, 0] > MIN_IOU) for guess, box in pairs])


def iou(boxes: Rows | np.ndarray, others: Rows | np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (x1, y1, x2, y2), float (N, 4) and (M, 4): float64 (N, M); 0 of empty ones."""
    one, two = (np.asarray(of, np.float64).reshape(-1, 4) for of in (boxes, others))
    low, high = np.maximum(one[:, None, :2], two[None, :, :2]), np.minimum(one[:, None, 2:], two[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=-1)
    areas = [(of[:, 2:] - of[:, :2]).prod(axis=-1) for of in (one, two)]
    return _ratio(shared, areas[0][:, None] + areas[1] - shared)


_ANSWER_TYPES = {"yes/no": "yes_no", "number": "number", "other": "other"}
METRICS = {
    "classification": Metric(main="accuracy", compute=_classification, parts=_hits, total=_mean),
    "paraphrase": Metric(
        main="accuracy_f1", compute=_paraphrase, parts=_paraphrase_parts, total=_paraphrase_total
    ),
    "cola": Metric(main="matthews", compute=_cola, parts=_confusion, total=_matthews),
    "correlation": Metric(main="pearson", compute=_numbers, parts=_moments, total=_pearson),
    "rank_correlation": Metric(main="spearman", compute=_numbers, recompute=_spearman),
    "error": Metric(main="rmse", compute=_numbers, parts=_squared_errors, total=_root_mean, lower_is_better=True),
    "span": Metric(main="f1", compute=_span, parts=_token_f1s, total=_mean),
    "span_or_none": Metric(main="f1", compute=_span_or_none, parts=_token_f1s_or_none, total=_mean),
    "choice": Metric(main="accuracy", compute=_accuracy, parts=_hits, total=_mean),
    "entities": Metric(main="f1", compute=_entities, parts=_entity_counts, total=_f1),
    "target": Metric(main="f1", compute=_target, parts=_counts_of_one, total=_f1),
    "vqa": Metric(main="accuracy", compute=_vqa, parts=_worths, total=_mean),
    "ranks": Metric(main="R@1", compute=_ranks, parts=_found_first, total=_mean),
    "referring": Metric(main="accuracy", compute=_referring, parts=_boxes_found, total=_mean),
    "translation": Metric(main="bleu", compute=_translation, parts=_ngram_counts, total=_bleu),
}  # fmt: skip
