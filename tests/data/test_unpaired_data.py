import numpy as np
import pytest
import torch

from regions_fixture import make_regions
from sightread.contracts import IGNORED
from sightread.data.captioned import TokenizedCaptions
from sightread.data.corpora import Corpus
from sightread.data.seen_regions import SeenRegions
from sightread.data.unpaired import (
    Kinds,
    MaskedPairs,
    MaskedPictures,
    MaskedTexts,
    SentencePairs,
    captions_of_regions,
)
from sightread.errors import DataError
from sightread.runtime import keyed_rng
from sightread.vokenization.job import tokenize


@pytest.fixture(scope="module")
def store(captions, tmp_path_factory):
    return make_regions(
        tmp_path_factory.mktemp("regions") / "store", captions.pictures.ids, most=6, tags=("dog", "red box", "")
    )


@pytest.fixture(scope="module")
def texts(captions, tokenizer):
    return MaskedTexts(TokenizedCaptions(captions, tokenizer, 16), tokenizer, 0.4)


@pytest.fixture(scope="module")
def pictures(store, tokenizer):
    def make(**settings):
        seen = SeenRegions(store, tokenizer, tags=settings.pop("tags", True))
        return MaskedPictures(seen, np.arange(len(store)), tokenizer, **settings)

    return make


def examples(of, seeds=range(8)):
    return [of.example(i, keyed_rng(seed, i)) for seed in seeds for i in range(len(of))]


@pytest.mark.parametrize(("probability", "with_region"), [(0.15, 0.9), (0.5, 1.0), (0.3, 0.0)])
def test_tags_are_hidden_whole_and_mostly_with_their_regions(pictures, tokenizer, probability, with_region):
    of = pictures(probability=probability, tag_with_region=with_region)
    regions, tags_hidden, tags_seen = [], [], []
    for example in examples(of, range(30)):
        hidden = example["hidden_regions"]
        regions += hidden.tolist()
        assert np.array_equal(hidden, example["foretold_regions"])
        masked = example["tag_labels"] != IGNORED
        assert (example["tag_ids"][masked] == tokenizer.mask_token_id).all()
        assert not (example["tag_ids"][~masked] == tokenizer.mask_token_id).any()
        for region in range(len(hidden)):
            pieces = masked[example["tag_regions"] == region]
            if len(pieces):
                assert pieces.all() or not pieces.any()
                (tags_hidden if hidden[region] else tags_seen).append(bool(pieces[0]))
    assert np.mean(regions) == pytest.approx(probability, abs=0.04)
    assert np.mean(tags_hidden) == pytest.approx(with_region, abs=0.07)
    assert np.mean(tags_seen) == pytest.approx(probability, abs=0.04)


def test_labels_are_what_was_hidden(pictures):
    of = pictures(probability=0.5)
    for index, example in enumerate(examples(of, [0])):
        whole = of.seen.of(index)
        told = np.where(example["tag_labels"] == IGNORED, example["tag_ids"], example["tag_labels"])
        assert np.array_equal(told, whole["tag_ids"])


def test_without_tags_there_are_none_in_a_batch(pictures):
    of = pictures(tags=False)
    batch = of.collate(examples(of, [0]))
    assert batch["tag_ids"].shape[1] == batch["tag_labels"].shape[1] == 0
    assert (batch["region_names"] >= 0).any()


def test_a_caption_has_the_same_words_hidden_beside_its_picture_and_alone(texts, pictures):
    for match in (False, True):
        pairs = MaskedPairs(texts, pictures(), match=match)
        assert len(pairs) == len(texts)
        for alone, beside in zip(examples(texts), examples(pairs), strict=True):
            assert np.array_equal(alone["input_ids"], beside["input_ids"])
            labels = alone["lm_labels"] if beside["match"] else np.full_like(alone["lm_labels"], IGNORED)
            assert np.array_equal(beside["lm_labels"], labels)


def test_half_of_the_pairs_are_others_and_foretell_nothing_else(texts, pictures):
    of, matched, others = pictures(probability=0.5), [], []
    for place, example in enumerate(examples(MaskedPairs(texts, of))):
        own = int(texts.captions.picture_of[place % len(texts)])
        is_own = np.array_equal(example["region_vectors"], of.seen.of(own)["region_vectors"])
        matched.append(example["match"])
        if len(of.seen.of(own)["region_boxes"]):  # one without regions looks like another
            assert is_own == bool(example["match"])
        if not example["match"]:
            others.append(example["hidden_regions"].mean() if len(example["hidden_regions"]) else 0.5)
            assert (example["lm_labels"] == IGNORED).all()
            assert (example["tag_labels"] == IGNORED).all()
            assert not example["foretold_regions"].any()
    assert np.mean(matched) == pytest.approx(0.5, abs=0.08)
    assert np.mean(others) == pytest.approx(0.5, abs=0.08)  # all is hidden as in pairs, which would tell them apart
    assert all(example["match"] for example in examples(MaskedPairs(texts, of, match=False)))


