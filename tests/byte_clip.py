"""A CLIP tokenizer that knows every byte and merges nothing; several tests share it."""

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


def byte_tokenizer(length=12):
    """512 pieces, each a byte, within a word or at its end, and the two special tokens."""
    pieces = [*bytes_to_unicode().values()]
    pieces += [f"{piece}</w>" for piece in pieces] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=length)
