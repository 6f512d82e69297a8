import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightread.contracts import IGNORED
from sightread.modules import losses
from sightread.modules.losses import (
    batch_hinge,
    cosine_regression,
    cosines,
    info_nce,
    learnt_temperature,
    linear_classification,
    pairwise_hinge,
    smooth_l1_regression,
    soft_classification,
    token_classification,
    two_way_info_nce,
)

cases = given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(2, 5))


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def numpy_classification(logits, labels):
    kept = [(row, label) for row, label in zip(logits, labels, strict=True) if label != IGNORED]
    return np.mean([-log_softmax(row)[label] for row, label in kept]) if kept else 0.0


def numpy_cosine(predictions, targets):
    pairs = zip(predictions, targets, strict=True)
    return np.mean([1 - p @ t / np.sqrt((p @ p) * (t @ t)) for p, t in pairs])


def numpy_smooth_l1(predictions, targets):
    return np.mean([sum(d * d / 2 if d < 1 else d - 0.5 for d in row) for row in np.abs(predictions - targets)])


def numpy_soft(logits, classes, shares):
    rows = zip(log_softmax(logits), classes, shares, strict=True)
    return np.mean([sum(p * (np.log(p) - row[c]) for c, p in zip(cs, ps, strict=True)) for row, cs, ps in rows])


def numpy_batch_hinge(scores, targets, excluded, margin):
    rows, columns = scores.shape
    pairs = [(i, j) for i in range(rows) for j in range(columns) if not excluded[i, j]]
    return np.mean([max(0, margin - scores[i, targets[i]] + scores[i, j]) for i, j in pairs]) if pairs else 0.0


def numpy_info_nce(scores, targets, excluded, temperature):
    losses = []
    for row, target, out in zip(scores / temperature, targets, excluded, strict=True):
        kept = [j for j in range(len(row)) if j == target or not out[j]]
        losses.append(-log_softmax(row[kept])[kept.index(target)])
    return np.mean(losses)


def same_picture(pictures, targets):
    """Which columns show the token's own picture, bool (T, B)."""
    return pictures[targets][:, None] == pictures[None, :]


def matching_case(seed, rows, columns):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(3, size=columns)  # few of them, so that a batch often holds one twice
    targets = rng.integers(columns, size=rows)
    return rng.standard_normal((rows, columns)), targets, same_picture(pictures, targets)


@cases
def test_token_classification_is_the_mean_over_labelled_positions(seed, rows, columns):
    rng = np.random.default_rng(seed)
    logits = 5 * rng.standard_normal((rows, 3, columns))
    labels = np.where(rng.random((rows, 3)) < 0.4, IGNORED, rng.integers(columns, size=(rows, 3)))
    tensor = torch.from_numpy(logits).requires_grad_()
    loss = token_classification(tensor, torch.from_numpy(labels))
    assert loss.item() == pytest.approx(numpy_classification(logits.reshape(-1, columns), labels.ravel()), abs=1e-5)
    loss.backward()
    labelled = (labels != IGNORED)[..., None]
    hit = np.arange(columns) == labels[..., None]
    expected = (np.exp(log_softmax(logits)) - hit) * labelled / max(labelled.sum(), 1)
    np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-6)


def linear_case(seed, rows, columns, width=3, labelled=0.6):
    """States, weight, bias and labels."""
    rng = np.random.default_rng(seed)
    shapes = (rows, width), (columns, width), (columns,)
    labels = np.where(rng.random(rows) < labelled, rng.integers(columns, size=rows), IGNORED)
    return [torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for shape in shapes], torch.from_numpy(labels)


