"""BERT's token masking (Devlin et al. 2019, section 3.1), from a generator that the caller keys."""

from __future__ import annotations

import numpy as np

from sightread.contracts import IGNORED


def mask_tokens(
    token_ids: np.ndarray,
    rng: np.random.Generator,
    *,
    mask_id: int,
    vocab_size: int,
    probability: float = 0.15,
    maskable: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide a random share of tokens: 80 % become the mask, 10 % a random token, 10 % stay.

    Args:
        token_ids: int64 (L,).
        rng: Source of every draw; the number of draws depends on L alone.
        mask_id: Id of the mask token.
        vocab_size: Random tokens are drawn below this.
        probability: Chance of each position to be chosen.
        maskable: bool (L,), False for special tokens, which are never chosen.

    Returns:
        The input ids and the labels, both int64 (L,); labels are `IGNORED` where nothing was hidden.
    """
    draw, kind = rng.random(len(token_ids)), rng.random(len(token_ids))
    substitute = rng.integers(vocab_size, size=len(token_ids))
    chosen = draw < probability
    if maskable is not None:
        chosen &= maskable
    labels = np.where(chosen, token_ids, IGNORED)
    hidden = np.where(kind < 0.8, mask_id, np.where(kind < 0.9, substitute, token_ids))
    return np.where(chosen, hidden, token_ids), labels
