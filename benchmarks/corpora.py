"""How fast this machine counts corpora, and how much of that two processes gain; prints one table.

    python benchmarks/corpora.py

Counts words and punctuation marks, and pairs of them: of the Wikipedia sample where `SIGHTREAD_DATA` is set, else of
made-up text with Zipf's frequencies. Words a second of processor time, of all processes, tell the speed where others
use the cores too.
"""

from __future__ import annotations

import os
import resource
import time

import numpy as np
from measuring import Row, table

from sightread.analysis.counting import count_all
from sightread.data.corpora import Corpus
from sightread.runtime import data_root, num_cores

WORDS, TYPES, SENTENCE = 8_000_000, 200_000, 25


def made_up() -> list[str]:
    """Lines of four sentences of 25 words, type i about as frequent as 1 / (i + 3)."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 12, TYPES)
    types = ["".join(map(chr, rng.integers(97, 123, length))) for length in lengths]
    ranks = np.exp(rng.random(WORDS) * np.log(TYPES / 3)) * 3 - 3
    words = [types[rank] for rank in ranks.astype(np.int64)]
    sentences = [" ".join(words[i : i + SENTENCE]).capitalize() + "." for i in range(0, WORDS, SENTENCE)]
    return [" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]


def processor_seconds() -> float:
    """Of this process and those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def rows() -> list[Row]:
    """What was measured, and the number with its unit."""
    root, found = data_root(), []
    path = root / "corpora" / "enwiki-sample" / "train.txt.gz" if root else None
    real = path is not None and path.is_file()
    lines = list(Corpus(str(path))) if real else made_up()
    words = sum(len(line.split()) for line in lines)
    for workers in (1, num_cores()):
        began, before = time.perf_counter(), processor_seconds()
        count_all(lines, {}, workers=workers)
        seconds, spent = time.perf_counter() - began, processor_seconds() - before
        rate = f"{words / seconds / 1e6:.2f} M words/s, {words / spent / 1e6:.2f} M a processor second"
        name = f"counting {'Wikipedia' if real else 'made-up text'}, {words / 1e6:.1f} M words, {workers} workers"
        found.append((name, f"{rate} (load {os.getloadavg()[0]:.1f})"))
    return found


if __name__ == "__main__":
    table(rows())
