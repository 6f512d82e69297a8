"""How fast this machine vokenizes and revokenizes, end to end, as commands; prints one table.

    python benchmarks/vokenization.py [--corpus FILE] [--encoder FOLDER] [--lines N] [--tokenizer FOLDER] [--pictures N]

Without arguments: a BERT of MiniLM's shape (6 layers × 384, the last four side by side, heads 256 -> 64) with random
weights, 50,000 × 64 random unit keys, and made-up text whose words and paragraphs are as often and as long as
Wikipedia's. Rates are of the fastest of three runs, start and writing included; the ceiling is what the matrix products
alone would take at the matrix rates of encoding and of searching, the means of those right before and right after it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Row, fastest, matrix_rate, table, watched
from transformers import BertConfig, BertModel

from sightread.bank import ImageBank, unit_rows
from sightread.data.corpora import Corpus
from sightread.data.voken_corpus import Shard, VokenCorpus
from sightread.encoders.image import build_small_image_encoder
from sightread.encoders.text import TextEncoder, build_word_tokenizer, load_tokenizer
from sightread.modules.heads import ProjectionHead
from sightread.runtime import Clock, has_fast_bf16, keyed_rng
from sightread.vokenization.job import engine_of, write_corpus
from sightread.vokenization.revokenize import revokenize
from sightread.vokenization.work import LINES_AT_ONCE, Work, tokenize_lines
from sightread.vokenizer import Vokenizer, VokenizerConfig

PICTURES, WIDTH, HIDDEN, LINES, RUNS = 50_000, 64, 256, 8000, 3
LAYERS = (-4, -3, -2, -1)


def made_up_text(lines: int) -> list[str]:
    """Paragraphs of words that follow Zipf's law; some are headings."""
    rng = np.random.default_rng(0)
    words = np.array(
        ["".join(rng.choice(list("abcdefghijklmnoprstuw"), length)) for length in rng.integers(2, 9, 20_000)]
    )
    weights = 1 / np.arange(1, len(words) + 1)
    lengths = np.maximum(rng.lognormal(4.2, 0.6, lines).astype(int), 3)
    return [" ".join(rng.choice(words, length, p=weights / weights.sum())) for length in lengths]


def build(folder: Path, encoder: str | None, pictures: int) -> Path:
    """A vokenizer with random heads."""
    torch.manual_seed(0)
    if encoder:
        text = TextEncoder.from_pretrained(encoder, LAYERS)
    else:
        sizes = {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536}
        words = sorted({word for line in made_up_text(LINES) for word in line.split()})
        text = TextEncoder(BertModel(BertConfig(**sizes)).eval(), build_word_tokenizer(words), LAYERS)
    heads = [ProjectionHead(width, HIDDEN, WIDTH) for width in (text.width, WIDTH)]
    keys = unit_rows(np.random.default_rng(0).standard_normal((pictures, WIDTH)))
    bank = ImageBank([str(i) for i in range(pictures)], keys, [""] * pictures)
    config = VokenizerConfig(layers=LAYERS, hidden=HIDDEN, width=WIDTH, max_length=256)
    Vokenizer(config, text, heads[0], build_small_image_encoder(64), heads[1], bank).save_pretrained(folder)
    return folder


def operations(vokenizer: Path) -> tuple[float, float]:
    """Operations a token of the matrix products: to encode (attention scores left out), and to search."""
    model: dict[str, Any] = json.loads((vokenizer / "text_encoder" / "config.json").read_text())
    wide, inner, layers = model["hidden_size"], model["intermediate_size"], model["num_hidden_layers"]
    head = len(LAYERS) * wide * HIDDEN + HIDDEN * WIDTH
    pictures = len((vokenizer / "bank" / "pictures.jsonl").read_text().splitlines())
    return 2.0 * (layers * (4 * wide**2 + 2 * wide * inner) + head), 2.0 * pictures * WIDTH


def command(*arguments: object) -> tuple[float, float]:
    """Seconds of a command of sightread, and megabytes of its largest process."""
    began = time.perf_counter()
    code = [sys.executable, "-c", "from sightread.cli import app; app()", *map(str, arguments)]
    with subprocess.Popen(code, stdout=subprocess.DEVNULL) as process:
        memory = watched(process)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, code)
    return time.perf_counter() - began, memory


