import numpy as np
import pytest
import torch

from pretraining_runs import tiny_model
from sightread.analysis.weights import EMBEDDINGS, HEAD, Distance, as_markdown, by_layer, distances, draw
from sightread.errors import ConfigError


@pytest.fixture(scope="module")
def models():
    """A model, and the same with its second layer and its head moved."""
    start, moved = tiny_model("bert").float(), tiny_model("bert").float()
    with torch.no_grad():
        for name, weight in moved.named_parameters():
            if ".layer.1." in name or name.startswith("head."):
                weight.add_(0.1)
    return start, moved


def test_distances_are_those_of_all_numbers_of_a_layer(models):
    start, moved = models
    found = by_layer(distances(start, moved))
    assert list(found) == [EMBEDDINGS, "1", "2", *(["rest"] if "rest" in found else []), HEAD]
    weights = [
        np.concatenate(
            [w.detach().double().numpy().ravel() for name, w in model.named_parameters() if ".layer.1." in name]
        )
        for model in models
    ]
    assert found["2"].moved == pytest.approx(np.linalg.norm(weights[1] - weights[0]))
    assert found["2"].share == pytest.approx(np.linalg.norm(weights[1] - weights[0]) / np.linalg.norm(weights[0]))
    assert found["1"] == Distance(0.0, found["1"].length)
    assert found[HEAD].moved > 0


def test_layers_are_found_in_other_families():
    for name in ("gpt2", "bert"):
        model = tiny_model(name)
        assert {"1", "2", EMBEDDINGS} <= set(by_layer(distances(model, model)))
    assert Distance(0.0, 0.0).share == 0


def test_a_fresh_head_is_left_out_and_other_shapes_are_refused(models):
    start, moved = models
    start.fresh_head = True
    assert HEAD not in by_layer(distances(start, moved))
    start.fresh_head = False
    with pytest.raises(ConfigError, match="differ in shape"):
        distances(start, tiny_model("gpt2"))


def test_they_are_drawn_and_told(models, tmp_path):
    pytest.importorskip("matplotlib")
    found = {"moved": by_layer(distances(*models)), "still": by_layer(distances(models[0], models[0]))}
    svg, pdf = draw(found, tmp_path / "weights")
    assert all(f">{word}<" in svg.read_text() for word in ("moved", "still", "layer", EMBEDDINGS))
    assert pdf.read_bytes().startswith(b"%PDF")
    before = svg.read_bytes()
    assert draw(found, tmp_path / "again")[0].read_bytes() == before
    assert "| still | 0 | 0.0000 |" in as_markdown(found)
