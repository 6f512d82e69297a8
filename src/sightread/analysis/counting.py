"""Counts of whole corpora: streaming, by several processes.

Chunks of lines are counted by whoever is free and added up in their order, so that the counts do not depend on how many
count. Memory is that of the counts, whatever the length of the corpus.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from sightread.analysis.ngrams import Counts, Sums, Tokens, count, words_and_marks
from sightread.artifacts import digest, digest_file
from sightread.data.captions import read_pairs
from sightread.data.corpora import Corpus
from sightread.data.skipped import Skipped
from sightread.errors import DataError, SightreadError

CHUNK = 1 << 22  # characters of text that are counted at a time
_CAPTIONS = (".json", ".tsv", ".csv")


class Texts:
    """The lines of several places, one after the other: captions of a captions file, else what `Corpus` reads.

    Args:
        places: Text, or captions as `.json`, `.tsv` or `.csv`, `.gz` too; the pictures need not be there.

    Attributes:
        skipped: What the last pass left out.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.sources = [Path(p) if p.removesuffix(".gz").endswith(_CAPTIONS) else Corpus(p) for p in places]
        for path in self.sources:
            if isinstance(path, Path) and not path.is_file():
                raise DataError(f"no captions file at {path}")
        self.skipped = Skipped()

    def __iter__(self) -> Iterator[str]:
        self.skipped = Skipped()
        for source in self.sources:
            if isinstance(source, Path):
                yield from (caption for _, caption, _ in read_pairs(source, self.skipped))
            else:
                yield from source
                self.skipped.merge(source.skipped)

    @property
    def digest(self) -> str:
        """Digest of what is read."""
        return digest(*(digest_file(s) if isinstance(s, Path) else s.digest for s in self.sources))


def count_all(
    lines: Iterable[str], row_of: dict[str, int], *, tokens: Tokens = words_and_marks, workers: int = 1
) -> Counts:
    """Counts of a corpus.

    Args:
        lines: The corpus.
        row_of: Rows of the types that are known from other corpora; the new ones are added.
        tokens: How sentences fall into tokens.
        workers: Processes that count.

    Raises:
        SightreadError: If a worker dies.
    """
    sums, chunks = Sums(row_of), _chunks(lines)
    if workers == 1:
        for chunk in chunks:
            sums.add(count(chunk, tokens))
        return sums.total()
    # A forked worker need not import anything again
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    try:
        with ProcessPoolExecutor(workers, context, _begin_worker, (tokens,)) as pool:
            waiting = deque[Future[Counts]]()
            for chunk in chunks:
                waiting.append(pool.submit(_count_here, chunk))
                if len(waiting) > 2 * workers:
                    sums.add(waiting.popleft().result())
            while waiting:
                sums.add(waiting.popleft().result())
    except BrokenProcessPool as error:
        raise SightreadError("a worker died, perhaps for lack of memory; run again with fewer --workers") from error
    return sums.total()


_tokens: Tokens


def _begin_worker(tokens: Tokens) -> None:
    global _tokens  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it
    _tokens = tokens


def _count_here(lines: Sequence[str]) -> Counts:
    return count(lines, _tokens)


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    held, size = list[str](), 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= CHUNK:
            yield held
            held, size = [], 0
    if held:
        yield held
