"""What a voken corpus holds of each token type: how many pictures, how evenly, with what score (Tan & Bansal 2020).

A type that occurs n times, n_v of these with the picture v, has the entropy H = -Σ n_v / n log₂(n_v / n) in bits: 0 if
all have one picture. Its score is the mean over its tokens of that of their voken, and says how sure the vokenizer is
of it: how grounded the type is.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from sightread.analysis.tally import Tally, first_of_each, tally
from sightread.data.voken_corpus import Shard, VokenCorpus, read_shard
from sightread.data.words import WORD, lowered
from sightread.errors import DataError

HEADER = ("type", "tokens", "pictures", "entropy", "score")


@dataclass(frozen=True)
class VokenStatistics:
    """Statistics of a voken corpus; those of types are aligned, in the order of token ids.

    Attributes:
        tokens: Tokens.
        without: Tokens without a voken.
        chosen: How often each picture was chosen, int64 (V,).
        types: The types, as the tokenizer writes them.
        occurrences: Tokens of each type that have a voken, int64.
        pictures: How many different pictures they have, int64.
        entropy: In bits, float64.
        scores: Mean score, float64; NaN where the corpus keeps none.
        words: Of the types that are whole words where they stand: how often, and the mean score there.
    """

    tokens: int
    without: int
    chosen: np.ndarray
    types: list[str]
    occurrences: np.ndarray
    pictures: np.ndarray
    entropy: np.ndarray
    scores: np.ndarray
    words: dict[str, tuple[int, float]]

    @property
    def share_used(self) -> float:
        """Share of the bank's pictures that some token chose."""
        return float((self.chosen > 0).mean())

    @property
    def share_of_favourites(self) -> float:
        """Share of tokens that have one of the most chosen hundredth of the pictures."""
        favourites = np.sort(self.chosen)[-max(round(len(self.chosen) / 100), 1) :]
        return float(favourites.sum() / self.chosen.sum())

    @property
    def mean_entropy(self) -> float:
        """Of the picture given the type, over tokens, in bits."""
        return float(np.average(self.entropy, weights=self.occurrences))

    def extremes(self, *, least: int, count: int) -> tuple[list[int], list[int]]:
        """Rows of the types of highest and of lowest score, the most extreme first, among those with `least` tokens."""
        rows = np.flatnonzero((self.occurrences >= least) & np.isfinite(self.scores))
        rows = rows[np.argsort(-self.scores[rows], kind="stable")]
        return rows[:count].tolist(), rows[::-1][:count].tolist()


def voken_statistics(corpus: VokenCorpus, tokenizer: Any) -> VokenStatistics:
    """Read a voken corpus, shard by shard.

    Args:
        corpus: The corpus; scores are read if it keeps the best pictures of each token.
        tokenizer: Its tokenizer.

    Raises:
        DataError: If no token has a voken.
    """
    names = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    is_wordy = np.array([any(map(str.isalnum, name or "")) for name in names])
    pairs, base = Tally(), corpus.num_vokens + 1
    scored, whole = (np.zeros((2, len(names))) for _ in range(2))  # how many of each type, and the sum of their scores
    for path in corpus.shards:
        shard = read_shard(path, corpus.top)
        has = shard.voken_ids < corpus.num_vokens
        pairs.add(tally(shard.token_ids[has].astype(np.int64) * base + shard.voken_ids[has]))
        if shard.top_scores is not None:
            for sums, chosen in ((scored, has), (whole, has & _is_whole(shard, is_wordy))):
                ids, scores = shard.token_ids[chosen], shard.top_scores[chosen, 0].astype(np.float64)
                sums += [np.bincount(ids, minlength=len(names)), np.bincount(ids, scores, minlength=len(names))]
    keys, times = pairs.total()
    if not len(keys):
        raise DataError(f"{corpus.path} has no vokens; run `sightread vokenize` with a vokenizer")
    return _statistics(corpus, names, keys, times, scored, _words(names, whole))


