"""Regions of made-up pictures, for tests."""

import numpy as np

from sightread.data.regions import Part, Regions, RegionStore, write_regions

TAGS = ("dog", "red box", "tennis racket", "cat", "")


def make_regions(folder, ids, width=6, seed=0, most=4, tags=TAGS) -> RegionStore:
    """A store of the pictures `ids`, each with 0 to `most` random regions of width `width`, in two shards."""
    rng, ids = np.random.default_rng(seed), list(ids)
    regions = [random_regions(rng, rng.integers(most + 1), width, tags) for _ in ids]
    half = (len(ids) + 1) // 2
    parts = [Part(ids[:half], regions[:half]), Part(ids[half:], regions[half:])]
    return write_regions([lambda part=part: part for part in parts], folder, width=width)


def random_regions(rng, count, width, tags=TAGS):
    corners = np.sort(rng.random((count, 2, 2)), axis=1)  # the smaller of x and of y first
    vectors = rng.normal(size=(count, width)).astype(np.float32)
    scores = -np.sort(-rng.random(count)).astype(np.float32)
    return Regions(corners.reshape(count, 4).astype(np.float32), vectors, list(rng.choice(tags, count)), scores)
