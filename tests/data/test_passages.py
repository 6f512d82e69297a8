import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightread.artifacts import MANIFEST
from sightread.data.corpora import Corpus
from sightread.data.passages import SHARES, passages, write_passages
from sightread.errors import ArtifactError, ConfigError, DataError


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "c"]), min_size=1, max_size=9), max_size=12), st.integers(1, 7))
def test_passages_hold_all_words_in_order_and_whole_lines(lines, max_words):
    made = list(passages([" ".join(line) for line in lines], max_words))
    assert [word for passage in made for word in passage.split()] == [word for line in lines for word in line]
    assert all(1 <= len(passage.split()) <= max_words for passage in made)
    for one, other in itertools.pairwise(made):  # as much as goes in: the next line would not have
        first, joined = other.split()[0], one.split()
        assert len(joined) == max_words or any(
            len(line) > max_words - len(joined) and line[0] == first for line in lines
        )


@pytest.fixture
def corpora(tmp_path):
    for name in ("wiki", "books"):
        (tmp_path / f"{name}.txt").write_text("".join(f"{name} line {i} of many words\n" for i in range(1500)))
    return [Corpus(tmp_path / f"{name}.txt") for name in ("wiki", "books")]


def test_splits_are_90_5_5_of_all_corpora_and_do_not_overlap(corpora, tmp_path):
    counts = write_passages(corpora, tmp_path / "out", max_words=6, seed=3)
    lines = {split: (tmp_path / "out" / f"{split}.txt").read_text().splitlines() for split in SHARES}
    assert {split: len(found) for split, found in lines.items()} == counts
    assert sorted(itertools.chain(*lines.values())) == sorted(itertools.chain(*corpora))
    for split, share in SHARES.items():
        assert counts[split] / 3000 == pytest.approx(share, abs=0.02)
        assert {line.split()[0] for line in lines[split][:30]} == {"wiki", "books"}, "whoever reads no more reads both"
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["report"]["passages"] == counts
    write_passages(corpora, tmp_path / "again", max_words=6, seed=3)
    assert (tmp_path / "again" / "dev.txt").read_text() == (tmp_path / "out" / "dev.txt").read_text()
    with pytest.raises(ArtifactError, match="already holds"):
        write_passages(corpora, tmp_path / "out", max_words=6, seed=3)


def test_what_cannot_be_is_refused(corpora, tmp_path):
    with pytest.raises(ConfigError, match="max_words=0"):
        write_passages(corpora, tmp_path / "out", max_words=0)
    (tmp_path / "few.txt").write_text("one line\n")
    with pytest.raises(DataError, match="1 passages are too few: no dev and no test"):
        write_passages([Corpus(tmp_path / "few.txt")], tmp_path / "few")