def _is_whole(shard: Shard, is_wordy: np.ndarray) -> np.ndarray:
    """Whether each token is a word by itself: none with letters or digits touches it, bool (T,)."""
    wordy = is_wordy[shard.token_ids]
    touches = wordy[:-1] & wordy[1:] & (shard.ends[:-1] == shard.starts[1:])
    touches[shard.begins[1:-1][(shard.begins[1:-1] > 0) & (shard.begins[1:-1] < len(wordy))] - 1] = False
    return wordy & ~np.append(touches, False) & ~np.insert(touches, 0, False)


def _words(names: list[str], whole: np.ndarray) -> dict[str, tuple[int, float]]:
    sums = dict[str, np.ndarray]()
    for row in np.flatnonzero(whole[0]):
        word = lowered(names[row].lstrip("Ġ▁"))  # types that differ in case or in a space before are one word
        if WORD.fullmatch(word):
            sums[word] = sums.get(word, 0) + whole[:, row]
    return {word: (int(times), float(total / times)) for word, (times, total) in sums.items()}


def _statistics(
    corpus: VokenCorpus, names: list[str], keys: np.ndarray, times: np.ndarray, scored: np.ndarray,
    words: dict[str, tuple[int, float]],
) -> VokenStatistics:  # fmt: skip
    types, vokens = np.divmod(keys, corpus.num_vokens + 1)
    begins = first_of_each(types)
    occurrences = np.add.reduceat(times, begins)
    spread = np.add.reduceat(times * np.log2(times), begins) / occurrences
    with np.errstate(invalid="ignore"):
        scores = scored[1] / scored[0]
    return VokenStatistics(
        tokens=corpus.num_tokens, without=corpus.num_tokens - int(times.sum()),
        chosen=np.bincount(vokens, times, minlength=corpus.num_vokens).astype(np.int64),
        types=[names[row] for row in types[begins]], occurrences=occurrences,
        pictures=np.diff(begins, append=len(types)), entropy=np.log2(occurrences) - spread,
        scores=scores[types[begins]], words=words,
    )  # fmt: skip


def as_markdown(found: VokenStatistics, *, least: int = 50, count: int = 20) -> str:
    """What is in it in a few lines, and its most and least grounded types among those with `least` tokens."""
    frequent = found.occurrences >= least
    lines = [
        f"- {found.tokens:,} tokens of {len(found.types):,} types, {found.without:,} tokens without a voken",
        f"- {found.share_used:.1%} of {len(found.chosen):,} pictures chosen; the favourite hundredth of them has "
        f"{found.share_of_favourites:.1%} of the tokens",
        f"- pictures a type: {found.pictures.mean():.1f}"
        + (f"; of those with {least} tokens or more {found.pictures[frequent].mean():.1f}" if frequent.any() else ""),
        f"- entropy of the picture given the type: {found.mean_entropy:.2f} bits, a mean over tokens",
    ]
    if not np.isfinite(found.scores).any():
        return "\n".join([*lines, "- no scores: vokenize with --top 2 or more to have them", ""])
    for name, rows in zip(("most", "least"), found.extremes(least=least, count=count), strict=True):
        if rows:
            lines += ["", f"The {name} grounded types:", "", f"| {' | '.join(HEADER)} |", "| --- " * len(HEADER) + "|"]
            lines += [f"| {' | '.join(_row(found, row))} |" for row in rows]
    return "\n".join([*lines, ""])


def as_csv(found: VokenStatistics) -> str:
    """A line for each type, in the order of `HEADER`."""
    file = io.StringIO()
    rows = zip(found.types, *(column.tolist() for column in _columns(found)), strict=True)
    csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    return file.getvalue()


def _columns(found: VokenStatistics) -> tuple[np.ndarray, ...]:
    return found.occurrences, found.pictures, found.entropy, found.scores


def _row(found: VokenStatistics, row: int) -> list[str]:
    times, pictures, entropy, score = (column[row] for column in _columns(found))
    return [f"`{found.types[row]}`", f"{times:,}", f"{pictures:,}", f"{entropy:.2f}", f"{score:.3f}"]
