import csv
import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from scipy import stats

from sightread.analysis.concreteness import concreteness
from sightread.analysis.tally import Tally, tally
from sightread.analysis.voken_folder import write_voken_statistics
from sightread.analysis.vokens import as_markdown, voken_statistics
from sightread.artifacts import MANIFEST, Artifact
from sightread.data.voken_corpus import KIND, Shard, VokenCorpus, read_shard, shard_bytes, shard_path
from sightread.encoders.text import build_word_tokenizer
from sightread.errors import DataError

V, TOP = 7, 2


def test_tallies_add_up():
    rng, added, everything = np.random.default_rng(0), Tally(), []
    for size in (0, 5, 1, 300, 2, 40, 0):
        everything.append(rng.integers(0, 30, size))
        added.add(tally(everything[-1]))
    keys, times = added.total()
    assert dict(zip(keys.tolist(), times.tolist(), strict=True)) == Counter(np.concatenate(everything).tolist())
    assert (np.diff(keys) > 0).all()
    assert [len(part) for part in Tally().total()] == [0, 0]


@pytest.fixture(scope="module")
def letters():
    return build_word_tokenizer(["a dog runs so ."])


@pytest.fixture(scope="module")
def folder(letters, tmp_path_factory):
    """Three shards of a few lines, with scores; some tokens have no voken."""
    folder, rng = tmp_path_factory.mktemp("vokens") / "vokens", np.random.default_rng(1)
    texts = [["a dog runs.", "dog", "so xdog dog."] * 6, ["a a a a"], ["runs so"]]
    artifact = Artifact.begin(folder, KIND, config={"num_vokens": V, "top": TOP}, inputs={"tokenizer": "t"})
    tokens = 0
    for index, lines in enumerate(texts):
        encoded = letters(lines, add_special_tokens=False, return_offsets_mapping=True)
        ids = np.concatenate(encoded["input_ids"]).astype(np.int32)
        starts, ends = np.concatenate(encoded["offset_mapping"]).T.astype(np.int32)
        lengths = [len(row) for row in encoded["input_ids"]]
        top_ids = np.argsort(rng.random((len(ids), V)), axis=1)[:, :TOP]
        top_scores = -np.sort(-rng.random((len(ids), TOP)).astype(np.float32), axis=1)
        if index == 0:
            top_ids[1], top_scores[1] = V, 0  # the dog of the first line has none
        best = top_ids[:, 0].astype(np.int64)
        shard = Shard(lines, np.cumsum([0, *lengths]), ids, starts, ends, best, top_ids, top_scores)
        shard_path(folder, index).write_bytes(shard_bytes(shard, V))
        tokens += len(ids)
    letters.save_pretrained(folder / "tokenizer")
    artifact.finish({"shards": len(texts), "tokens": tokens, "digests": ["x"]})
    return folder


def test_statistics_are_those_counted_by_hand(folder, letters):
    found = voken_statistics(VokenCorpus(folder), letters)
    vokens, scores, whole, without = defaultdict(list), defaultdict(list), [], 0
    for path in VokenCorpus(folder).shards:
        shard = read_shard(path, TOP)
        place = 0
        for line in shard:
            for i in range(len(line.token_ids)):
                name, voken = letters.convert_ids_to_tokens(int(line.token_ids[i])), int(line.voken_ids[i])
                score = float(shard.top_scores[place, 0])
                place += 1
                if voken == V:
                    without += 1
                    continue
                vokens[name].append(voken)
                scores[name].append(score)
                around = f" {line.text} "[line.starts[i]], f" {line.text} "[line.ends[i] + 1]
                if not any(char.isalnum() for char in around) and name.isalnum():
                    whole.append((name, score))
    assert (found.tokens, found.without) == (VokenCorpus(folder).num_tokens, without)
    assert set(found.types) == set(vokens)
    for row, name in enumerate(found.types):
        times = Counter(vokens[name])
        assert (found.occurrences[row], found.pictures[row]) == (times.total(), len(times))
        assert found.entropy[row] == pytest.approx(stats.entropy(list(times.values()), base=2))
        assert found.scores[row] == pytest.approx(np.mean(scores[name]))
    chosen = Counter(voken for those in vokens.values() for voken in those)
    assert found.chosen.tolist() == [chosen[v] for v in range(V)]
    assert found.share_used == len(chosen) / V
    assert found.share_of_favourites == max(chosen.values()) / chosen.total()
    assert found.words == {
        name: (len(those), pytest.approx(np.mean(those)))
        for name in {name for name, _ in whole}
        if (those := [score for other, score in whole if other == name])
    }
    assert found.words["dog"][0] == 17  # neither that without a voken nor that within a word