def rows(
    corpus: Path | None = None, encoder: str | None = None, tokenizer: str | None = None, lines: int = LINES,
    pictures: int = PICTURES,
) -> list[Row]:  # fmt: skip
    """Vokenization and revokenization."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = corpus or folder / "corpus.txt"
        if corpus is None:
            text.write_text("\n".join(made_up_text(lines)))
        vokenizer = build(folder / "vokenizer", encoder, pictures)
        verb = ("vokenize", "--corpus", text, "--max-lines", lines, "--vokenizer", vokenizer, "--overwrite")
        found = [
            _vokenized((*verb, "--out", folder / "vokens"), folder / "vokens", precision, operations(vokenizer))
            for precision in (("fp32", "bf16") if has_fast_bf16() else ("fp32",))
        ]
        source = load_tokenizer(folder / "vokens" / "tokenizer")
        return [*found, *revokenization(source, load_tokenizer(tokenizer) if tokenizer else source, text, folder)]


def _vokenized(verb: Sequence[object], vokens: Path, precision: str, needed: tuple[float, float]) -> Row:
    """Vokenization, some times over, each between two looks at the matrix rate."""
    seconds, rates, memory = [], [_rates(precision)], 0.0
    for _ in range(RUNS):
        spent, held = command(*verb, "--precision", precision)
        seconds.append(spent)
        memory = max(memory, held)
        rates.append(_rates(precision))
    made, first = VokenCorpus(vokens), seconds.index(min(seconds))
    beside = [(before + after) / 2 for before, after in zip(rates[first], rates[first + 1], strict=True)]
    rate = made.num_tokens / min(seconds)
    ceiling = 1 / sum(work / rate for work, rate in zip(needed, beside, strict=True))
    what = f"vokenize {made.num_tokens:,} tokens, {precision}"
    at = " and ".join(f"{each / 1e9:.0f}" for each in beside)
    share = f"{rate / ceiling:.0%} of the ceiling {ceiling:,.0f} at {at} GFLOP/s"
    all_rates = ", ".join(f"{made.num_tokens / each:,.0f}" for each in seconds)
    return what, f"{rate:,.0f} tokens/s ({all_rates}), {share}; {memory:,.0f} MB in a process"


def _rates(precision: str) -> tuple[float, float]:
    """The matrix rates of encoding and of searching, which is exact."""
    single = matrix_rate()
    return (matrix_rate(torch.bfloat16) if precision == "bf16" else single), single


class Draw(Work):
    """Lines -> tokens with pictures drawn by lot, in no time."""

    num_vokens = PICTURES

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, index: int, task: list[str], clock: Clock) -> Shard:
        shard = tokenize_lines(self.tokenizer, task)
        return replace(shard, voken_ids=keyed_rng(index).integers(PICTURES, size=len(shard.token_ids)))


def revokenization(source: Any, target: Any, text: Path, folder: Path) -> list[Row]:
    """Revokenization beside the target tokenizer alone, both on all cores, of ten times the text."""
    lines = [*Corpus(text)] * 10
    (folder / "long.txt").write_text("\n".join(lines))
    vokens = write_corpus(Draw(source), Corpus(folder / "long.txt"), source, folder / "drawn", inputs={"bank": ""})

    def revokenized() -> None:
        revokenize(vokens, target, folder / "other", overwrite=True, engine=engine_of("local", None))

    def alone() -> None:
        for begin in range(0, len(lines), LINES_AT_ONCE):
            target(lines[begin : begin + LINES_AT_ONCE], add_special_tokens=False, verbose=False)

    seconds = fastest(revokenized), fastest(alone)  # in this order, as threads of the tokenizer do not survive a fork
    tokens = VokenCorpus(folder / "other").num_tokens
    return [
        (f"target tokenizer alone, {tokens:,} tokens", f"{tokens / seconds[1]:,.0f} tokens/s"),
        ("revokenize", f"{tokens / seconds[0]:,.0f} tokens/s, {seconds[1] / seconds[0]:.0%} of it"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--encoder")
    parser.add_argument("--tokenizer")
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    table(rows(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
