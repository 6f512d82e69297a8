"""Transformers that translate (Vaswani et al. 2017): their vocabulary, fresh weights, and the search for a translation.

The network is Hugging Face's Marian, with sinusoidal positions and one embedding matrix for source, target and output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightread.contracts import to_device
from sightread.data.blocks import pad
from sightread.errors import DataError
from sightread.runtime import default_device

PAD, EOS = "<pad>", "</s>"
MAX_POSITIONS = 1024
EXTRA_LENGTH = 50  # tokens that a translation may be longer than its source (Vaswani et al. 2017, section 6.1)


def learn_vocabulary(sentences: Iterable[str], size: int) -> Any:
    """A fast tokenizer of byte-level BPE (Sennrich et al. 2016), which ends each sentence with `</s>`.

    No character is unknown to it, and decoding gives every one back.

    Args:
        sentences: Text of all languages that are to share the vocabulary.
        size: Pieces at most, the 256 bytes and two special ones among them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # a word is the same wherever it stands
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=[PAD, EOS], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(sentences, trainer)
    end = (EOS, tokenizer.token_to_id(EOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, model_input_names=["input_ids", "attention_mask"],
        model_max_length=MAX_POSITIONS - EXTRA_LENGTH, clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # what a text spells "</s>" does not end it
    )  # fmt: skip


def build_transformer(
    tokenizer: Any,
    *,
    layers: int,
    width: int,
    heads: int,
    feed_forward: int,
    dropout: float,
    num_beams: int,
    length_penalty: float,
    kind: Any = None,
    **more: Any,
) -> Any:
    """A `MarianMTModel` with fresh weights; embeddings are drawn from N(0, 1 / width).

    Args:
        tokenizer: The joint tokenizer.
        layers: Layers of the encoder, and of the decoder.
        width: Width of states and embeddings.
        heads: Attention heads.
        feed_forward: Width inside the feed-forward layers.
        dropout: Dropout on embeddings and on the output of every sublayer.
        num_beams: Hypotheses that `generate` keeps.
        length_penalty: `generate` ranks by log p(y | x) / |y|^length_penalty. That is Hugging Face's formula and not
            that of GNMT and Vaswani et al., ((5 + |y|) / 6)^length_penalty, which changes less with |y|.
            One hypothesis is not ranked.
        kind: Another class of model, derived from Marian's.
        **more: What its config holds beside Marian's.
    """
    from transformers import GenerationConfig, MarianMTModel

    pad_id = tokenizer.pad_token_id
    special = {"pad_token_id": pad_id, "eos_token_id": tokenizer.eos_token_id, "decoder_start_token_id": pad_id}
    kind = kind or MarianMTModel
    config = kind.config_class(
        vocab_size=len(tokenizer), d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=feed_forward,
        decoder_ffn_dim=feed_forward, dropout=dropout, activation_function="relu", scale_embedding=True,
        init_std=width**-0.5, max_position_embeddings=MAX_POSITIONS, forced_eos_token_id=None, **special,
        **more,
    )  # fmt: skip
    model = kind(config)
    model.generation_config = GenerationConfig(
        num_beams=num_beams,
        bad_words_ids=[[pad_id]],
        **special,
        **({"length_penalty": length_penalty} if num_beams > 1 else {}),  # which a config of one beam may not have
    )
    return model


def token_ids(tokenizer: Any, sentences: Sequence[str], at_once: int = 10_000) -> list[np.ndarray]:
    """Tokens of each sentence, int32 (L,), `</s>` included; in parts, as tokenizers return many times as much."""
    ids = list[np.ndarray]()
    for begin in range(0, len(sentences), at_once):
        part = tokenizer(list(sentences[begin : begin + at_once]), return_attention_mask=False)
        ids += [np.array(row, np.int32) for row in part["input_ids"]]
    return ids


def padded(rows: Sequence[np.ndarray], pad_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, int64 (B, L), of sentences of different lengths."""
    return {"input_ids": pad(rows, pad_id), "attention_mask": pad([np.ones_like(row) for row in rows], 0)}


def check_lengths(tokenizer: Any, sentences: Sequence[str], what: str = "") -> list[np.ndarray]:
    """Token ids of sentences, int64 (L,) each; raises `DataError` if one is longer than the model can read."""
    ids, limit = token_ids(tokenizer, sentences), tokenizer.model_max_length
    for number, row in enumerate(ids, start=1):
        if len(row) > limit:
            where = f"{what}: sentence {number}".removeprefix(": ")
            raise DataError(f"{where} has {len(row)} tokens, and this model reads at most {limit}; split it")
    return ids


@torch.no_grad()
def translate(model: Any, tokenizer: Any, sentences: Sequence[str], *, batch_size: int = 64) -> list[str]:
    """Translate sentences with the search that the model's `generation_config` describes; deterministic.

    Batches are of sentences of similar lengths. A translation ends after at most `EXTRA_LENGTH` tokens more than the
    longest sentence of its batch.

    Returns:
        A translation a sentence, in their order.

    Raises:
        DataError: If a sentence is longer than the model can read.
    """
    model, ids = model.to(default_device()).eval(), check_lengths(tokenizer, sentences)
    translations = [""] * len(ids)
    order = np.argsort([len(row) for row in ids], kind="stable").tolist()
    for begin in range(0, len(ids), batch_size):
        rows = order[begin : begin + batch_size]
        inputs = padded([ids[row] for row in rows], tokenizer.pad_token_id)
        longest = inputs["input_ids"].shape[1] + EXTRA_LENGTH
        tokens = model.generate(**to_device(inputs, default_device()), max_new_tokens=longest)
        for row, text in zip(rows, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
            translations[row] = text.strip()
    return translations
