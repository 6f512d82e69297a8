"""XDBERT: a visual teacher in text; no picture is needed (Hsu et al. 2022, section 3).

The language encoder and CLIP's text tower read the same sentence, and a cross-modal encoder joins them
(`modules/two_stream.py`). With its states x of the text and y of CLIP's tokens, the adaptation loss is the sum of

    mlm     H(w_i, ŵ_i(x_i)), mean over masked tokens i
    match   H(m, m̂(x_0)), m whether CLIP reads this block or, half of the time, another
    cliptc  H(c_j, ĉ_j(y_j)), mean over 15 % of CLIP's words j, over CLIP's vocabulary

CLIP has no mask token: words that are to be told again stay in its text. The masked words are foretold in every block,
as the control foretells them, whatever CLIP reads; CLIP's own only where it reads that block. In the authors' code CLIP
reads the whole block and tells the masked words (`clip_reads=whole`), so that the half of the blocks in which it reads
another is what keeps the language encoder at work; `clip_reads=masked` takes the hidden words from CLIP, too. CLIP is
trained along, as theirs is; its attention stays causal. Padding and special tokens carry no loss, and the cross-modal
encoder reads neither padding nor CLIP's special tokens.

What comes out is XDBERT, the language encoder alone (`encoder/`), as large as before, and without a masked-LM head,
which has learnt to read other states; and XBERT, both and what joins them (`full/`), which tasks of text take, too.

    sightread xdbert --vokens vokens --start bert-base-uncased --clip openai/clip-vit-base-patch32 --out xdbert
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection

from sightread.config import check_choice, check_positive, check_share
from sightread.contracts import Losses, Objective
from sightread.data.blocks import TokenBlocks
from sightread.data.clip_rows import READS, ClipRows, ClipSide
from sightread.data.voken_corpus import VokenCorpus
from sightread.encoders.text import load_model, load_tokenizer, longest_input, model_type, tokenizer_digest
from sightread.errors import ArtifactError, ConfigError
from sightread.modules.heads import build_voken_head
from sightread.modules.language_model import LanguageModel
from sightread.modules.losses import linear_classification, token_classification
from sightread.modules.two_stream import TwoStream
from sightread.pretraining import PretrainingConfig, begin, train_encoder
from sightread.xbert import XBertEncoder

LOSSES = ("mlm", "match", "cliptc")
FULL = "full"
CLIP_TYPES = ("clip", "clip_text_model")  # models whose text tower can teach, as transformers calls them
_PROJECTION = "text_projection.weight"


@dataclass(frozen=True, kw_only=True)
class XdbertConfig(PretrainingConfig):
    """Settings of the adaptation, beside those it shares with its control.

    Attributes:
        losses: Some of "mlm", "match" and "cliptc".
        num_cross_layers: Layers of the cross-modal encoder.
        clip_reads: "whole", or "masked": without the masked words.
        clip_probability: Share of CLIP's words that it tells again.
        clip_projection: Read CLIP's states through its projection to the joint space, as the authors do.
        freeze_clip: Leave CLIP as it is.
        fresh_clip: Forget what CLIP has learnt, and begin with random weights: is it the vision, or another encoder?
        block_rows: Rows of CLIP that a block has, at most.
        sentence_rows: Rows that a sentence of a task has afterwards, at most.
    """

    losses: tuple[str, ...] = LOSSES
    num_cross_layers: int = 2
    clip_reads: str = "whole"
    clip_probability: float = 0.15
    clip_projection: bool = True
    freeze_clip: bool = False
    fresh_clip: bool = False
    block_rows: int = 9
    sentence_rows: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.losses:
            raise ConfigError(f"losses is empty, expected some of {', '.join(LOSSES)}")
        for loss in self.losses:
            check_choice("losses", loss, LOSSES)
        check_choice("clip_reads", self.clip_reads, READS)
        check_positive(
            num_cross_layers=self.num_cross_layers, clip_probability=self.clip_probability,
            block_rows=self.block_rows, sentence_rows=self.sentence_rows,
        )  # fmt: skip
        check_share(clip_probability=self.clip_probability)


class Adapted(nn.Module):
    """What comes of it: two folders, one beside the other."""

    def __init__(self, language: LanguageModel, full: XBertEncoder) -> None:
        super().__init__()
        self.language, self.full = language, full

    def save_pretrained(self, folder: Path) -> None:
        """Write the language encoder into a folder, and all into `full/` beside it."""
        self.language.save_pretrained(folder, with_head=False)
        self.full.save_pretrained(folder.with_name(FULL))


class XdbertObjective(Objective):
    """A language model, CLIP's text tower, the cross-modal encoder, and their heads.

    Args:
        config: Settings.
        model: The language model.
        clip: The text tower, a `CLIPTextModel`.
        projection: Its map to the joint space, or None.
        tokenizer: Of the language model.
        rows: Makes rows for CLIP.
    """

    def __init__(
        self, config: XdbertConfig, model: LanguageModel, clip: Any, projection: nn.Linear | None, tokenizer: Any,
        rows: ClipRows,
    ) -> None:  # fmt: skip
        super().__init__()
        if model.causal:
            raise ConfigError("a decoder masks nothing, and the cross-modal encoder would read what it is to foretell")
        self.settings, self.model = config, model
        if config.fresh_clip:
            with torch.random.fork_rng():  # so that all else begins as it does beside what CLIP has learnt
                fresh = CLIPTextModelWithProjection(clip.config)
            clip, projection = fresh.text_model, projection and fresh.text_projection
        self.two_stream = TwoStream(model.encoder, clip, projection, num_layers=config.num_cross_layers)
        width, clip_width = self.two_stream.widths
        heads = {  # all are drawn, so that each begins alike whatever the others are
            "match": nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)),
            "cliptc": build_voken_head("dense", clip_width, clip.config.hidden_size),
        }
        self.heads = nn.ModuleDict({loss: head for loss, head in heads.items() if loss in config.losses})
        self._frozen = [part for part in (clip, projection) if part is not None and config.freeze_clip]
        for part in self._frozen:
            part.requires_grad_(False)
        self.encoder = Adapted(model, XBertEncoder.of(self.two_stream, tokenizer, rows, config.sentence_rows))

    def train(self, mode: bool = True) -> XdbertObjective:
        """Training mode; a frozen CLIP stays without dropout."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        lm_labels: Tensor,
        clip_ids: Tensor,
        clip_attention_mask: Tensor,
        clip_words: Tensor,
        clip_labels: Tensor,
        matched: Tensor,
        clip_cut: Tensor,
        voken_labels: Tensor | None = None,
    ) -> Losses:
        """The losses of one batch: "loss", of "mlm_loss", "match_loss" and "cliptc_loss" those that are asked for, and
        "clip_cut", how many tokens of a block CLIP could not read.

        Args:
            input_ids: int64 (B, L).
            attention_mask: int64 (B, L).
            lm_labels: int64 (B, L).
            clip_ids: What CLIP reads, int64 (B, R, M); see `data.clip_rows`.
            clip_attention_mask: int64 (B, R, M).
            clip_words: int64 (B, R, M).
            clip_labels: What it tells again, int64 (B, R, M).
            matched: 1 where it reads this block, int64 (B,).
            clip_cut: int64 (B,).
            voken_labels: Ignored.
        """
        text, seen = self.two_stream(input_ids, attention_mask, clip_ids, clip_attention_mask, clip_words)
        losses = dict[str, Tensor]()
        if "mlm" in self.settings.losses:
            losses["mlm_loss"] = self.model.loss(text, lm_labels)
        if "match" in self.settings.losses:
            losses["match_loss"] = token_classification(self.heads["match"](text[:, 0]), matched)
        if "cliptc" in self.settings.losses:
            labelled, words = clip_labels >= 0, self.two_stream.clip.get_input_embeddings().weight
            told = self.heads["cliptc"](seen[labelled])
            losses["cliptc_loss"] = linear_classification(told, words, None, clip_labels[labelled])
        return {"loss": torch.stack([*losses.values()]).sum(), **losses, "clip_cut": clip_cut.float().mean()}