def test_the_most_and_the_least_grounded(folder, letters):
    found = voken_statistics(VokenCorpus(folder), letters)
    most, least = found.extremes(least=2, count=3)
    frequent = [score for score, times in zip(found.scores, found.occurrences, strict=True) if times >= 2]
    assert found.scores[most].tolist() == sorted(frequent, reverse=True)[:3]
    assert found.scores[least].tolist() == sorted(frequent)[:3]
    said = as_markdown(found, least=2, count=3)
    assert f"| `{found.types[most[0]]}` |" in said
    assert "no scores" not in said


def test_a_corpus_without_scores_has_the_rest(voken_corpus_folder, tokenizer, letters, tmp_path):
    corpus = VokenCorpus(voken_corpus_folder)
    found = voken_statistics(corpus, tokenizer)
    assert found.pictures.sum() >= len(found.types)
    assert np.isnan(found.scores).all()
    assert not found.words
    assert "no scores" in write_voken_statistics(voken_corpus_folder, tmp_path / "out")
    with pytest.raises(DataError, match="--top 2 or more"):
        write_voken_statistics(voken_corpus_folder, tmp_path / "again", ratings={"box": 5.0})
    assert not (tmp_path / "again").exists()


def test_concreteness_is_spearmans_and_not_frequency():
    rng = np.random.default_rng(3)
    names = [f"word{i}" for i in range(60)]
    ratings, times = rng.uniform(1, 5, 60), rng.integers(5, 500, 60)
    scores = ratings / 10 + rng.normal(size=60) / 5
    words = {name: (int(n), float(s)) for name, n, s in zip(names, times, scores, strict=True)}
    rated = dict(zip([*names, "rare"], [*ratings, 1], strict=True))
    found = concreteness(words | {"rare": (4, 1.0), "unrated": (9, 1.0)}, rated)
    assert found.words == names
    assert found.spearman == pytest.approx(stats.spearmanr(ratings, scores).statistic)
    assert found.interval[0] < found.spearman < found.interval[1]
    ranks = np.stack([stats.rankdata(column) for column in (ratings, scores, times)])
    left = [column - np.polyval(np.polyfit(ranks[2], column, 1), ranks[2]) for column in ranks[:2]]
    assert found.given_frequency == pytest.approx(np.corrcoef(*left)[0, 1])


def test_a_folder_of_statistics(folder, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightread.analysis.concreteness.FEWEST_WORDS", 3)
        ratings = {"dog": 5, "runs": 4, "so": 1, "a": 1.5}
        said = write_voken_statistics(folder, tmp_path / "out", ratings=ratings, least=1)
    assert "4 words: Spearman" in said
    rows = list(csv.DictReader((tmp_path / "out" / "types.csv").read_text().splitlines()))
    assert sum(int(row["tokens"]) for row in rows) == VokenCorpus(folder).num_tokens - 1
    assert "concreteness, as rated" in (tmp_path / "out" / "concreteness.svg").read_text()
    assert (tmp_path / "out" / "concreteness.pdf").read_bytes().startswith(b"%PDF")
    words = list(csv.DictReader((tmp_path / "out" / "concreteness.csv").read_text().splitlines()))
    assert {row["word"] for row in words} == {"dog", "runs", "so", "a"}
    assert "spearman" in json.loads((tmp_path / "out" / MANIFEST).read_text())["report"]
