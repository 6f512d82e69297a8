"""How fast this machine searches, vokenizes and revokenizes; prints one table.

    make bench

Random weights of MiniLM's shape (6 layers × 384), random unit keys, made-up text; minimum of three runs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from sightread.bank import ImageBank, unit_rows
from sightread.data.corpora import Corpus
from sightread.data.world import WorldConfig, make_world
from sightread.encoders.image import build_small_image_encoder
from sightread.encoders.text import TextEncoder, build_word_tokenizer
from sightread.modules.heads import ProjectionHead
from sightread.modules.search import exact_top_k
from sightread.runtime import machine
from sightread.vokenization.job import vokenize
from sightread.vokenization.revokenize import revokenize
from sightread.vokenizer import Vokenizer, VokenizerConfig

PICTURES, WIDTH, LINES = 50_000, 64, 4000


def fastest(run: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    rng = np.random.default_rng(0)
    keys = unit_rows(rng.standard_normal((PICTURES, WIDTH)))
    queries = torch.from_numpy(unit_rows(rng.standard_normal((8192, WIDTH))))
    lines = make_world(WorldConfig(num_sentences=LINES, num_scenes=1)).corpus
    config = BertConfig(num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
    text = TextEncoder(BertModel(config).eval(), build_word_tokenizer(lines), (-4, -3, -2, -1))
    heads = ProjectionHead(text.width, 256, WIDTH), ProjectionHead(WIDTH, 256, WIDTH)
    ids = [str(i) for i in range(PICTURES)]
    bank = ImageBank(ids, keys, [""] * PICTURES)
    vokenizer = Vokenizer(VokenizerConfig(), text, heads[0], build_small_image_encoder(64), heads[1], bank)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_text("\n".join(lines))
        outs = iter(range(1000))
        corpus = vokenize(Corpus(path), vokenizer, f"{folder}/first")
        rates = {
            f"exact search, {PICTURES} x {WIDTH} keys (queries/s)": len(queries)
            / fastest(lambda: exact_top_k(queries, torch.from_numpy(keys))),
            "vokenize, 6 x 384 encoder (tokens/s)": corpus.num_tokens
            / fastest(lambda: vokenize(Corpus(path), vokenizer, f"{folder}/{next(outs)}")),
            "revokenize (tokens/s)": corpus.num_tokens
            / fastest(lambda: revokenize(corpus, vokenizer.tokenizer, f"{folder}/{next(outs)}")),
        }
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    for name, rate in rates.items():
        print(f"{name:<52}{rate:>12,.0f}")


if __name__ == "__main__":
    main()