@pytest.mark.parametrize("labelled", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("rows_at_once", [0.5, 3, 7])
def test_linear_classification_and_its_gradients(monkeypatch, rows, rows_at_once, labelled):
    tensors, labels = linear_case(rows, rows, 11, labelled=labelled)
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", int(11 * rows_at_once))
    loss = linear_classification(*tensors, labels)
    (0.3 * loss).backward()
    states, weight, bias = (tensor.detach().numpy() for tensor in tensors)
    logits, labels = states @ weight.T + bias, labels.numpy()
    assert loss.item() == pytest.approx(numpy_classification(logits, labels), abs=1e-12)
    hit, is_labelled = np.arange(11) == labels[:, None], (labels != IGNORED)[:, None]
    slope = 0.3 * (np.exp(log_softmax(logits)) - hit) * is_labelled / max(is_labelled.sum(), 1)
    for tensor, expected in zip(tensors, (slope @ weight, slope.T @ states, slope.sum(axis=0)), strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_linear_classification_in_half_precision_is_summed_in_single(monkeypatch, dtype, autocast):
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 100 * 30)
    exact, labels = linear_case(0, 3000, 100, labelled=1.0)
    scaled = [16 * exact[0], *exact[1:]]  # so that in half precision the sum of losses is infinite, or 3 % off
    given = [tensor.detach().to(torch.float32 if autocast else dtype).requires_grad_() for tensor in scaled]
    with torch.autocast("cpu", dtype, enabled=autocast):
        loss = linear_classification(*given, labels)
    assert loss == linear_classification(*(tensor.to(dtype) for tensor in given), labels)  # so rounds a linear layer
    loss.backward()
    assert loss.dtype == torch.float32
    rounded = [tensor.detach().to(dtype).double().requires_grad_() for tensor in scaled]
    expected = torch.nn.functional.cross_entropy(torch.nn.functional.linear(*rounded), labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    for tensor, true in zip(given, rounded, strict=True):
        assert tensor.grad.dtype == tensor.dtype
        assert (tensor.grad - true.grad).norm() < 0.02 * true.grad.norm()


def largest_allocation(run):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    return max(event.self_cpu_memory_usage for event in profile.events())


def test_linear_classification_never_holds_all_logits(monkeypatch):
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 8 * 500)
    tensors, labels = linear_case(0, 128, 500)
    whole = labels.numel() * 500 * tensors[0].itemsize
    logits = torch.nn.functional.linear
    assert largest_allocation(lambda: token_classification(logits(*tensors), labels).backward()) >= whole
    assert largest_allocation(lambda: linear_classification(*tensors, labels).backward()) <= whole / 10


def soft_case(seed, rows, columns):
    """Inputs of a linear layer, and for each row two classes with shares."""
    tensors, _ = linear_case(seed, rows, columns)
    rng = np.random.default_rng(seed)
    classes = np.stack([rng.permutation(columns)[:2] for _ in range(rows)])
    first = rng.uniform(0.1, 0.9, size=rows)
    return tensors, classes, np.stack([first, 1 - first], axis=1)


@pytest.mark.parametrize("rows_at_once", [0.5, 3, 99])
@cases
def test_soft_classification_is_the_divergence_from_the_shares(rows_at_once, seed, rows, columns):
    tensors, classes, shares = soft_case(seed, rows, columns)
    states, weight, bias = (tensor.detach().numpy() for tensor in tensors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "LOGITS_AT_ONCE", int(columns * rows_at_once))
        loss = soft_classification(*tensors, torch.from_numpy(classes), torch.from_numpy(shares))
    assert loss.item() == pytest.approx(numpy_soft(states @ weight.T + bias, classes, shares), abs=1e-12)


def test_gradients_of_soft_classification_in_chunks_are_those_of_the_whole(monkeypatch):
    tensors, classes, shares = soft_case(0, 6, 5)
    gradients = []
    for at_once in (10**6, 10):
        monkeypatch.setattr(losses, "LOGITS_AT_ONCE", at_once)
        loss = soft_classification(*tensors, torch.from_numpy(classes), torch.from_numpy(shares))
        gradients.append(torch.autograd.grad(loss, tensors))
    torch.testing.assert_close(*gradients)


def test_soft_classification_of_one_class_is_classification():
    tensors, _ = linear_case(0, 6, 5)
    classes = torch.arange(6)[:, None] % 5
    soft = soft_classification(*tensors, torch.cat([classes, (classes + 1) % 5], dim=1), torch.eye(2)[[0] * 6])
    torch.testing.assert_close(soft, linear_classification(*tensors, classes[:, 0]))


REGRESSIONS = {cosine_regression: numpy_cosine, smooth_l1_regression: numpy_smooth_l1}


@pytest.mark.parametrize("regression", REGRESSIONS)
@cases
def test_regression_is_the_mean_over_rows(regression, seed, rows, columns):
    predictions, targets = 2 * np.random.default_rng(seed).standard_normal((2, rows, columns))
    loss = regression(torch.from_numpy(predictions), torch.from_numpy(targets))
    assert loss.item() == pytest.approx(REGRESSIONS[regression](predictions, targets), abs=1e-12)


def test_cosine_regression_takes_no_heed_of_length():
    predictions, targets = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(cosine_regression(predictions, targets), cosine_regression(9 * predictions, targets / 5))
    torch.testing.assert_close(cosine_regression(targets, targets), torch.tensor(0.0))
    torch.testing.assert_close(cosine_regression(-targets, targets), torch.tensor(2.0))
    torch.testing.assert_close(cosine_regression(0 * targets, targets), torch.tensor(1.0))


@cases
def test_pairwise_hinge_equals_equation_3(seed, rows, columns):
    positive, negative = np.random.default_rng(seed).standard_normal((2, rows * columns))
    for margin in (0.0, 0.5, 2.0):
        expected = np.mean([max(0.0, margin - p + n) for p, n in zip(positive, negative, strict=True)])
        loss = pairwise_hinge(torch.from_numpy(positive), torch.from_numpy(negative), margin)
        assert loss.item() == pytest.approx(expected, abs=1e-12)


@cases
def test_batch_hinge_is_the_mean_over_pairs_with_other_pictures(seed, rows, columns):
    scores, targets, excluded = matching_case(seed, rows, columns)
    loss = batch_hinge(*map(torch.from_numpy, (scores, targets, excluded)), 0.7)
    assert loss.item() == pytest.approx(numpy_batch_hinge(scores, targets, excluded, 0.7), abs=1e-12)


@cases
def test_info_nce_is_cross_entropy_against_other_pictures(seed, rows, columns):
    scores, targets, excluded = matching_case(seed, rows, columns)
    loss = info_nce(*map(torch.from_numpy, (scores, targets, excluded)), 0.1)
    assert loss.item() == pytest.approx(numpy_info_nce(scores, targets, excluded, 0.1), abs=1e-10)


@pytest.mark.parametrize("function", [batch_hinge, info_nce])
def test_an_excluded_score_changes_neither_loss_nor_gradient(function):
    pictures, targets = np.array([0, 1, 0, 2]), np.array([0, 1, 2, 3, 3])
    excluded = torch.from_numpy(same_picture(pictures, targets))
    own = torch.nn.functional.one_hot(torch.from_numpy(targets), 4).bool()
    scores = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    changed = torch.where(excluded & ~own, scores + 100, scores)
    assert (changed != scores).any()
    results = []
    for given_scores in (scores, changed):
        leaf = given_scores.clone().requires_grad_()
        loss = function(leaf, torch.from_numpy(targets), excluded, 0.3)
        loss.backward()
        assert (leaf.grad[excluded & ~own] == 0).all()
        results.append((loss.item(), leaf.grad))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    free = torch.where(excluded, scores, scores + 1)
    assert function(free, torch.from_numpy(targets), excluded, 0.3).item() > results[0][0]


@pytest.mark.parametrize("function", [batch_hinge, info_nce])
def test_a_batch_of_one_picture_has_nothing_to_tell_apart(function):
    scores = torch.randn(4, 3, requires_grad=True)
    loss = function(scores, torch.tensor([0, 1, 2, 0]), torch.ones(4, 3, dtype=torch.bool), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_gradients_of_the_matching_losses_in_double_precision():
    scores, targets, excluded = map(torch.from_numpy, matching_case(3, 6, 5))
    scores.requires_grad_()
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: batch_hinge(s, targets, excluded, 0.5), (scores,))
    assert torch.autograd.gradcheck(lambda s, t: info_nce(s, targets, excluded, t), (scores, temperature))
    assert torch.autograd.gradcheck(pairwise_hinge, (scores[:, 0], scores[:, 1]))


def test_gradients_of_the_voken_losses_in_double_precision():
    tensors, classes, shares = soft_case(5, 4, 3)
    classes, shares = torch.from_numpy(classes), torch.from_numpy(shares)
    assert torch.autograd.gradcheck(lambda *t: soft_classification(*t, classes, shares), tensors)
    assert torch.autograd.gradcheck(lambda *t: linear_classification(*t, classes[:, 0]), tensors)
    assert torch.autograd.gradcheck(lambda s, w: linear_classification(s, w, None, classes[:, 0]), tensors[:2])
    assert torch.autograd.gradcheck(lambda x: token_classification(x, classes[:, 0]), tensors[:1])
    targets = torch.randn(4, 3, dtype=torch.float64)
    for regression in REGRESSIONS:
        assert torch.autograd.gradcheck(lambda x, r=regression: r(x, targets), tensors[:1])


EMPTY = {
    "classification, no label": lambda x: token_classification(x, torch.full((4,), IGNORED)),
    "classification, no row": lambda x: token_classification(x[:0], torch.zeros(0, dtype=torch.int64)),
    "soft, no row": lambda x: soft_classification(
        x[:0], torch.ones(5, 3), None, torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2)
    ),
    "cosine, no row": lambda x: cosine_regression(x[:0], torch.ones(0, 3)),
    "smooth L1, no row": lambda x: smooth_l1_regression(x[:0], torch.ones(0, 3)),
    "pairwise hinge, no token": lambda x: pairwise_hinge(x[:0, 0], x[:0, 1]),
    "batch hinge, no token": lambda x: batch_hinge(
        x[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.bool)
    ),
    "InfoNCE, no token": lambda x: info_nce(
        x[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.bool), 0.1
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_batch_without_labels_costs_nothing(name):
    x = torch.randn(4, 3, requires_grad=True)
    loss = EMPTY[name](x)
    loss.backward()
    assert loss.item() == 0
    assert (x.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_single_precision(dtype):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.standard_normal((2000, 30))).to(dtype)
    labels = torch.from_numpy(rng.integers(30, size=2000))
    loss = token_classification(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(numpy_classification(logits.double().numpy(), labels.numpy()), abs=1e-4)


def test_contrast_under_autocast_is_that_of_single_precision():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 32)), rng.standard_normal((40, 32))
    each, itself = torch.arange(40), torch.eye(40, dtype=torch.bool)
    unit = [torch.from_numpy(a / np.linalg.norm(a, axis=1, keepdims=True)) for a in (x, y)]
    torch.testing.assert_close(cosines(torch.from_numpy(x), torch.from_numpy(y)), unit[0] @ unit[1].T)
    gradients = []
    for kind in (torch.float64, torch.float32):
        leaf = torch.from_numpy(x).to(kind).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.float32):
            loss = two_way_info_nce(cosines(leaf, torch.from_numpy(y).to(kind)), each, itself, 0.01)
        loss.backward()
        gradients.append(leaf.grad.double())
    assert (gradients[1] - gradients[0]).norm() < 1e-4 * gradients[0].norm()
    assert cosines(leaf.bfloat16(), leaf.bfloat16()).dtype == torch.float32


def test_a_temperature_at_its_floor_can_rise_again():
    log = torch.nn.Parameter(torch.tensor(-9.0))
    temperature = learnt_temperature(log)
    assert temperature.item() == pytest.approx(0.01)
    temperature.backward()
    assert log.grad.item() == pytest.approx(0.01)
    with torch.no_grad():
        log += 1
    assert learnt_temperature(log).item() == pytest.approx(0.01 * np.e)
