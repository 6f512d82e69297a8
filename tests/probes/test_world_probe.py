"""The probe of the controlled world, on an encoder that knows the colours of its nouns and on one that does not."""

import numpy as np
import pytest

from sightread.errors import DataError
from sightread.probes.results import ProbeConfig
from sightread.probes.world import probe_world

CONFIG = ProbeConfig(num_resamples=100)


class Told:
    """Embeds a sentence as the look of its noun, or as noise."""

    label = "told"

    def __init__(self, folder, attribute, noise):
        lines = [line.split("\t") for line in (folder / "nouns.tsv").read_text().splitlines()]
        column = lines[0].index(attribute)
        values = sorted({line[column] for line in lines[1:]})
        self.vectors = {line[0]: np.eye(len(values))[values.index(line[column])] for line in lines[1:]}
        self.noise = noise

    def embed(self, texts):
        rng = np.random.default_rng(0)
        found = [next(self.vectors[word] for word in text.split() if word in self.vectors) for text in texts]
        return rng.standard_normal((len(texts), 6)) if self.noise else np.stack(found)


@pytest.fixture(scope="module")
def data(world_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "world").symlink_to(world_folder)
    return folder


@pytest.mark.parametrize("noise", [False, True])
def test_what_the_vectors_hold_is_found_and_no_more(noise, data, world_folder):
    (result,) = probe_world(Told(world_folder, "color", noise), data, CONFIG, name="color")
    assert result.chance == pytest.approx(1 / 6)
    assert (result.value < 0.4) if noise else (result.value == result.low == result.high == 1)
    assert result.value == np.mean([answer["answer"] == answer["gold"] for answer in result.answers])
    assert result.low <= result.value <= result.high
    assert 0 < result.references["majority"] < 0.6


def test_a_world_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no world/tasks/color/train\.tsv"):
        probe_world(None, tmp_path, CONFIG, name="color")
