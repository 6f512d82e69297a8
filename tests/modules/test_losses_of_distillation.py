import numpy as np
import pytest
import torch

from sightread.modules.losses import neuron_selectivity, two_way_info_nce


def contrast_case(seed, tokens=6, columns=5):
    """Scores of tokens with pictures, of which some are the same, and of which the tokens of a column share one."""
    rng = np.random.default_rng(seed)
    pictures, targets = rng.integers(3, size=columns), rng.integers(columns, size=tokens)
    per_picture = rng.standard_normal((tokens, 3))  # columns of one picture are alike
    return per_picture[:, pictures], targets, pictures[targets][:, None] == pictures[None, :], pictures


def contrast_by_hand(scores, targets, pictures, temperature):
    """-log of the share that a token's own picture has among it and the others, and the token among the others'."""
    total = 0.0
    for token, column in enumerate(targets):
        exp = np.exp(scores / temperature)
        own = exp[token, column]
        other_pictures = sum(exp[token, j] for j in range(len(pictures)) if pictures[j] != pictures[column])
        strangers = [i for i in range(len(targets)) if pictures[targets[i]] != pictures[column]]
        other_tokens = sum(exp[i, column] for i in strangers)
        total -= np.log(own / (own + other_pictures)) + np.log(own / (own + other_tokens))
    return total / len(targets)


@pytest.mark.parametrize("seed", range(6))
def test_two_way_info_nce_is_two_cross_entropies(seed):
    scores, targets, excluded, pictures = contrast_case(seed)
    loss = two_way_info_nce(*map(torch.from_numpy, (scores, targets, excluded)), 0.3)
    assert loss.item() == pytest.approx(contrast_by_hand(scores, targets, pictures, 0.3), abs=1e-12)


def test_gradients_of_two_way_info_nce():
    scores, targets, excluded, _ = contrast_case(1)
    inputs = torch.from_numpy(scores).requires_grad_(), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    fixed = torch.from_numpy(targets), torch.from_numpy(excluded)
    assert torch.autograd.gradcheck(lambda s, t: two_way_info_nce(s, *fixed, t), inputs)


@pytest.mark.parametrize(("tokens", "columns"), [(4, 3), (0, 3), (0, 0)])
def test_without_another_picture_or_without_tokens_contrast_costs_nothing(tokens, columns):
    scores = torch.randn(tokens, columns, requires_grad=True)
    targets = torch.arange(tokens) % max(columns, 1)
    loss = two_way_info_nce(scores, targets, torch.ones(tokens, columns, dtype=torch.bool), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def states_case(seed, widths=(3, 5)):
    rng = np.random.default_rng(seed)
    mask = np.array([[True] * 6, [True] * 4 + [False] * 2])
    return [rng.standard_normal((2, 6, width)) for width in widths], mask


def discrepancy_by_hand(student, teacher, mask):
    """Mean over sequences of the double sums over neurons of the kernel (x·y)²."""

    def kernel(one, two):
        pairs = [(x, y) for x in one.T for y in two.T]
        return np.mean([(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) ** 2 for x, y in pairs])

    blocks = [(s[m], t[m]) for s, t, m in zip(student, teacher, mask, strict=True)]
    return np.mean([kernel(s, s) + kernel(t, t) - 2 * kernel(s, t) for s, t in blocks])


@pytest.mark.parametrize("seed", range(4))
def test_neuron_selectivity_is_the_discrepancy_of_the_neurons(seed):
    (student, teacher), mask = states_case(seed)
    tensors = [torch.from_numpy(x) for x in (student, teacher, mask)]
    loss = neuron_selectivity(*tensors)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(discrepancy_by_hand(student, teacher, mask), abs=1e-12)
    tensors[0][1, 4:] = 100  # padding
    assert neuron_selectivity(*tensors) == loss


def test_neuron_selectivity_compares_what_neurons_answer_to_and_nothing_else():
    (student, _), mask = map(torch.tensor, states_case(0)[0]), torch.tensor(states_case(0)[1])
    shuffled = -3 * student[:, :, [2, 0, 1]]  # other places, scales and signs
    assert neuron_selectivity(student, shuffled, mask).item() == pytest.approx(0, abs=1e-20)
    assert neuron_selectivity(student, student.flip(1), mask).item() > 1e-2


def test_gradients_of_neuron_selectivity():
    tensors, mask = states_case(2)
    student, teacher = (torch.from_numpy(x) for x in tensors)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: neuron_selectivity(s, teacher, torch.from_numpy(mask)), student)


def test_neuron_selectivity_in_half_precision_is_computed_in_single():
    tensors, mask = states_case(3, (16, 16))
    student, teacher = (torch.from_numpy(x).bfloat16() for x in tensors)
    with torch.autocast("cpu", torch.bfloat16):
        loss = neuron_selectivity(student, teacher, torch.from_numpy(mask))
    expected = discrepancy_by_hand(*(x.double().numpy() for x in (student, teacher)), mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
