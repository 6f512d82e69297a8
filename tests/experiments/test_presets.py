"""The papers' settings: what is known of them, and that each can be overridden."""

import pytest

from sightread.config import override
from sightread.experiments.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_claim_has_five_seeds_or_more(name):
    assert len(PRESETS[name].runs("sst2")) >= 5
    assert PRESETS[name].settings("squad2").max_length == 384
    changed = override(PRESETS[name].settings("rte"), ["learning_rate=3e-5", "num_train=100"])
    assert (changed.training["learning_rate"], changed.num_train) == (3e-5, 100)


def test_what_the_papers_say():
    vokenization = PRESETS["vokenization"].config
    assert (vokenization.training["learning_rate"], vokenization.max_length) == (1e-4, 126)
    assert len(PRESETS["grounding-strategies"].runs("rte")) == 8
    assert [len(PRESETS["xdbert"].runs(task)) for task in ("rte", "sst2")] == [9, 5]