def load_clip(name: str | Path, projected: bool = True) -> Any:
    """The text tower of a CLIP, with its map to the joint space, of a folder or Hub name.

    The types `CLIP_TYPES` are taken. SigLIP's towers are not: they read padding as text, in rows of 64 tokens without a
    mask, and here neither CLIP nor the cross-modal encoder reads any.

    Raises:
        ArtifactError: If there is no CLIP, or weights are missing of it; of the map only if it is asked for.
    """
    if (kind := model_type(name)) not in CLIP_TYPES:
        reason = "; SigLIP reads padding as text, which is masked here" if "siglip" in kind else ""
        raise ArtifactError(
            f"{name} is of the kind {kind!r}; give a CLIP ({' or '.join(CLIP_TYPES)}), or make one: sightread towers"
            f"{reason}"
        )
    whole = kind == "clip"
    loaded, found = load_model(name, "CLIPModel" if whole else "CLIPTextModelWithProjection", output_loading_info=True)
    model = _text_side(loaded) if whole else loaded
    missing = {key for key in found["missing_keys"] if key.startswith("text_")}
    missing -= {_PROJECTION} if not projected else set()
    if missing == {_PROJECTION}:
        raise ArtifactError(
            f"{name} is a text tower without its text_projection; give the whole CLIP, or set clip_projection=false to "
            "read its states as they are"
        )
    if missing:
        raise ArtifactError(f"{name} lacks {len(missing)} weights of a CLIP's text tower, {min(missing)} among them")
    return model


