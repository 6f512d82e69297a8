"""Losses, as pure functions. Each returns a scalar, the mean over the rows that carry a label.

| function | used by | inputs |
| --- | --- | --- |
| `token_classification` | where classes are few | logits (..., C), labels (...) with `IGNORED` |
| `linear_classification` | MLM, voken classification | states (T, D), weight (C, D), bias (C,), labels (T,) |
| `soft_classification` | soft vokens | the same, classes (T, K) and their shares (T, K) |
| `cosine_regression`, `smooth_l1_regression` | voken regression | predictions (T, F), targets (T, F) |
| `cosines`, `learnt_temperature` | every contrast | vectors (T, E) and (N, E); the logarithm of τ |
| `pairwise_hinge` | matching | score with the right and with one wrong picture, each (T,) |
| `batch_hinge`, `info_nce` | matching | scores (T, B), row of the right picture (T,), which are no negatives (T, B) |
| `two_way_info_nce` | lexical contrast, distillation | the same |
| `neuron_selectivity` | distillation | student's and teacher's states (B, L, D), which are no padding (B, L) |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import LinearCrossEntropyOptions, functional

from sightread.contracts import IGNORED

LOGITS_AT_ONCE = 2**24  # 64 MiB in single precision; torch would choose by T × D, two rows at 2048 × 64, and be slow

LOWEST_LOG = math.log(0.01)  # of a learnt temperature


def _single(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x.float() if x.dtype.itemsize == 2 else x


def token_classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the labelled positions: -mean log softmax(logits)[label]; zero if there are none."""
    flat_logits, flat_labels = _single(logits.flatten(0, -2)), labels.flatten()
    total = functional.cross_entropy(flat_logits, flat_labels, ignore_index=IGNORED, reduction="sum")
    return total / (flat_labels != IGNORED).sum().clamp(min=1)


