"""Small random banks with captions and word vectors, for the tests of associations."""

from pathlib import Path

import numpy as np

from sightread.association.words import WordVectors
from sightread.bank import ImageBank
from sightread.data.captions import Captions
from sightread.data.images import PictureFiles
from sightread.data.skipped import Skipped

WORDS = ["dog", "cat", "red", "ball", "river", "tree", "fire", "house"]
OTHERS = ["the", "on", "of", "zyx"]  # stop words, and one that has no vector


def random_texts(rng, count):
    """Texts of 0 to 6 words; every word may come again."""
    return [" ".join(rng.choice(WORDS + OTHERS, rng.integers(7))) for _ in range(count)]


def random_vectors(rng):
    """A vector of width 3 for each word."""
    return WordVectors(WORDS, rng.standard_normal((len(WORDS), 3)).astype(np.float32))


def make_bank(ids, seed=0):
    features = np.random.default_rng(seed).standard_normal((len(ids), 4)).astype(np.float32)
    return ImageBank(ids, features, [""] * len(ids))


def make_captions(pairs):
    """Captions of (picture's id, caption)."""
    ids = list(dict.fromkeys(id_ for id_, _ in pairs))
    of = np.array([ids.index(id_) for id_, _ in pairs], dtype=np.int64)
    return Captions(PictureFiles(ids, [Path(id_) for id_ in ids]), [text for _, text in pairs], of, Skipped())


def random_bank(rng):
    """A bank in another order than its captions, which are also of other pictures, and not of all of them."""
    ids = [f"p{i}" for i in rng.permutation(rng.integers(2, 9))]
    pairs = [(f"p{i}", text) for i in range(10) for text in random_texts(rng, rng.integers(4))]
    return make_bank(ids), [*pairs, (ids[0], "dog"), (ids[1], "dog")]  # there is a caption, and a tie


def padded(best, k):
    """The first k, filled up with -1."""
    return [*best[:k], *[-1] * (k - len(best))]
