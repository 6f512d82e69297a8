"""Linear layers by oneDNN, their weights laid out for it once and not with every product.

Where the processor has AVX-512 this is faster than torch's own way, which calls MKL; with AVX2 alone it is slower
(docs/performance.md has both).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sightread.runtime import has_fast_bf16

_ROWS = 2048  # about as many as a batch has; the layout serves for any other number, too
_made: WeakKeyDictionary[nn.Module, dict[torch.dtype, _Prepacked]] = WeakKeyDictionary()


def prepacked(module: nn.Module, dtype: torch.dtype = torch.float32) -> AbstractContextManager[Any]:
    """Within it the linear layers of a module, which no gradient must reach, multiply in this way where it is faster.

    Each weight is held twice, then. In any other precision, and on a GPU, nothing happens.

    Args:
        module: What is called within, of single precision. Weights that have changed since the last time are laid out
            again; what is written into their `data` is no change that can be seen.
        dtype: What is multiplied and returned, float32 or bfloat16; sums are of single precision.
    """
    weights = [layer.weight for layer in module.modules() if isinstance(layer, nn.Linear)]
    known = weights and all(w.dtype == torch.float32 and w.is_cpu and not w.is_inference() for w in weights)
    fast = torch.backends.cpu.get_cpu_capability() == "AVX512"
    fast = fast and (dtype == torch.float32 or has_fast_bf16("cpu"))
    if not known or not fast:
        return nullcontext()
    made = _made.setdefault(module, {})
    if dtype not in made or made[dtype].state != _state(weights):
        made[dtype] = _Prepacked(weights, dtype)
    return made[dtype]


def _state(weights: list[Tensor]) -> list[tuple[int, int, int]]:
    return [(id(weight), weight.data_ptr(), weight._version) for weight in weights]


class _Prepacked(TorchFunctionMode):
    """Takes the place of `torch.nn.functional.linear` for some weights."""

    def __init__(self, weights: list[Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.state = dtype, _state(weights)
        self.weights = weights  # held, so that no other one gets their place in memory
        with torch.no_grad():
            lay_out = torch.ops.mkldnn._reorder_linear_weight
            self.laid_out = {id(weight): lay_out(weight.detach().to(dtype), _ROWS) for weight in weights}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.linear and len(args) == 3 and (weight := self.laid_out.get(id(args[1]))) is not None:
            x, bias = (None if part is None else part.to(self.dtype) for part in args[::2])
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return func(*args, **kwargs or {})