def linear_classification(states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """`token_classification(states @ weight.T + bias, labels)`, holding at most `LOGITS_AT_ONCE` of the T × C logits.

    Where they are more, gradients are computed along with the loss, so that it can be differentiated once only.

    Args:
        states: What is classified, float (T, D).
        weight: Weight of the output layer, float (C, D).
        bias: Bias of the output layer, float (C,), or None.
        labels: Classes, int64 (T,), or `IGNORED`.

    Returns:
        The mean over the labelled rows, a scalar, in single precision where the inputs or autocast are in half; zero
        if there are none.
    """
    if len(states) * len(weight) <= LOGITS_AT_ONCE:  # then the plain way is faster
        return token_classification(functional.linear(states, weight, bias), labels)
    device = states.device.type
    if torch.is_autocast_enabled(device):  # which casts for a linear layer, but not for this function
        half_type = torch.get_autocast_dtype(device)
        states, weight = states.to(half_type), weight.to(half_type)
        bias = None if bias is None else bias.to(half_type)
    half = states.dtype.itemsize == 2  # there torch's own sum is kept in half precision, too: 3 % off, or infinite
    rows = max(LOGITS_AT_ONCE // len(weight), 1)
    losses = functional.linear_cross_entropy(
        states, weight, labels, linear_bias=bias, ignore_index=IGNORED, reduction="none" if half else "sum",
        options=LinearCrossEntropyOptions(batch_chunk_size=rows),
    )  # fmt: skip
    total = losses.float().sum() if half else losses
    return total / (labels != IGNORED).sum().clamp(min=1)


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """What torch's `FlopCounterMode` has to be told to count `linear_classification` in chunks as if in one piece."""
    import torch.nn.modules.linear_cross_entropy  # which defines the operator

    def three_products(states: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
        return 6 * states[0] * math.prod(weight)

    return {torch.ops.torch_nn._linear_cross_entropy_batch_chunked: three_products}


def soft_classification(states: Tensor, weight: Tensor, bias: Tensor | None, classes: Tensor, shares: Tensor) -> Tensor:
    """Mean of KL(shares || softmax(states @ weight.T + bias)), the shares being zero but at a few classes.

    Args:
        states: As for `linear_classification`; here, too, the T × C logits are not held at once.
        weight: Likewise.
        bias: Likewise.
        classes: The classes that have a share, int64 (T, K).
        shares: Their shares, float (T, K); each row sums to one.
    """
    logits = torch.einsum("td,tkd->tk", states, weight[classes])
    logits = _single(logits if bias is None else logits + bias[classes])
    first = linear_classification(states, weight, bias, classes[:, 0])  # holds the sum over all classes
    cross = (logits[:, 0] - (shares * logits).sum(dim=1)).sum() / max(len(states), 1)
    return first + cross + torch.xlogy(shares, shares).sum() / max(len(states), 1)


def cosine_regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean of 1 - cos(prediction, target) over rows (T, F); zero if there are none."""
    distance = 1 - functional.cosine_similarity(_single(predictions), _single(targets), dim=-1)
    return distance.sum() / max(len(distance), 1)


def smooth_l1_regression(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows (T, F) of the sum over features of d²/2 where |d| < 1 and |d| - 1/2 beyond, d their difference;
    zero if there are none (Girshick 2015, equation 3)."""
    total = functional.smooth_l1_loss(_single(predictions), _single(targets), reduction="sum")
    return total / max(len(predictions), 1)


def lp_regression(predictions: Tensor, targets: Tensor, p: float = 1.0) -> Tensor:
    """Mean over rows (T, F) of the mean over features of |prediction - target|^p; zero if there are none."""
    distance = (_single(predictions) - _single(targets)).abs() ** p
    return distance.mean(dim=-1).sum() / max(len(distance), 1)


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of x (T, E) with each of y (N, E), float (T, N).

    In single precision at least, autocast or not: divided by a temperature, the rounding of half precision is as large
    as what is to be told apart.
    """
    with torch.autocast(x.device.type, enabled=False):
        return functional.normalize(_single(x), dim=-1) @ functional.normalize(_single(y), dim=-1).mT


def learnt_temperature(log: nn.Parameter) -> Tensor:
    """exp(log), a scalar. A parameter below log 0.01 is put up to it in place, so that its gradient does not vanish."""
    with torch.no_grad():
        log.clamp_(min=LOWEST_LOG)
    return log.exp()


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


def two_way_info_nce(scores: Tensor, targets: Tensor, excluded: Tensor, temperature: Tensor | float) -> Tensor:
    """`info_nce`, plus its mirror image: the cross-entropy of each token, for its picture, against all other tokens.

    Args:
        scores: As for `info_nce`.
        targets: Likewise.
        excluded: Likewise; tokens of an excluded picture are no negatives of each other either.
        temperature: Likewise.
    """
    logits = scores / temperature
    own, others = logits.gather(1, targets[:, None])[:, 0], logits.masked_fill(excluded, float("-inf"))
    # -log(e^a / (e^a + e^b)) is softplus(b - a)
    of_tokens = functional.softplus(others.logsumexp(dim=1) - own)
    of_pictures = functional.softplus(others.logsumexp(dim=0)[targets] - own)
    return (of_tokens + of_pictures).sum() / max(len(targets), 1)


def neuron_selectivity(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between two sets of neurons, mean over sequences, with the kernel (x·y)² on what
    each neuron answers to the tokens, scaled to unit length (Huang & Wang 2017, section 3.3).

    A mean over pairs of neurons, it equals the squared distance of two matrices over pairs of tokens, which are fewer.

    Args:
        student: States, float (B, L, D).
        teacher: States, float (B, L, D'), of another width perhaps.
        mask: True at tokens, False at padding, bool (B, L).
    """
    return (_token_gram(student, mask) - _token_gram(teacher, mask)).square().sum(dim=(1, 2)).mean()


def _token_gram(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over neurons of n nᵀ, n a neuron's answers at unit length, float (B, L, L)."""
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    with torch.autocast(states.device.type, enabled=False):  # a difference of likes would drown in half precision
        neurons = functional.normalize(states.masked_fill(~mask[..., None], 0), dim=1)
        return neurons @ neurons.mT / states.shape[-1]
