"""Associative grounding: text is read beside pictures that an association finds for it (Sileo 2021, section 3.2).

    L = Σ m_k H(t_k, t̂_k(t̄, r)) / Σ m_k,    r the pictures found for what is visible of t̄

in pre-training and afterwards alike: the encoder that comes out finds the pictures of whatever it is given. So that no
picture gives a word away, what is sought are pictures of the words that are not hidden. They are found once, for every
block that training will read, and kept (`find`); an arm with fewer pictures takes the first of them, but for objects,
which are found anew for each K. K = 0 is the control.

    sightread associate --kind scene --bank bank --captions captions.tsv --words glove.txt --out association
    sightread find --vokens vokens --association association --top 16 --out pictures
    sightread associative --vokens vokens --start bert --association association --pictures pictures --out grounded
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from sightread.association import Association
from sightread.association.store import PictureStore, associate
from sightread.contracts import IGNORED, Batch, Losses
from sightread.data.blocks import TokenBlocks, text_of
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_tokenizer, tokenizer_digest
from sightread.grounded import Finder, GroundingConfig, GroundingObjective, seen_images
from sightread.modules.language_model import LanguageModel
from sightread.pretraining import PretrainingConfig, pretrain
from sightread.train import reading_order, training_arguments


class AssociativeObjective(GroundingObjective):
    """A cross-modal encoder, and text with the pictures found for it; arguments as `GroundingObjective`."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor,
        images: Tensor,
        image_mask: Tensor,
        voken_labels: Tensor | None = None,
    ) -> Losses:
        """The loss of one batch.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            images: Regions of the pictures found for each block, float32 (B, K·N, F).
            image_mask: Where there are any, int64 (B, K·N).
            voken_labels: Ignored.
        """
        states, _ = self.model(input_ids, attention_mask, images, image_mask)
        return {"loss": self.model.cross.loss(states, lm_labels)}


class FoundPictures:
    """The pictures found for each block; see `data.blocks.Beside`.

    Args:
        store: What was found.
        features: Vectors of regions of the bank's pictures, float32 (V, N, F).
        tokenizer: Tells the text of a block.
        count: K.
    """

    def __init__(self, store: PictureStore, features: Tensor, tokenizer: Any, count: int) -> None:
        self.store, self.features, self.tokenizer, self.count = store, features, tokenizer, count

    def draw(self, rng: np.random.Generator, block: Mapping[str, np.ndarray]) -> str:
        """What they were sought for; nothing is drawn."""
        return query_of(self.tokenizer, block)

    def collate(self, drawn: Sequence[str]) -> Batch:
        """`images` and `image_mask`, as the objective takes them."""
        none = np.zeros((len(drawn), 0), dtype=np.int64)
        return seen_images(self.features, self.store.rows(drawn, self.count) if self.count else none)


def query_of(tokenizer: Any, block: Mapping[str, np.ndarray]) -> str:
    """The text of a block but for its hidden words, of `input_ids` and `lm_labels`, int64 (L,)."""
    return text_of(tokenizer, block["input_ids"], block["lm_labels"] == IGNORED)


def find(
    config: PretrainingConfig, corpus: VokenCorpus, association: Association, out: Path | str, *, count: int,
    **options: Any,
) -> Path:  # fmt: skip
    """Find pictures for every block that training with these settings will read.

    Args:
        config: Settings of pre-training: of its blocks, their masks and order, and how many are read.
        corpus: The text.
        association: What finds them.
        out: Folder for what is found.
        count: Pictures for each.
        **options: `overwrite` and `resume`.
    """
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    order = _reading_order(config, corpus, tokenizer, Path(out))
    queries = (query_of(tokenizer, order[i]) for i in range(len(order)))
    reading = {name: getattr(config, name) for name in ("max_length", "packed", "mask_probability", "seed", "training")}
    inputs = {"corpus": corpus.artifact.inputs["corpus"], "tokenizer": tokenizer_digest(tokenizer)}
    return associate(queries, association, count, out, config=reading, inputs=inputs, **options)


def _reading_order(config: PretrainingConfig, corpus: VokenCorpus, tokenizer: Any, out: Path) -> Sequence[Any]:
    """The blocks that training with these settings reads."""
    blocks = TokenBlocks(
        corpus, tokenizer, max_length=config.max_length, packed=config.packed, probability=config.mask_probability
    )
    return reading_order(blocks, training_arguments(out, config.training, seed=config.seed))


def train(
    config: GroundingConfig,
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    association: Association,
    pictures: PictureStore,
    **options: Any,
) -> Path:
    """Train a cross-modal encoder on text and the pictures found for it.

    Args:
        config: Settings.
        corpus: The text; its vokens are ignored.
        out: Folder of the run; `encoder/` is a grounded encoder, its association within.
        start: The text encoder; see `pretraining.start_model`.
        association: What finds pictures.
        pictures: What `find` found with it, with the same settings.
        **options: As for `pretraining.pretrain`.
    """
    pictures.check_association(association)
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    finder = Finder(association, tokenizer, config.num_images)
    if config.num_images:  # before any work: the first and the last block that will be read
        order = _reading_order(config, corpus, tokenizer, Path(out))
        pictures.rows([query_of(tokenizer, order[i]) for i in (0, len(order) - 1)], config.num_images)

    def make_objective(model: LanguageModel) -> AssociativeObjective:
        found = finder if config.num_images else None
        return AssociativeObjective(config, model, finder.features.numpy(), tokenizer, found)

    blocks = {"beside": FoundPictures(pictures, finder.features, tokenizer, config.num_images)}
    inputs = {"pictures": pictures.digest, "bank": association.bank.digest}
    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, blocks=blocks, **options)
