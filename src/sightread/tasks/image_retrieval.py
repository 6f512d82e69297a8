"""Which picture does a caption belong to? Flickr30K, Flickr8K and COCO, by a score for every pair of the two.

In training a caption is read beside its own picture and two others, drawn anew each time, none of them with that very
caption; the loss is the cross-entropy of the three scores. Of the other splits every caption is read beside every
picture, and the answer is the rank of its own: 1 and the number of pictures with a higher score, those of an equal one
counting half. That is as many sequences as there are pairs; `candidates` and `captions_each` ask for fewer. Fewer
candidates are easier: only scores of equally many can be compared, so that their number stands among the scores.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from sightread.config import check_positive
from sightread.contracts import Batch, Row
from sightread.data.captions import read_ids, read_pairs
from sightread.data.encoded import Encoded, encode_texts
from sightread.data.encoded_pictures import EncodedPictures, Pictured, PictureSettings, PictureTask, picture_key
from sightread.data.seen_regions import SeenRegions
from sightread.data.skipped import Skipped
from sightread.data.tables import Layout, Rows, read_json
from sightread.errors import DataError
from sightread.runtime import keyed_rng

WAYS = 3
BLOCK = 64  # pictures that a caption is read beside at a time
_CAPTIONS = ("captions*.tsv", "captions*.json", "*.token", "Flickr8k.token.txt", "train.tsv", "val.tsv", "test*.tsv")
_SPLITS = {"restval": "train", "val": "dev"}  # as Karpathy and Fei-Fei (2015) call them


def read_split(path: Path) -> Rows:
    """Captions of one split: those that lie beside a list of pictures, or Karpathy and Fei-Fei's file of all splits.

    Raises:
        DataError: If there are no captions, or the file is of another format.
    """
    if path.name.removesuffix(".gz").endswith(".json"):
        return _read_karpathy(path)
    wanted, skipped = {picture_key(name) for name in read_ids(path)}, Skipped()
    files = [file for pattern in _CAPTIONS for end in ("", ".gz") for file in sorted(path.parent.glob(pattern + end))]
    file_of, rows = dict[str, Path](), Rows()  # a second file with captions of a picture would count them twice
    for file in files:
        for name, caption, where in read_pairs(file, skipped):
            if (key := picture_key(name)) in wanted and file_of.setdefault(key, file) == file:
                rows.append((where, {"picture": name, "caption": caption}))
    skipped.check(len(rows) + skipped.count, 0.1, f"captions beside {path}", "mend them")
    return rows


def _read_karpathy(path: Path) -> Rows:
    try:
        return [
            (f"{path} picture {picture['filename']}", {
                "picture": picture["filename"], "caption": sentence["raw"],
                "split": _SPLITS.get(picture["split"], picture["split"]),
            })
            for picture in read_json(path)["images"] for sentence in picture["sentences"]
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of captions in splits: {error!r}") from error


def _layout(name: str, official: str) -> Layout:
    """Karpathy and Fei-Fei's file, lists as `split_train.txt`, or those of the data set."""
    names = {"train": "train", "dev": "val", "test": "test"}
    files = {
        split: (
            f"dataset_{name}.json",
            f"split_{split}.txt",
            f"*split_{theirs}.txt",
            official.format(theirs),
            official.format(split),
        )
        for split, theirs in names.items()
    }
    return Layout(columns=("picture", "caption"), label="picture", split_column="split", files=files, reader=read_split,
                  hub_splits={})  # fmt: skip


DATASETS = {
    "flickr8k": _layout("flickr8k", "Flickr_8k.{}Images.txt"),
    "flickr30k": _layout("flickr30k", "{}.txt"),
    "coco": _layout("coco", "{}.txt"),
}


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(PictureSettings):
    """What is read of pictures, and how many are ranked.

    Attributes:
        candidates: Pictures of a scored split, drawn once for all; none for every one.
        captions_each: Captions of each of them that are asked, likewise.
    """

    candidates: int | None = None
    captions_each: int | None = None

    def __post_init__(self) -> None:
        check_positive(candidates=self.candidates or 1, captions_each=self.captions_each or 1)


class Drawn(EncodedPictures):
    """Captions, each beside its own picture and some that are drawn.

    Args:
        texts: The captions.
        seen: The regions of pictures.
        pictures: Each caption's own, as a row of the store.
        captions: What they say: a picture with the very caption is never drawn.
    """

    def __init__(
        self, texts: Encoded, seen: SeenRegions, pictures: Sequence[Sequence[int]], captions: Sequence[str]
    ) -> None:
        super().__init__(texts, seen, pictures)
        self.ways = WAYS
        owners = defaultdict[str, set[int]](set)
        for caption, (picture,) in zip(captions, pictures, strict=True):
            owners[caption].add(picture)
        self.own, self.pool = [owners[caption] for caption in captions], np.unique(np.array(pictures))
        if len(self.pool) - max(map(len, self.own)) < WAYS - 1:
            raise DataError(
                f"{len(self.pool)} pictures are too few: each caption needs {WAYS - 1} that are not its own"
            )

    def example(self, index: int, rng: np.random.Generator) -> tuple[int, Sequence[int]]:
        """Its number, its picture, and after it those drawn from `rng`."""
        drawn = dict.fromkeys(self.pictures[index])
        while len(drawn) < WAYS:
            picture = int(rng.choice(self.pool))
            if picture not in self.own[index]:
                drawn[picture] = None
        return index, list(drawn)


