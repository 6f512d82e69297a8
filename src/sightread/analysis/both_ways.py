"""Do texts find their picture in a joint embedding, and pictures their texts? R@1/5/10 and median rank, both ways."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sightread.analysis.retrieval import chance, ranks_of_own, scores_of
from sightread.association.semantic_visual import JointEmbedding
from sightread.data.captions import Captions
from sightread.encoders.feature_maps import FeatureMaps
from sightread.errors import DataError


def both_ways(
    embedding: JointEmbedding, captions: Captions, *, cache: Path | None = None, max_skipped: float = 0.1
) -> dict[str, Any]:
    """Each text seeks its picture among all, each picture the first of its texts among all.

    Args:
        embedding: The embedding.
        captions: Captioned pictures, best such as it has not learnt from. Texts without a known word are no queries.
        cache: Folder that keeps the feature maps.
        max_skipped: Share of pictures that may be broken.

    Returns:
        "texts", "pictures" and "chance" of texts, each as `scores_of` gives them, and "skipped": what was left out.
    """
    with tempfile.TemporaryDirectory() as aside:
        maps = FeatureMaps(embedding.image_encoder, captions.pictures, cache or Path(aside), max_skipped=max_skipped)
        pictures, _ = embedding.image_vectors(maps)
        captions = captions.keep_pictures(maps.rows)
    texts = embedding(captions.texts)
    known, skipped = texts.any(axis=1), maps.skipped
    if not known.any():
        raise DataError(f"not one of {len(texts)} captions holds a known word")
    for row in np.flatnonzero(~known):
        skipped.add("caption without a known word", f"{captions.texts[row]!r:.80}")
    return scores_both_ways(texts[known], pictures, captions.picture_of[known]) | {"skipped": skipped.report()}


def scores_both_ways(texts: np.ndarray, pictures: np.ndarray, picture_of: np.ndarray) -> dict[str, Any]:
    """Scores of texts that seek pictures; of pictures that seek texts, of which the best of its own counts; by chance.

    Args:
        texts: float32 (N, E).
        pictures: float32 (V, E).
        picture_of: Row of each text's picture, int64 (N,).
    """
    of_texts = ranks_of_own(pictures[picture_of], np.arange(len(texts)), texts)
    best = np.full(len(pictures), len(texts) + 1)
    np.minimum.at(best, picture_of, of_texts)
    return {
        "texts": scores_of(ranks_of_own(texts, picture_of, pictures)),
        "pictures": scores_of(best[np.unique(picture_of)]),
        "chance": chance(len(pictures)),
    }
