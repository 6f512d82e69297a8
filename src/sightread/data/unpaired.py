"""Words, tags and regions hidden: captions with their pictures, text alone, pictures alone (Li et al. 2021, section 3).

Each is `Examples`, and `Kinds` holds several, so that `fit` reads batches of one kind each. What is drawn for a text
is drawn first, so that its words are hidden alike whether it is read beside its picture or alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sightread.contracts import IGNORED, Batch, Examples
from sightread.data.blocks import pad, special_tokens_around
from sightread.data.captioned import TokenizedCaptions
from sightread.data.captions import Captions, read_pairs
from sightread.data.encoded_pictures import picture_key, rows_by_key
from sightread.data.images import PictureFiles
from sightread.data.masking import mask_tokens
from sightread.data.regions import RegionStore
from sightread.data.seen_regions import SeenRegions
from sightread.data.skipped import Skipped
from sightread.data.voken_corpus import VokenCorpus
from sightread.errors import DataError

Row = dict[str, Any]


class MaskedTexts:
    """Captions as text alone.

    A batch holds, int64 (B, L): `input_ids` (words hidden as BERT hides them), `attention_mask` and `lm_labels`.

    Args:
        captions: The captions.
        tokenizer: Tokenizer of the text encoder.
        probability: Share of words that are hidden.
    """

    def __init__(self, captions: TokenizedCaptions, tokenizer: Any, probability: float = 0.15) -> None:
        self.captions, self.mask = captions, mask_with(tokenizer, probability)

    def __len__(self) -> int:
        return len(self.captions)

    def example(self, index: int, rng: np.random.Generator) -> Row:
        """One caption."""
        ids, labels = self.mask(self.captions.ids[index], rng, maskable=self.captions.words[index])
        return {"input_ids": ids, "lm_labels": labels}

    def collate(self, examples: Sequence[Row]) -> Batch:
        """Pad to the longest."""
        return text_batch(examples, self.captions.pad_id)


class MaskedPictures:
    """Pictures alone, their tags and regions behind the special tokens of an empty text.

    A region is hidden with `probability`; a tag, all its subwords, with `tag_with_region` if its region is hidden, and
    with `probability` if not. A hidden tag is the mask, a hidden region a vector of zeros.

    A batch holds `input_ids` and `attention_mask`, int64 (B, L), and what `SeenRegions` gives; `tag_labels`, int64
    (B, G), the subwords that are hidden; `hidden_regions`, bool (B, R), and `foretold_regions`, those of them that are
    to be foretold; `region_names`, int64 (B, R), and `region_scores`, float32 (B, R), of all regions.

    Args:
        seen: The regions.
        rows: Of its store: the pictures, int64 (N,).
        tokenizer: Tokenizer of the text encoder.
        probability: Share of regions, and of tags whose region is seen, that are hidden.
        tag_with_region: Share of tags of hidden regions that are.
    """

    def __init__(
        self, seen: SeenRegions, rows: np.ndarray, tokenizer: Any, *, probability: float = 0.15,
        tag_with_region: float = 0.9,
    ) -> None:  # fmt: skip
        if not len(rows):
            raise DataError("there is no picture to read")
        self.seen, self.rows, self.mask_id = seen, rows, tokenizer.mask_token_id
        self.probability, self.tag_with_region = probability, tag_with_region
        self.empty, self.pad_id = np.concatenate(special_tokens_around(tokenizer)), tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        return len(self.rows)

    def example(self, index: int, rng: np.random.Generator) -> Row:
        """One picture."""
        return {"input_ids": self.empty, **self.picture(index, rng)}

    def picture(self, index: int, rng: np.random.Generator) -> Row:
        """What is read of one picture, and what is foretold."""
        picture = self.seen.of(int(self.rows[index]))
        of_regions, of_tags = rng.random((2, len(picture["region_boxes"])))
        hidden = of_regions < self.probability
        masked = (of_tags < np.where(hidden, self.tag_with_region, self.probability))[picture["tag_regions"]]
        return {
            **picture,
            "tag_ids": np.where(masked, self.mask_id, picture["tag_ids"]),
            "tag_labels": np.where(masked, picture["tag_ids"], IGNORED),
            "hidden_regions": hidden,
            "foretold_regions": hidden,
        }

    def collate(self, examples: Sequence[Row]) -> Batch:
        """Pad to the longest."""
        fill = {"tag_labels": IGNORED, "region_names": IGNORED, "region_scores": 0}
        fill |= dict.fromkeys(flags := ("hidden_regions", "foretold_regions"), 0)
        more = {name: pad([example[name] for example in examples], value) for name, value in fill.items()}
        more |= {name: more[name].bool() for name in flags}
        return {**text_batch(examples, self.pad_id), **SeenRegions.collate(examples), **more}


class MaskedPairs:
    """Captions, each beside its picture, or, half of the time, beside another one drawn at random.

    Beside another picture nothing is foretold but that; words, tags and regions are hidden all the same, or it would
    be seen by that. A batch holds what `MaskedTexts` and `MaskedPictures` give, and `match_labels`, int64 (B,): 1 for
    the caption's own.

    Args:
        texts: The captions.
        pictures: Those of which `texts.captions.picture_of` are the numbers.
        match: Whether there are other pictures; without, every caption is beside its own.
    """

    def __init__(self, texts: MaskedTexts, pictures: MaskedPictures, *, match: bool = True) -> None:
        if match and len(pictures) < 2:
            raise DataError("one picture has no other that a caption might be beside; give match=false")
        self.texts, self.pictures, self.match = texts, pictures, match

    def __len__(self) -> int:
        return len(self.texts)

    def example(self, index: int, rng: np.random.Generator) -> Row:
        """One caption, and a picture."""
        text, own = self.texts.example(index, rng), int(self.texts.captions.picture_of[index])
        by_lot, step = rng.integers(2) == 1, int(rng.integers(1, max(len(self.pictures), 2)))
        shift = step if by_lot and self.match else 0
        example = {**text, **self.pictures.picture((own + shift) % len(self.pictures), rng)}
        if shift:
            nothing = {name: np.full_like(example[name], IGNORED) for name in ("lm_labels", "tag_labels")}
            example |= {**nothing, "foretold_regions": np.zeros_like(example["foretold_regions"])}
        return {**example, "match": int(not shift)}

    def collate(self, examples: Sequence[Row]) -> Batch:
        """Pad to the longest."""
        batch = self.pictures.collate(examples)
        labels = {"match_labels": torch.tensor([example["match"] for example in examples])} if self.match else {}
        return {**batch, **labels}


class SentencePairs:
    """A line of a corpus and the next one, or, half of the time, any other (Devlin et al. 2019, section 3.1).

    A batch holds what `MaskedTexts` gives, and, int64, `token_type_ids` (B, L) and `next_labels` (B,): 1 for the next.

    Args:
        corpus: Its lines are sentences, in order.
        tokenizer: The tokenizer it was made with.
        max_length: Tokens of both, special ones included; of the longer, or both, the end is cut off.
        probability: Share of tokens that are hidden.
    """

    def __init__(self, corpus: VokenCorpus, tokenizer: Any, *, max_length: int, probability: float = 0.15) -> None:
        tokens, _, begins = corpus.flat()
        lines = [line for line in np.split(tokens.astype(np.int64), begins[1:-1]) if len(line)]
        if len(lines) < 3:
            raise DataError(f"{corpus.path} has {len(lines)} lines; a sentence, the next, and another are needed")
        self.lines, self.mask, self.pad_id = lines, mask_with(tokenizer, probability), tokenizer.pad_token_id or 0
        framed = tokenizer(tokenizer.mask_token, tokenizer.mask_token, return_token_type_ids=True)
        self.frame, self.types = np.array(framed["input_ids"]), np.array(framed["token_type_ids"])
        self.places = self.frame == tokenizer.mask_token_id  # of the two sentences
        self.room = max_length - len(self.frame) + 2

    def __len__(self) -> int:
        return len(self.lines) - 1

    def example(self, index: int, rng: np.random.Generator) -> Row:
        """One line and another."""
        by_lot, step = rng.integers(2) == 1, int(rng.integers(2, len(self.lines)))
        first, second = self.lines[index], self.lines[(index + (step if by_lot else 1)) % len(self.lines)]
        first = first[: max(self.room // 2, self.room - len(second))]
        second = second[: self.room - len(first)]
        counts = np.ones(len(self.frame), np.int64)
        counts[self.places] = len(first), len(second)
        ids, words = np.repeat(self.frame, counts), np.repeat(self.places, counts)
        ids[words] = np.concatenate([first, second])
        masked, labels = self.mask(ids, rng, maskable=words)
        types = np.repeat(self.types, counts)
        return {"input_ids": masked, "lm_labels": labels, "token_type_ids": types, "next": int(not by_lot)}

    def collate(self, examples: Sequence[Row]) -> Batch:
        """Pad to the longest."""
        return {
            **text_batch(examples, self.pad_id),
            "token_type_ids": pad([example["token_type_ids"] for example in examples], 0),
            "next_labels": torch.tensor([example["next"] for example in examples]),
        }


class Kinds:
    """Examples of several kinds, those of one kind behind those of another; a batch holds one kind alone.

    Args:
        parts: The examples of each kind.

    Attributes:
        kinds: Of each example, int64 (N,).
    """

    def __init__(self, parts: Sequence[Examples]) -> None:
        self.parts = parts
        self.kinds = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self._begins = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return len(self.kinds)

    def example(self, index: int, rng: np.random.Generator) -> tuple[int, Any]:
        """Its kind, and what it is."""
        kind = int(self.kinds[index])
        return kind, self.parts[kind].example(index - int(self._begins[kind]), rng)

    def collate(self, examples: Sequence[tuple[int, Any]]) -> Batch:
        """As their kind is collated."""
        (kind,) = {kind for kind, _ in examples}
        return self.parts[kind].collate([example for _, example in examples])


def captions_of_regions(source: Path | str, regions: RegionStore, max_skipped: float = 0.1) -> Captions:
    """Captions of the pictures of a store, which themselves need not be there.

    Args:
        source: A captions file; see `data.captions`.
        regions: The store; names of pictures are compared as `picture_key` has them.
        max_skipped: Share of captions that may be bad, or of other pictures.

    Raises:
        DataError: If there is nothing to read, or too much is skipped.
    """
    row_of, skipped = rows_by_key(regions), Skipped()
    texts, rows = list[str](), list[int]()
    if not Path(source).is_file():
        raise DataError(f"no captions file at {source}")
    for name, caption, place in read_pairs(Path(source), skipped):
        row = row_of.get(picture_key(name))
        if row is None or not (caption and caption.strip()):
            skipped.add(
                "empty caption" if row is not None else "caption of a picture without regions", f"{place} ({name})"
            )
        else:
            texts.append(caption.strip())
            rows.append(row)
    skipped.check(len(texts) + skipped.count, max_skipped, f"captions of {source}")
    if not texts:
        raise DataError(f"{source} holds no captions")
    kept, picture_of = np.unique(rows, return_inverse=True)
    ids = [regions.ids[row] for row in kept]
    return Captions(PictureFiles(ids, [Path(id_) for id_ in ids]), texts, picture_of, skipped)


def mask_with(tokenizer: Any, probability: float) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`mask_tokens` of (ids, generator, maskable) for a tokenizer."""
    return partial(mask_tokens, mask_id=tokenizer.mask_token_id, vocab_size=len(tokenizer), probability=probability)


def text_batch(examples: Sequence[Mapping[str, Any]], pad_id: int) -> Batch:
    """`input_ids`, `attention_mask`, and `lm_labels` where they have them, int64 (B, L), padded to the longest."""
    ids = [example["input_ids"] for example in examples]
    labels = [example["lm_labels"] for example in examples if "lm_labels" in example]
    mask = pad([np.ones(len(row), np.int64) for row in ids], 0)
    batch = {"input_ids": pad(ids, pad_id), "attention_mask": mask}
    return {**batch, "lm_labels": pad(labels, IGNORED)} if labels else batch
