"""The one exception and the checks that raise it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gpuvos import InputError
from gpuvos.errors import (
    check_choice,
    check_positive,
    check_tensor,
    check_values,
    fail,
    values_readable,
)


def test_messages_by_hand() -> None:
    assert str(fail("size", "0", "a number above zero")) == "size: got 0, wanted a number above zero"
    assert str(fail("x", "a", "b", "do c")) == "x: got a, wanted b; do c"
    assert isinstance(fail("x", "a", "b"), ValueError)  # who expects the built-in one catches ours
    assert InputError.__mro__[1] is ValueError


def test_check_tensor_binds_letters() -> None:
    assert check_tensor("x", torch.zeros(2, 3, 4), "T H W") == {"T": 2, "H": 3, "W": 4}
    assert check_tensor("x", torch.zeros(7, 2, 3, 4), "... H W") == {"H": 3, "W": 4}
    assert check_tensor("x", torch.zeros(4, 4), "... K K") == {"K": 4}
    assert check_tensor("x", torch.zeros(5), "...") == {}
    sizes = {"T": 2}
    assert check_tensor("x", torch.zeros(2, 9), "T D", sizes=sizes) == {"T": 2, "D": 9}
    assert sizes == {"T": 2}  # the caller's is not changed
    check_tensor("x", torch.zeros(6, 5, 2, 3), "... 2 D", leading=(6, 5))
    for kind, dtypes in {
        "float": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
        "int64": (torch.int64,),
        "bool": (torch.bool,),
        "frames": (torch.uint8, torch.float16, torch.float32),
    }.items():
        for dtype in dtypes:
            check_tensor("x", torch.zeros(1, dtype=dtype), "N", kind=kind)


@pytest.mark.parametrize(
    ("value", "shape", "options", "message"),
    [
        (None, "N", {}, "x: got NoneType, wanted a floating-point tensor of shape [N]; convert it"),
        (np.zeros(3), "N", {}, "x: got ndarray"),
        (torch.zeros(3, dtype=torch.int32), "N", {}, "x: got torch.int32, wanted a floating-point tensor"),
        (torch.zeros(3, dtype=torch.int32), "N", {"kind": "int64"}, "x: got torch.int32, wanted an int64"),
        (torch.zeros(3), "N", {"kind": "bool"}, "x: got torch.float32, wanted a bool tensor"),
        (torch.zeros(3, dtype=torch.int64), "N", {"kind": "frames"}, "wanted a uint8 tensor or a floating-point"),
        (torch.zeros(2, 3), "N", {}, "x: got shape (2, 3), wanted a floating-point tensor of shape [N]"),
        (torch.zeros(3), "... H W", {}, "x: got shape (3,), wanted"),
        (torch.zeros(4, 2), "T 3", {}, "x: got shape (4, 2), wanted a floating-point tensor of shape [T, 3]"),
        (torch.zeros(3, 4), "K K", {}, "x: got shape (3, 4)"),
        (torch.zeros(4, 2), "T D", {"sizes": {"D": 8}}, "shape [T, D] with D = 8"),
        (torch.zeros(4, 2), "... D", {"leading": (5,)}, "x: got leading dimensions (4,), wanted (5,)"),
        (torch.zeros(3), "N", {"like": torch.zeros(1, device="meta")}, "x: got device cpu, wanted device meta; move"),
    ],
)
def test_check_tensor_says_what_came_and_what_was_wanted(
    value: object, shape: str, options: dict, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_tensor("x", value, shape, **options)
    assert message in str(caught.value)


def test_check_positive() -> None:
    for good in (1, 0.1, 1e30, np.float32(2)):
        check_positive("x", good)
    check_positive("x", 0, zero=True)
    for bad in (0, -1, -0.5, float("nan"), float("inf"), 1e31, "3", None, [1]):
        with pytest.raises(InputError, match=r"^x: got .*, wanted a number above zero"):
            check_positive("x", bad)
    with pytest.raises(InputError, match=r"^x: got -1, wanted zero or more"):
        check_positive("x", -1, zero=True)


def test_check_choice() -> None:
    check_choice("x", "a", ("a", "b"))
    for bad in ("c", None, 3, ["a"]):
        with pytest.raises(InputError, match=r"^x: got .*, wanted one of 'a', 'b'"):
            check_choice("x", bad, ("a", "b"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_check_values(dtype: torch.dtype) -> None:
    value = torch.tensor([0.0, 0.5, 1.0], dtype=dtype)
    check_values("x", value)
    check_values("x", value, low=0, high=1)
    check_values("x", value[:0], low=5)
    for number in (torch.nan, torch.inf, -torch.inf):
        for place in range(3):
            bad = value.clone()
            bad[place] = number
            with pytest.raises(InputError, match=r"^x: got NaN or infinite values"):
                check_values("x", bad)
    with pytest.raises(InputError, match=r"^x: got values from 0 to 1, wanted values in \[0.25, inf\]"):
        check_values("x", value, low=0.25)
    with pytest.raises(InputError, match=r"^x: .*wanted values in \[-inf, 0.75\]"):
        check_values("x", value, high=0.75)
    check_values("x", torch.tensor([0, 300]), high=1)  # whole numbers are not looked at


def test_values_are_not_read_where_they_cannot_be() -> None:
    bad = torch.tensor([torch.nan])
    assert values_readable(bad)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(bad)
        assert not values_readable(fake)
        check_values("x", fake)
    seen = []

    def traced(value: torch.Tensor) -> torch.Tensor:
        seen.append(values_readable(value))
        check_values("x", value)
        return value + 1

    assert torch.compile(traced, backend="eager", fullgraph=True)(bad).isnan().all()
    assert not any(seen)
