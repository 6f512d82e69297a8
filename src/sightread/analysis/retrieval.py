"""Can a token, or a sentence, find its own picture among all of a captioned folder?

Every picture competes with every other, the whole folder is the bank. Special tokens are no queries. A sentence is the
mean of its tokens' vectors. R@k is the share of queries whose picture is among the first k; ranks begin at 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightread.bank import unit_rows
from sightread.data.captions import Captions
from sightread.encoders.features import image_features
from sightread.errors import DataError
from sightread.vokenizer import Vokenizer

Scores = dict[str, float]


def retrieval_scores(
    vokenizer: Vokenizer, captions: Captions, *, cache: Path | None = None, max_skipped: float = 0.1
) -> dict[str, Any]:
    """R@1/5/10 and median rank of tokens and of sentences, beside chance.

    Args:
        vokenizer: Embeds text and pictures.
        captions: The captioned pictures to find; those that cannot be decoded are left out and listed.
        cache: Folder that keeps the pictures' features.
        max_skipped: Share of pictures that may be broken.

    Returns:
        "tokens", "sentences" and "chance", each with `R@1`, `R@5`, `R@10`, `median_rank` and `queries`; the number of
        "pictures"; what was "skipped".
    """
    features, rows, skipped = image_features(
        vokenizer.image_encoder, captions.pictures, cache=cache, max_skipped=max_skipped
    )
    skipped.merge(captions.skipped)
    captions = captions.keep_pictures(rows)
    encoded = vokenizer.tokenizer(captions.texts, add_special_tokens=False)["input_ids"]
    vectors = vokenizer.token_vectors([np.array(ids, dtype=np.int64) for ids in encoded])
    kept = [i for i, vector in enumerate(vectors) if len(vector)]
    if not kept:
        raise DataError("not one caption holds a token")
    tokens = np.concatenate([vectors[i].numpy() for i in kept])
    own = np.repeat(captions.picture_of[kept], [len(vectors[i]) for i in kept])
    sentences = np.stack([vectors[i].numpy().mean(axis=0) for i in kept])
    pictures = vokenizer.image_vectors(features)
    return {
        "tokens": scores_of(ranks_of_own(tokens, own, pictures)),
        "sentences": scores_of(ranks_of_own(sentences, captions.picture_of[kept], pictures)),
        "chance": chance(len(pictures)),
        "pictures": len(pictures),
        "skipped": skipped.report(),
    }


def ranks_of_own(queries: np.ndarray, own: np.ndarray, pictures: np.ndarray, block: int = 4096) -> np.ndarray:
    """Rank of each query's own picture, 1 the best; of equal scores the lower row comes first.

    Args:
        queries: float32 (N, E).
        own: Row of each query's picture, int64 (N,).
        pictures: float32 (V, E).
        block: Queries scored at a time.

    Returns:
        int64 (N,).
    """
    ranks = np.zeros(len(queries), dtype=np.int64)
    keys, rows = torch.from_numpy(pictures), np.arange(len(pictures))
    for begin in range(0, len(queries), block):
        within = slice(begin, begin + block)
        scores = (torch.from_numpy(queries[within]) @ keys.T).numpy()
        mine = np.take_along_axis(scores, own[within, None], axis=1)
        earlier = (scores == mine) & (rows < own[within, None])
        ranks[within] = 1 + (scores > mine).sum(axis=1) + earlier.sum(axis=1)
    return ranks


def scores_of(ranks: np.ndarray) -> Scores:
    """R@1/5/10 and median of ranks, with the number of queries."""
    recall = {f"R@{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
    return {**recall, "median_rank": float(np.median(ranks)), "queries": len(ranks)}


def chance(num_pictures: int) -> Scores:
    """What guessing would score."""
    recall = {f"R@{k}": min(k / num_pictures, 1.0) for k in (1, 5, 10)}
    return {**recall, "median_rank": (num_pictures + 1) / 2}


def bag_of_words_scores(
    train: Captions, train_features: np.ndarray, test: Captions, test_features: np.ndarray
) -> Mapping[str, Scores]:
    """A baseline without context: ridge regression from the words of a caption to the feature of its picture.

    A sentence is the prediction for its bag of words, a token the prediction for its word alone; both look for their
    picture by cosine. Words that the training captions lack are no queries.

    Args:
        train: Captions to learn from.
        train_features: Features of their pictures, float32 (V, F).
        test: Captions to score.
        test_features: Features of their pictures, float32 (V, F).
    """
    from scipy.linalg import solve
    from sklearn.feature_extraction.text import CountVectorizer

    mean, scale = train_features.mean(axis=0), train_features.std(axis=0) + 1e-6
    words = CountVectorizer(binary=True, min_df=2, token_pattern=r"\w+")
    bags = words.fit_transform(train.texts)
    targets = ((train_features - mean) / scale)[train.picture_of]
    gram = (bags.T @ bags).toarray() + 10.0 * np.eye(bags.shape[1])
    weights = solve(gram, bags.T @ targets, assume_a="pos")  # (words, F)
    pictures = unit_rows((test_features - mean) / scale)
    sentences = unit_rows(words.transform(test.texts) @ weights)
    spoken = _word_queries(test.texts, test.picture_of, words)
    return {
        "tokens": scores_of(ranks_of_own(unit_rows(weights)[spoken[0]], spoken[1], pictures)),
        "sentences": scores_of(ranks_of_own(sentences, test.picture_of, pictures)),
    }


def _word_queries(texts: Sequence[str], picture_of: np.ndarray, words: Any) -> tuple[np.ndarray, np.ndarray]:
    split = words.build_analyzer()
    pairs = [
        (words.vocabulary_[word], picture)
        for text, picture in zip(texts, picture_of, strict=True)
        for word in split(text)
        if word in words.vocabulary_
    ]
    columns, pictures = zip(*pairs, strict=True)
    return np.array(columns, dtype=np.int64), np.array(pictures, dtype=np.int64)
