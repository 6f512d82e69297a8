import pytest
import torch

from sightread.checks import check_shape
from sightread.errors import ShapeError


@pytest.mark.parametrize(
    ("shape", "sizes"), [("B L D", {}), ("B L D", {"D": 4}), ("B L D", {"B": 2, "L": 3, "D": 4, "V": 9})]
)
def test_a_shape_that_fits(shape, sizes):
    check_shape("x", torch.zeros(2, 3, 4), shape, **sizes)


def test_a_scalar_has_no_dimensions():
    check_shape("loss", torch.tensor(1.0), "")


@pytest.mark.parametrize(
    ("shape", "sizes", "expected"),
    [
        ("B L", {}, r"\(B, L\)"),
        ("B L D E", {}, r"\(B, L, D, E\)"),
        ("B L D", {"D": 3}, r"\(B, L, D=3\)"),
        ("B L D", {"B": 2, "L": 4}, r"\(B=2, L=4, D\)"),
        ("", {}, r"\(\)"),
    ],
)
def test_a_shape_that_does_not(shape, sizes, expected):
    with pytest.raises(ShapeError, match=r"states has shape \(2, 3, 4\), expected " + expected):
        check_shape("states", torch.zeros(2, 3, 4), shape, **sizes)
