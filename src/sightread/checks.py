"""Checks of tensor shapes, for the places where tensors enter a public function."""

from torch import Tensor

from sightread.errors import ShapeError


def check_shape(name: str, x: Tensor, shape: str, **sizes: int) -> None:
    """Raise unless `x` has the named dimensions.

    Args:
        name: What to call the tensor in the message.
        x: The tensor.
        shape: Space-separated dimensions from the legend in `contracts`, e.g. `"B L D"`.
        **sizes: Expected sizes of some of them, e.g. `D=768`.

    Raises:
        ShapeError: If the number of dimensions or a named size differs.
    """
    dims = shape.split()
    fits = x.ndim == len(dims) and all(sizes.get(dim, size) == size for dim, size in zip(dims, x.shape, strict=True))
    if not fits:
        expected = ", ".join(f"{dim}={sizes[dim]}" if dim in sizes else dim for dim in dims)
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, expected ({expected})")
