"""Lexical contrast: while it reads, early states of captions' words find their pictures (Zhuang et al. 2024).

Beside language modelling, each token i of the captions of a batch is told from the tokens of other captions by its
picture x, and that picture from the other pictures by the token:

    L = L_lm + λ mean_i [-log softmax_x'(s(i, x') / τ)[x] - log softmax_i'(s(i', x) / τ)[i]],
    s(i, x) = cos(head_text(h_i), head_image(v_x)),    head_text: D -> E,    head_image: F -> E, linear, τ learnt

where h_i is a state of layer l, the first by default, in which a token is still mostly its own word; the features v of
a frozen image encoder are computed once. Captions of the same picture are never negatives of each other.

The captions are drawn beside the text, so that blocks, order and masks are those of the control (`lm`), and for the
same reason the language model reads no captions: put them into the corpus, and into the control's, if it is to. The
authors' model reads them, sums the loss over captions and text, and attends in its first layer to two tokens back.

    sightread contrast --vokens vokens --captions captions.tsv --image-encoder MODEL --start gpt2 --out grounded

With `layer=-1` it is the grounded teacher of `grounded_teacher`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightread.artifacts import digest
from sightread.config import check_positive
from sightread.contracts import Batch, Losses, Objective
from sightread.data.blocks import pad
from sightread.data.captioned import TokenizedCaptions
from sightread.data.captions import Captions
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.features import centred
from sightread.encoders.text import load_tokenizer
from sightread.errors import ConfigError, DataError
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import cosines, learnt_temperature, two_way_info_nce
from sightread.pretraining import PretrainingConfig, pretrain


@dataclass(frozen=True, kw_only=True)
class ContrastConfig(PretrainingConfig):
    """Settings of lexical contrast, beside those it shares with its control.

    Attributes:
        layer: Which hidden states meet the pictures: 0 the embeddings, 1 the first layer, -1 the last.
        width: E.
        temperature: Where the learnt temperature begins.
        captions_per_block: Captions drawn beside each block.
        contrast_weight: λ.
    """

    layer: int = 1
    width: int = 128
    temperature: float = 0.07
    captions_per_block: int = 4
    contrast_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(width=self.width, temperature=self.temperature, captions_per_block=self.captions_per_block)
        check_positive(or_zero=True, contrast_weight=self.contrast_weight)


class ContrastObjective(Objective):
    """A language model, two heads, and their losses.

    Args:
        config: Settings.
        model: The language model.
        image_width: F.
    """

    def __init__(self, config: ContrastConfig, model: LanguageModel, image_width: int) -> None:
        super().__init__()
        depth = model.encoder.config.num_hidden_layers + 1
        if not -depth <= config.layer < depth:
            raise ConfigError(f"layer={config.layer}: this model has hidden states {-depth} to {depth - 1}")
        self.settings, self.model, self.encoder = config, model, model.encoder
        self.text_head = nn.Linear(model.width, config.width)
        self.image_head = nn.Linear(image_width, config.width)
        self.log_temperature = nn.Parameter(torch.tensor(config.temperature).log())

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor,
        caption_ids: Tensor,
        caption_mask: Tensor,
        caption_words: Tensor,
        images: Tensor,
        pictures: Tensor,
        voken_labels: Tensor | None = None,
    ) -> Losses:
        """The losses of one batch: "loss", "contrast_loss", "lm_loss"; and the "temperature".

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            caption_ids: Captions, as many as were drawn, N, int64 (N, L).
            caption_mask: int64 (N, L).
            caption_words: 1 where no special token or padding is, int64 (N, L).
            images: Feature of each caption's picture, float32 (N, F).
            pictures: Which picture that is, int64 (N,).
            voken_labels: Ignored.
        """
        lm_loss = self.model.loss(self.model(input_ids, attention_mask), lm_labels)
        device, words = caption_ids.device, caption_words.bool()
        devices = [] if device.type == "cpu" else [device]
        with torch.random.fork_rng(devices, device_type=device.type):  # so that the control draws the same dropout
            states = self.model.hidden_states(caption_ids, caption_mask)[self.settings.layer][words]
        scores, caption_of = cosines(self.text_head(states), self.image_head(images)), words.nonzero()[:, 0]  # (T, N)
        excluded = pictures[caption_of][:, None] == pictures
        temperature = learnt_temperature(self.log_temperature)
        contrast = two_way_info_nce(scores, caption_of, excluded, temperature)
        loss = lm_loss + self.settings.contrast_weight * contrast
        return {"loss": loss, "contrast_loss": contrast, "lm_loss": lm_loss, "temperature": temperature.detach()}


class ContrastedCaptions:
    """Captions with their pictures' features, beside each block; see `data.blocks.Beside`.

    Args:
        captions: The captions.
        features: Features of their pictures, float32 (V, F).
        count: Captions a block.
    """

    def __init__(self, captions: TokenizedCaptions, features: np.ndarray, count: int) -> None:
        if len(set(captions.picture_of)) < 2:
            raise DataError("contrast needs captions of at least two different pictures, to tell one from the other")
        self.captions, self.features, self.count = captions, features, count

    def draw(self, rng: np.random.Generator, block: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows of captions, int64 (count,)."""
        return rng.integers(len(self.captions), size=self.count)

    def collate(self, drawn: Sequence[np.ndarray]) -> Batch:
        """All of them, as `ContrastObjective` takes them."""
        rows = np.concatenate(drawn)
        ids, pictures = [self.captions.ids[row] for row in rows], self.captions.picture_of[rows]
        return {
            "caption_ids": pad(ids, self.captions.pad_id),
            "caption_mask": pad([np.ones_like(row) for row in ids], 0),
            "caption_words": pad([self.captions.words[row] for row in rows], 0),
            "images": torch.from_numpy(self.features[pictures]),
            "pictures": torch.from_numpy(pictures),
        }


def train(
    config: ContrastConfig,
    corpus: VokenCorpus,
    out: Path | str,
    *,
    start: str | Path,
    captions: Captions,
    features: np.ndarray,
    **options: Any,
) -> Path:
    """Pre-train with lexical contrast.

    Args:
        config: Settings.
        corpus: What to read; its vokens are ignored.
        out: Folder of the run.
        start: See `pretraining.start_model`.
        captions: Captioned pictures.
        features: Their features, float32 (V, F), or of regions, (V, N, F), which are taken side by
            side; see `encoders.features.image_features`.
        **options: As for `pretraining.pretrain`.
    """
    if len(features) != len(captions.pictures):
        raise DataError(f"{len(features)} features of {len(captions.pictures)} pictures; give one a picture")
    features = centred(features.reshape(len(features), -1))
    tokenizer = load_tokenizer(corpus.path / "tokenizer")
    read = TokenizedCaptions(captions, tokenizer, config.max_length)
    beside = ContrastedCaptions(read, features, config.captions_per_block)
    inputs = {"captions": digest(*captions.texts, captions.picture_of.tobytes(), features.tobytes())}

    def make_objective(model: LanguageModel) -> ContrastObjective:
        return ContrastObjective(config, model, features.shape[1])

    blocks = {"beside": beside}
    return pretrain(make_objective, corpus, out, start=start, config=config, inputs=inputs, blocks=blocks, **options)
