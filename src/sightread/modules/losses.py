"""Losses, as pure functions. Each returns a scalar, the mean over the rows that carry a label.

| function | used by | inputs |
| --- | --- | --- |
| `token_classification` | MLM | logits (..., C), labels (...) with `IGNORED` |
| `linear_classification` | voken classification | states (T, D), weight (C, D), bias (C,), labels (T,) with `IGNORED` |
| `cosine_regression` | voken regression | predictions (..., F), targets (..., F), which rows (...) |
| `pairwise_hinge` | matching | score with the right and with one wrong picture, each (T,) |
| `batch_hinge`, `info_nce` | matching | scores (T, B), row of the right picture (T,), which are no negatives (T, B) |
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

from sightread.contracts import IGNORED

LOGITS_AT_ONCE = 2**24  # 64 MiB in single precision; torch would choose by T × D, two rows at 2048 × 64, and be slow


def token_classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the labelled positions: -mean log softmax(logits)[label]; zero if there are none."""
    flat_logits, flat_labels = logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1)
    total = functional.cross_entropy(flat_logits, flat_labels, ignore_index=IGNORED, reduction="sum")
    return total / (flat_labels != IGNORED).sum().clamp(min=1)


def linear_classification(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Tensor:
    """`token_classification(states @ weight.T + bias, labels)`, holding at most `LOGITS_AT_ONCE` of the T × C logits.

    Where they are more, gradients are computed along with the loss, so that it can be differentiated once only.

    Args:
        states: What is classified, float (T, D).
        weight: Weight of the output layer, float (C, D).
        bias: Bias of the output layer, float (C,).
        labels: Classes, int64 (T,), or `IGNORED`.

    Returns:
        The mean over the labelled rows, a scalar, in single precision where the inputs or autocast are in half; zero
        if there are none.
    """
    if len(states) * len(weight) <= LOGITS_AT_ONCE:  # then the plain way is faster
        return token_classification(functional.linear(states, weight, bias), labels)
    device = states.device.type
    if torch.is_autocast_enabled(device):  # which casts for a linear layer, but not for this function
        states, weight, bias = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (states, weight, bias))
    half = states.dtype.itemsize == 2  # there torch's own sum is kept in half precision, too: 3 % off, or infinite
    rows = max(LOGITS_AT_ONCE // len(weight), 1)
    losses = functional.linear_cross_entropy(
        states, weight, labels, linear_bias=bias, ignore_index=IGNORED, reduction="none" if half else "sum",
        options=LinearCrossEntropyOptions(batch_chunk_size=rows),
    )  # fmt: skip
    total = losses.float().sum() if half else losses
    return total / (labels != IGNORED).sum().clamp(min=1)


def cosine_regression(predictions: Tensor, targets: Tensor, chosen: Tensor) -> Tensor:
    """Mean of 1 - cos(prediction, target) over the rows where `chosen` (bool) holds; zero if there are none."""
    distance = 1 - functional.cosine_similarity(predictions.float(), targets.float(), dim=-1)
    return (distance * chosen).sum() / chosen.sum().clamp(min=1)


def pairwise_hinge(positive: Tensor, negative: Tensor, margin: float = 0.5) -> Tensor:
    """Mean of max(0, margin - positive + negative) (Tan & Bansal 2020, equation 3)."""
    hinge = (margin - positive + negative).clamp(min=0)
    return hinge.sum() / max(len(hinge), 1)


def batch_hinge(scores: Tensor, targets: Tensor, excluded: Tensor, margin: float = 0.5) -> Tensor:
    """The hinge against every other picture of the batch, mean over pairs.

    Args:
        scores: Token-picture scores, float (T, B).
        targets: Column of each token's own picture, int64 (T,).
        excluded: True where a column shows the token's own picture and is no negative, bool (T, B).
        margin: The margin.
    """
    positive = scores.gather(1, targets[:, None])
    hinge = (margin - positive + scores).clamp(min=0).masked_fill(excluded, 0)
    return hinge.sum() / (~excluded).sum().clamp(min=1)


def info_nce(scores: Tensor, targets: Tensor, excluded: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross-entropy of each token's own picture against the batch (van den Oord et al. 2018).

    Args:
        scores: Token-picture scores, float (T, B).
        targets: Column of each token's own picture, int64 (T,).
        excluded: True where a column shows the token's own picture; such columns, but for the target itself, are
            neither positives nor negatives, bool (T, B).
        temperature: Scores are divided by it.
    """
    own = functional.one_hot(targets, scores.shape[1]).bool()
    logits = (scores / temperature).masked_fill(excluded & ~own, float("-inf"))
    return functional.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)