def _text_side(clip: Any) -> Any:
    """The text tower of a whole CLIP, whose config has the width of the joint space."""
    config = clip.config.text_config
    config.projection_dim = clip.config.projection_dim
    side = CLIPTextModelWithProjection(config)
    side.text_model, side.text_projection = clip.text_model, clip.text_projection
    return side


def load_clip_text(name: str | Path, projected: bool) -> tuple[Any, nn.Linear | None]:
    """CLIP's text tower, and its map to the joint space if it is asked for; see `load_clip`."""
    model = load_clip(name, projected)
    return model.text_model, model.text_projection if projected else None


def train(
    config: XdbertConfig, corpus: VokenCorpus, out: Path | str, *, start: str | Path, clip: str | Path, **options: Any
) -> Path:
    """Adapt a language encoder to CLIP's text tower.

    Args:
        config: Settings.
        corpus: The text; its vokens are ignored.
        out: Folder of the run; `encoder/` is the language encoder, `full/` all.
        start: The language encoder; see `pretraining.start_model`.
        clip: Folder or Hub name of a CLIP, or of its text tower.
        **options: As for `pretraining.pretrain`.
    """
    tokenizer, model = begin(start, corpus, config)
    (tower, projection), clip_tokenizer = load_clip_text(clip, config.clip_projection), load_tokenizer(clip)
    rows = ClipRows(clip_tokenizer, longest_input(tower, clip_tokenizer))
    blocks = TokenBlocks(
        corpus, tokenizer, max_length=config.max_length, packed=config.packed, probability=config.mask_probability
    )
    blocks.beside = ClipSide(
        rows, blocks, tokenizer, most=config.block_rows, reads=config.clip_reads, probability=config.clip_probability,
        matches="match" in config.losses,
    )  # fmt: skip
    objective = XdbertObjective(config, model, tower, projection, tokenizer, rows)
    inputs = {"corpus": corpus.artifact.inputs["corpus"], "clip_tokenizer": tokenizer_digest(clip_tokenizer)}
    return train_encoder(objective, model, blocks, tokenizer, out, config=config, inputs=inputs, **options)
