"""Hugging Face text encoders, any subset of their hidden layers side by side."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sightread.artifacts import digest
from sightread.checks import check_shape
from sightread.errors import ArtifactError, ConfigError, DataError

_NO_MATTER = ("_name_or_path", "transformers_version", "architectures")  # of a model's config
# types of models, and the module that tells transformers of them
_OURS = {
    "sightread-grounded": "sightread.grounded", "sightread-xbert": "sightread.xbert",
    "sightread-aware": "sightread.aware", "sightread-aware-marian": "sightread.aware",
}  # fmt: skip
PACKED = "sightread-packed"  # attention that `encoders.packed` makes known to transformers, in every process anew
_UNKNOWN_TO_AUTO = {("AutoModel", "siglip_text_model"): "SiglipTextModel"}


class TextEncoder(nn.Module):
    """A Hugging Face encoder whose chosen hidden layers are concatenated.

    Args:
        model: The model.
        tokenizer: Its fast tokenizer.
        layers: Which hidden states, as indices into `hidden_states` (0 is the embedding, -1 the last layer).

    Attributes:
        width: D, the width of one token's vector.
    """

    def __init__(self, model: Any, tokenizer: Any, layers: Sequence[int] = (-1,)) -> None:
        super().__init__()
        self.model, self.tokenizer, self.layers = model, tokenizer, tuple(layers)
        depth = model.config.num_hidden_layers + 1
        wrong = [layer for layer in self.layers if not -depth <= layer < depth]
        if wrong or not self.layers:
            raise ConfigError(f"layers {list(self.layers)}: this model has hidden states {-depth} to {depth - 1}")
        self.width: int = model.config.hidden_size * len(self.layers)

    @classmethod
    def from_pretrained(cls, name: str | Path, layers: Sequence[int] = (-1,)) -> TextEncoder:
        """Load a folder or Hub name; raises `ArtifactError` if it cannot be loaded."""
        return cls(load_model(name, "AutoModel"), load_tokenizer(name), layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None, **more: Any) -> Tensor:
        """Token vectors.

        Args:
            input_ids: int64 (B, L), special tokens included.
            attention_mask: int64 (B, L), 1 at real tokens; None if all are.
            **more: Whatever else the model takes.

        Returns:
            float (B, L, D).
        """
        check_shape("input_ids", input_ids, "B L")
        if attention_mask is not None:
            check_shape("attention_mask", attention_mask, "B L", B=input_ids.shape[0], L=input_ids.shape[1])
        last_only = self.layers == (-1,)
        more |= {} if last_only else {"output_hidden_states": True}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        if last_only:
            return output.last_hidden_state
        return torch.cat([output.hidden_states[layer] for layer in self.layers], dim=-1)  # (B, L, D)

    def __reduce__(self) -> tuple[Any, ...]:
        # A model gives its hidden states by hooks that exist only where it was made, and that cannot be sent
        config = copy.deepcopy(self.model.config)
        if config._attn_implementation == PACKED:
            config._attn_implementation = "sdpa"
        return _made_again, (type(self.model), config, self.model.state_dict(), self.tokenizer, self.layers)

    @property
    def max_length(self) -> int:
        """Tokens that the model can read, special ones included."""
        return longest_input(self.model, self.tokenizer)

    @property
    def fixed_length(self) -> int:
        """Tokens that every text is filled up to, all of them read, as SigLIP was trained; 0 if padding is masked."""
        return self.max_length if self.model.config.model_type == "siglip_text_model" else 0

    def save_pretrained(self, folder: Path) -> None:
        """Write model and tokenizer; which layers is the caller's to remember."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _made_again(
    kind: Any, config: Any, weights: dict[str, Tensor], tokenizer: Any, layers: Sequence[int]
) -> TextEncoder:
    first = next(iter(weights.values()))
    model = kind.from_pretrained(None, config=config, state_dict=weights, dtype=first.dtype).to(first.device)
    return TextEncoder(model, tokenizer, layers)


def longest_input(model: Any, tokenizer: Any) -> int:
    """Tokens that a model can read, special ones included."""
    config = model.config
    positions = getattr(config, "max_position_embeddings", 512) - first_position(config)
    return int(min(positions, tokenizer.model_max_length))


