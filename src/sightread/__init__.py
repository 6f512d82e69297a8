"""sightread: text encoders that have seen what they read.

The names below are loaded when first used, so that `import sightread` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Corpus": "data.corpora",
    "ImageBank": "bank",
    "ImageEncoder": "encoders.image",
    "SightreadError": "errors",
    "TextEncoder": "encoders.text",
    "VokenCorpus": "data.voken_corpus",
    "Vokenizer": "vokenizer",
    "build_bank": "bank",
    "finetune": "finetuning",
    "finetune_seeds": "finetuning",
    "fit": "train",
    "load_encoder": "grounded",
    "read_captions": "data.captions",
    "revokenize": "vokenization.revokenize",
    "vokenize": "vokenization.job",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sightread' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(import_module(f"sightread.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
