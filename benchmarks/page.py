"""How fast the page answers, over HTTP; prints one table.

    python benchmarks/page.py [--pictures N] [--clients N]

The vokenizer is that of `vokenization.py`: a BERT of MiniLM's shape and 50,000 × 64 random unit keys. `sightread serve`
runs in a process of its own. A question is 30 made-up words, each one token, and its answer the best eight pictures of
each. First one client asks, one question after the other, then many at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
from measuring import Row, table

from vokenization import PICTURES, build, made_up_text

TOKENS, ALONE, EACH = 30, 50, 10


@contextmanager
def serving(vokenizer: Path) -> Iterator[str]:
    """The address of a server."""
    code = "from sightread.cli import app; app()"
    command = [sys.executable, "-c", code, "serve", "--vokenizer", str(vokenizer), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield next(word for word in server.stdout.readline().split() if word.startswith("http")).rstrip(";")
        server.terminate()


def questions(count: int) -> list[dict[str, object]]:
    """Texts that differ."""
    rng, words = np.random.default_rng(0), sorted({word for line in made_up_text(4000) for word in line.split()})
    return [{"text": " ".join(rng.choice(words, TOKENS)), "vokenizers": ["vokenizer"]} for _ in range(count)]


def ask(address: str, asked: list[dict[str, object]]) -> list[float]:
    """Seconds of each answer to one client; an error of the server's ends the benchmark."""
    seconds = []
    with httpx2.Client(base_url=address, timeout=60) as client:
        for question in asked:
            began = time.perf_counter()
            answer = client.post("/api/vokens", json=question).raise_for_status().json()
            seconds.append(time.perf_counter() - began)
            assert len(answer[0]["tokens"]) == TOKENS
    return seconds


def in_words(seconds: list[float]) -> str:
    """Median, and what 95 in 100 stay under."""
    return "median {:.0f} ms, 95 % under {:.0f} ms".format(*(1000 * np.quantile(seconds, [0.5, 0.95])))


def rows(pictures: int = PICTURES, clients: int = 20) -> list[Row]:
    """What was measured, and the number with its unit."""
    with tempfile.TemporaryDirectory() as name, serving(build(Path(name) / "vokenizer", None, pictures)) as address:
        asked = questions(1 + ALONE + clients * EACH)
        first, alone = ask(address, asked[:1]), ask(address, asked[1 : 1 + ALONE])
        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            parts = [asked[1 + ALONE + i :: clients] for i in range(clients)]
            many = [seconds for part in pool.map(lambda part: ask(address, part), parts) for seconds in part]
        rate = len(many) / (time.perf_counter() - began)
    what = f"{TOKENS} tokens, {pictures:,} pictures"
    return [
        (f"first answer, {what}", f"{1000 * first[0]:.0f} ms"),
        (f"one client, {len(alone)} answers", in_words(alone)),
        (f"{clients} clients at once, {len(many)} answers", f"{in_words(many)}, {rate:.1f} a second, no error"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--clients", type=int, default=20)
    table(rows(**vars(parser.parse_args())))