def first_position(config: Any) -> int:
    """Where a model begins to number positions: RoBERTa and MPNet at padding_idx + 1, so that two of their 514 can
    never be used."""
    return config.pad_token_id + 1 if any(name in config.model_type for name in ("roberta", "mpnet")) else 0


def load_model(name: str | Path, auto_class: str, **options: Any) -> Any:
    """Load a model through one of transformers' Auto classes, from safetensors only (never a pickle).

    Weights that the checkpoint lacks (often a pooler) are drawn the same at every load, so that the same folder is
    always the same model, of single precision, whatever the file holds. Options go to `from_pretrained`.

    Raises:
        ArtifactError: If the folder does not exist or holds no such model.
    """
    import transformers

    kind = model_type(name)
    options.setdefault("dtype", torch.float32)  # training needs it, and layers that are added have it
    try:
        loader = getattr(transformers, _UNKNOWN_TO_AUTO.get((auto_class, kind), auto_class))
        with torch.random.fork_rng():
            torch.manual_seed(torch.initial_seed() if auto_class != "AutoModel" else 0)
            return loader.from_pretrained(str(name), use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:  # at run time: of another shape
        raise ArtifactError(f"{name} cannot be loaded as a model: {_first_line(error)}") from error


def model_type(name: str | Path) -> str:
    """The kind of a model, as transformers calls it; raises `ArtifactError` if there is none."""
    from transformers import AutoConfig, PretrainedConfig

    _check_exists(name)
    try:
        kind = PretrainedConfig.get_config_dict(str(name))[0].get("model_type")
        if kind in _OURS:
            import_module(_OURS[kind])
        return str(AutoConfig.from_pretrained(str(name)).model_type)
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{name} cannot be loaded as a model: {_first_line(error)}") from error


def load_tokenizer(name: str | Path) -> Any:
    """Load a fast tokenizer.

    Raises:
        ArtifactError: If there is none.
        DataError: If it is a slow one, which cannot say which characters a token covers.
    """
    from transformers import AutoTokenizer

    _check_exists(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"{name} cannot be loaded as a tokenizer: {_first_line(error)}") from error
    return check_fast(tokenizer)


def check_fast(tokenizer: Any) -> Any:
    """The tokenizer, or `DataError` if it is not a fast one."""
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which cannot say which characters a token covers; "
            "use a model with a fast one (a tokenizer.json)"
        )
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of what a tokenizer does to text; padding and truncation, which calls change, do not count."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return digest(json.dumps({k: v for k, v in state.items() if k not in {"padding", "truncation"}}, sort_keys=True))


def weights_digest(module: nn.Module) -> str:
    """Digest of a module's names, shapes, types and values."""
    parts = list[str | bytes]()
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        parts += [
            name,
            str(tuple(tensor.shape)),
            str(tensor.dtype),
            tensor.flatten().view(torch.uint8).numpy().tobytes(),
        ]
    return digest(*parts)


def config_digest(model: Any) -> str:
    """Digest of what a model computes with, beside its weights."""
    config = model.config.to_dict()
    return digest(*(f"{name} {config[name]}" for name in sorted(config) if name not in _NO_MATTER))


def hub_names(*models: Any) -> list[str]:
    """The names on the Hub that models were loaded by; those of a folder, and fresh ones, have none."""
    names = [model.config.name_or_path or "" for model in models]
    return list(dict.fromkeys(name for name in names if name and not Path(name).exists()))


def build_word_tokenizer(lines: Sequence[str]) -> Any:
    """A lower-casing BERT tokenizer in which every word of `lines` is one token; for small closed worlds."""
    from transformers import BertTokenizer

    words = sorted({word for line in lines for word in line.lower().split()})
    characters = sorted({character for word in words for character in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *characters, *(f"##{c}" for c in characters)]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=512)


def build_byte_tokenizer(lines: Iterable[str], size: int = 500) -> Any:
    """A byte-level BPE tokenizer as RoBERTa's, of so many tokens, learnt from some lines."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    learnt = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learnt.train_from_iterator(lines, size, special_tokens=special, show_progress=False)
    model: Any = json.loads(learnt.to_str())["model"]
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512)


def freeze(module: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def _check_exists(name: str | Path) -> None:
    looks_local = isinstance(name, Path) or str(name).startswith((".", "/", "~")) or str(name).count("/") > 1
    if looks_local and not Path(name).is_dir():
        raise ArtifactError(f"no model folder at {name}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