def test_a_batch_of_pairs(texts, pictures):
    pairs = MaskedPairs(texts, pictures(probability=0.5))
    drawn = examples(pairs, [1])
    batch = pairs.collate(drawn)
    assert batch["match_labels"].tolist() == [example["match"] for example in drawn]
    assert batch["hidden_regions"].dtype == batch["foretold_regions"].dtype == torch.bool
    assert batch["region_scores"].dtype == torch.float32
    for row, example in enumerate(drawn):
        for name in ("lm_labels", "tag_labels", "region_names"):
            found, expected = batch[name][row].tolist(), example[name].tolist()
            assert found == expected + [IGNORED] * (len(found) - len(expected))
        count = len(example["hidden_regions"])
        assert batch["hidden_regions"][row, :count].tolist() == example["hidden_regions"].tolist()
        assert not batch["hidden_regions"][row, count:].any()


def test_a_batch_holds_one_kind(texts, pictures):
    kinds = Kinds([texts, pictures()])
    assert kinds.kinds.tolist() == [0] * len(texts) + [1] * len(pictures())
    rows = (0, 3), (len(texts), len(kinds) - 1)
    words, seen = (kinds.collate([kinds.example(i, keyed_rng(i)) for i in pair]) for pair in rows)
    assert "region_vectors" not in words
    assert "lm_labels" not in seen
    assert seen["input_ids"].tolist() == [pictures().empty.tolist()] * 2
    with pytest.raises(ValueError, match="too many values"):
        kinds.collate([kinds.example(i, keyed_rng(i)) for i in (0, len(texts))])


@pytest.fixture(scope="module")
def corpus(world_folder, tokenizer, tmp_path_factory):
    return tokenize(Corpus(world_folder / "corpus.txt"), tokenizer, tmp_path_factory.mktemp("corpus") / "tokens")


@pytest.mark.parametrize("max_length", [9, 40])
def test_a_sentence_and_the_next_or_another(corpus, tokenizer, max_length):
    pairs, lines = (
        SentencePairs(corpus, tokenizer, max_length=max_length, probability=0.3),
        [x.token_ids.tolist() for x in corpus],
    )
    found = []
    for place, example in enumerate(examples(pairs, range(4))):
        index, room = place % len(pairs), max_length - 3
        ids = np.where(example["lm_labels"] == IGNORED, example["input_ids"], example["lm_labels"]).tolist()
        assert len(ids) <= max_length
        first_end = ids.index(tokenizer.sep_token_id)
        first, second = ids[1:first_end], ids[first_end + 1 : -1]
        assert example["token_type_ids"].tolist() == [0] * (first_end + 1) + [1] * (len(second) + 1)
        assert (example["lm_labels"][[0, first_end, -1]] == IGNORED).all()
        assert first == lines[index][: len(first)]
        next_ = lines[index + 1]
        assert len(first) == min(len(lines[index]), max(room // 2, room - len(second)))
        is_next = second == next_[: len(second)] and len(second) == min(len(next_), room - len(first))
        assert is_next or not example["next"]
        found.append(example["next"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)
    batch = pairs.collate(examples(pairs, [0])[:5])
    assert batch["next_labels"].shape == (5,)
    assert batch["token_type_ids"].shape == batch["input_ids"].shape


def test_captions_whose_pictures_are_not_there(tmp_path, store):
    ids = store.ids
    lines = [
        f"{ids[3]}#0\ta dog .",
        f"{ids[1]}#0\ta box .",
        f"{ids[3]}#1\tits tail .",
        "unknown.png#0\ta cat .",
        f"{ids[1]}#1\t ",
    ]
    (tmp_path / "captions.tsv").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DataError, match=r"2 of 5 captions of .* are bad"):
        captions_of_regions(tmp_path / "captions.tsv", store)
    found = captions_of_regions(tmp_path / "captions.tsv", store, max_skipped=0.5)
    assert [(found.pictures.ids[row], text) for row, text in zip(found.picture_of, found.texts, strict=True)] == [
        (ids[3], "a dog ."), (ids[1], "a box ."), (ids[3], "its tail .")
    ]  # fmt: skip
    assert set(found.skipped.report()) == {"caption of a picture without regions", "empty caption"}
    assert captions_of_regions(tmp_path / "captions.tsv", store, 0.5).only([ids[1]]).texts == ["a box ."]


def test_what_cannot_be_read_is_refused(store, texts, tokenizer, tmp_path):
    seen = SeenRegions(store, tokenizer)
    with pytest.raises(DataError, match="there is no picture to read"):
        MaskedPictures(seen, np.zeros(0, np.int64), tokenizer)
    with pytest.raises(DataError, match="one picture has no other"):
        MaskedPairs(texts, MaskedPictures(seen, np.zeros(1, np.int64), tokenizer))
    with pytest.raises(DataError, match="no captions file"):
        captions_of_regions(tmp_path / "nothing.tsv", store)


def test_captions_of_two_pictures_of_one_name_are_refused(tmp_path):
    store = make_regions(tmp_path / "regions", ["train/1.jpg", "val/1.jpg"])
    (tmp_path / "captions.tsv").write_text("train/1.jpg#0\ta dog\n")
    with pytest.raises(DataError, match=r"train/1\.jpg and val/1\.jpg are one name"):
        captions_of_regions(tmp_path / "captions.tsv", store)
