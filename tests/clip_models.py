"""Tiny CLIPs and SigLIPs, with their tokenizers; several tests share them."""

import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, CLIPTokenizer, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from sightread.runtime import seed_everything

LETTERS = "abcdefghijklmnopqrstuvwxyz."
POSITIONS = 16
TEXT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
          "image_size": 32, "patch_size": 16}  # fmt: skip


def build_tokenizer(kind):
    """Letters are tokens. CLIP's begins and ends a text, SigLIP's only ends it."""
    pieces = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=POSITIONS)
    if kind == "clip":
        return tokenizer
    backend, end = tokenizer.backend_tokenizer, ("<|endoftext|>", tokenizer.eos_token_id)
    backend.post_processor = TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
    names = {f"{name}_token": end[0] for name in ("eos", "pad", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=POSITIONS, **names)


def build_model(kind, tokenizer, positions=POSITIONS):
    seed_everything(0)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = TEXT | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": positions}
    width = {"projection_dim": 8} if kind == "clip" else {}
    text |= {"projection_size": 12} if kind == "siglip" else {}
    config = AutoConfig.for_model(kind, text_config=text, vision_config=VISION, **width)
    model = AutoModel.from_config(config).eval()
    for name, weights in model.named_parameters():  # as they are begun, all texts are much the same
        weights.data += 0.2 * torch.randn_like(weights) * ("logit" not in name)
    return model


def save(folder, model, tokenizer):
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)
    return folder
