import numpy as np
import pytest
import torch

from sightread.contracts import IGNORED
from sightread.data.captioned import DrawnCaptions, MaskedCaptions
from sightread.errors import ConfigError, DataError
from sightread.runtime import keyed_rng

N, F = 4, 3


@pytest.fixture(scope="module")
def features(captions):
    return keyed_rng(3).standard_normal((len(captions.pictures), N, F)).astype(np.float32)


@pytest.fixture(scope="module")
def of(captions, features, tokenizer):
    def make(hides, **settings):
        return MaskedCaptions(captions, features, tokenizer, max_length=16, hides=hides, **settings)

    return make


def examples(masked, seeds=range(5)):
    return [masked.example(i, keyed_rng(seed, i)) for seed in seeds for i in range(len(masked))]


def test_either_words_or_regions_are_hidden_and_the_draw_is_the_same(of, tokenizer):
    words, regions, either = (examples(of(hides)) for hides in ("words", "regions", "either"))
    chosen = []
    for of_words, of_regions, by_lot in zip(words, regions, either, strict=True):
        assert not of_words["hidden"].any()
        assert (of_regions["lm_labels"] == IGNORED).all()
        masked = of_words["lm_labels"] != IGNORED
        assert np.array_equal(of_words["lm_labels"][masked], of_regions["input_ids"][masked])
        assert np.array_equal(of_words["input_ids"][~masked], of_regions["input_ids"][~masked])
        chosen.append(bool(by_lot["hidden"].any()))
        whole = of_regions if chosen[-1] else of_words
        assert all(np.array_equal(by_lot[name], whole[name]) for name in whole)
        specials = np.isin(of_regions["input_ids"], [tokenizer.cls_token_id, tokenizer.sep_token_id])
        assert not masked[specials].any()
    assert 0.35 < np.mean(chosen) < 0.65


@pytest.mark.parametrize("share", [0.0, 0.15, 0.7])
def test_so_many_regions_are_hidden_and_one_at_least(of, share):
    hidden = np.stack([example["hidden"] for example in examples(of("regions", region_probability=share))])
    assert hidden.sum(axis=1).min() >= 1
    none = (1 - share) ** N  # then one is taken all the same
    assert hidden.mean() == pytest.approx(share + none / N, abs=0.04)
    assert hidden.any(axis=0).all()


def test_a_batch_holds_captions_with_their_pictures(of, captions, features, tokenizer):
    drawn = DrawnCaptions(of("words", probability=0.5), 3)
    rows = [drawn.draw(keyed_rng(seed), {}) for seed in (0, 1)]
    batch, pictures = drawn.collate(rows), [example["picture"] for row in rows for example in row]
    assert {name.removeprefix("caption_") for name in batch} == {
        "input_ids", "attention_mask", "lm_labels", "images", "hidden"
    }  # fmt: skip
    assert torch.equal(batch["caption_images"], torch.from_numpy(features[pictures]))
    for ids, mask, labels, picture in zip(
        batch["caption_input_ids"], batch["caption_attention_mask"], batch["caption_lm_labels"], pictures, strict=True
    ):
        told = torch.where(labels == IGNORED, ids, labels)[mask.bool()][1:-1].tolist()
        texts = [captions.texts[i] for i in np.flatnonzero(captions.picture_of == picture)]
        assert told in tokenizer(texts, add_special_tokens=False)["input_ids"]
    again = drawn.collate([drawn.draw(keyed_rng(seed), {}) for seed in (0, 1)])
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_masks_do_not_depend_on_the_number_of_regions(captions, tokenizer):
    for hides in ("words", "either"):
        drawn = []
        for count in (1, 5):
            features = np.zeros((len(captions.pictures), count, F), dtype=np.float32)
            masked = MaskedCaptions(captions, features, tokenizer, max_length=16, hides=hides)
            drawn.append(DrawnCaptions(masked, 6).draw(keyed_rng(2), {}))
        for few, many in zip(*drawn, strict=True):
            assert few["picture"] == many["picture"]
            assert all(np.array_equal(few[name], many[name]) for name in ("input_ids", "lm_labels"))


def test_what_does_not_fit_is_refused(of, captions, features, tokenizer):
    with pytest.raises(ConfigError, match="hides is 'word'"):
        of("word")
    with pytest.raises(DataError, match=f"{len(features) - 1} features of {len(features)} pictures"):
        MaskedCaptions(captions, features[1:], tokenizer, max_length=8)