class Candidates:
    """Every caption beside every picture: an example is a caption and a block of pictures, and a batch by itself.

    Args:
        texts: The captions.
        seen: The regions of pictures.
        rows: The pictures, as rows of the store, int64 (M,).

    Attributes:
        blocks: The pictures of each block; examples are in order of blocks, and of captions within.
        lengths: Tokens of each example's caption.
    """

    def __init__(self, texts: Encoded, seen: SeenRegions, rows: np.ndarray) -> None:
        self.texts, self.rows, self.cut = texts, rows, texts.cut
        self.blocks = np.array_split(rows, -(-len(rows) // BLOCK))
        self.lengths = np.tile(texts.lengths, len(self.blocks))
        self._beside = lru_cache(maxsize=1)(lambda block: seen.collate([seen.of(row) for row in self.blocks[block]]))

    def __len__(self) -> int:
        return len(self.lengths)

    def example(self, index: int, rng: np.random.Generator) -> int:
        """Its number; nothing is drawn."""
        return index

    def collate(self, examples: Sequence[int]) -> Batch:
        """The pictures of one example's block, and its caption for each of them."""
        (example,) = examples
        block, text = divmod(example, len(self.texts))
        words = self.texts.collate([text])
        repeated = {name: value.expand(len(self.blocks[block]), *value.shape[1:]) for name, value in words.items()}
        return {**repeated, **self._beside(block)}


class ImageRetrieval(PictureTask[Layout]):
    """Finding the picture of a caption; see `contracts.Task` and `PictureTask`."""

    layouts, reads, metric, defaults = DATASETS, "pairs", "ranks", RetrievalSettings()

    def load(self, split: str) -> list[Row]:
        """Rows of a split; of any but training as many as the settings ask for."""
        rows, rng = super().load(split), keyed_rng(0)
        if split == "train" or (self.settings.candidates or self.settings.captions_each) is None:
            return rows
        pictures = list(dict.fromkeys(row.gold for row in rows))
        chosen = {pictures[i] for i in rng.permutation(len(pictures))[: self.settings.candidates]}
        kept, asked = list[int](), Counter[str]()
        for i in rng.permutation(len(rows)).tolist():
            gold = rows[i].gold
            if gold in chosen and asked[gold] < (self.settings.captions_each or len(rows)):
                kept.append(i)
                asked[gold] += 1
        return [rows[i] for i in sorted(kept)]

    def head(self, width: int) -> nn.Module:
        """Dropout and a score for every pair, (B·W, D) -> (B·W,)."""
        return nn.Sequential(nn.Dropout(0.1), nn.Linear(width, 1), nn.Flatten(0))

    def encode_training(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Drawn:
        """Rows as examples of three pairs each, of which the first is right."""
        return Drawn(*self._encoded(rows, tokenizer, max_length), [row.inputs.text for row in rows])

    def encode(self, rows: Sequence[Row], tokenizer: Any, max_length: int) -> Candidates:
        """Rows as examples of all pairs."""
        texts, seen, pictures = self._encoded(rows, tokenizer, max_length)
        return Candidates(texts, seen, np.unique(np.array(pictures)))

    def _encoded(
        self, rows: Sequence[Row], tokenizer: Any, max_length: int
    ) -> tuple[Encoded, SeenRegions, list[list[int]]]:
        texts = encode_texts(tokenizer, [(row.inputs.text,) for row in rows], [0] * len(rows), max_length)
        return texts, self.see(tokenizer), [self.rows_of(row) for row in rows]

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of scores (B·W,), W = 3, and the number of the right pair int64 (B,)."""
        return functional.cross_entropy(outputs.float().unflatten(0, (-1, WAYS)), labels)

    def predict(self, outputs: Sequence[np.ndarray], rows: Sequence[Row], examples: Candidates) -> list[dict[str, Any]]:
        """The best `picture` of each caption, the `rank` of its own and `of` how many, from each block's scores."""
        count, number = len(rows), {row: i for i, row in enumerate(examples.rows.tolist())}
        blocks = [np.stack(outputs[begin : begin + count]) for begin in range(0, len(outputs), count)]
        scores = np.concatenate(blocks, axis=1)  # (N, M)
        ranks = ranks_of(scores, np.array([number[self.rows_of(row)[0]] for row in rows]))
        best = [self.regions.ids[examples.rows[i]] for i in scores.argmax(axis=1)]
        return [
            {"picture": picture, "rank": rank, "of": len(number)}
            for picture, rank in zip(best, ranks.tolist(), strict=True)
        ]

    def row(self, record: Mapping[str, Any], where: str) -> Row | None:
        """A caption and its picture; None for one that says nothing."""
        picture, caption = str(record["picture"]), str(record["caption"]).strip()
        return Row(Pictured((picture,), caption), picture) if caption else None


def ranks_of(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Rank of each query's own key, 1 the best, half of its equals before it; a score that is no number is the lowest.

    Args:
        scores: float (N, M).
        own: Column of each query's own, int64 (N,).

    Returns:
        float64 (N,).
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    mine = np.take_along_axis(scores, own[:, None], axis=1)
    ranks: np.ndarray = (scores > mine).sum(axis=1) + (1 + (scores == mine).sum(axis=1)) / 2
    return ranks
