"""Calls with arguments of every kind, good and spoilt, and what must hold of each.

A case is ``(function, arguments, options, results)``. An argument is written ``"kind letters"``: tensors by the letters of
their shape, ``...`` for any leading dimensions; results likewise, sizes being letters, numbers, sums and products.
``kind=name`` has the dtype of another argument, ``kind<size`` values below a size.
An option is written by its kind, or as a tuple of good values.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpuvos import Config, InputError, segment

Case = tuple[Callable[..., Any], dict[str, str], dict[str, Any], list[str]]

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int32, torch.int64)
KINDS = {  # dtypes, and the range of sane values
    "float": (FLOATS, -3, 3), "positive": (FLOATS, 0, 3), "unit": (FLOATS, 0, 1),
    "frames": ((*FLOATS, torch.uint8), 0, 1), "bool": ((torch.bool,), 0, 1), "mask": (INTEGERS, 0, 1),
    "ids": (INTEGERS, 0, 255), "index": ((torch.int64,), -1, 0), "place": ((torch.int64,), 0, 0),
}  # fmt: skip
EXTREMES = (math.nan, math.inf, -math.inf, 3e38, -3e38, 1e30, 1e-45, 0.0, -0.0, 65504.0, 255.0, -1.0)
FAR = (-2, -(2**62), 2**31, 2**62, 10_000)
OPTIONS = {  # good and bad values
    "count": ((1, 2, 3, 5), (0, -1, 1.5, True, None, "2", math.nan, math.inf, [1], (1, 2), np.array([1, 2]), torch.tensor([1, 2]))),
    "odd": ((1, 3, 5), (0, 2, -1, 1.5, True, None, "3", math.nan, [1])),
    "radius": ((0, 1, 3), (-1, 1.5, None, "3", math.nan, [1])),
    "number": ((0.5, 1, 2.5), (0, -1, math.nan, math.inf, None, "1", [1.0], np.array([1, 2]))),
    "weight": ((0, 0.5, 2), (-1, math.nan, math.inf, None, "1", [1.0])),
    "share": ((0, 0.5, 1, 1.0), (-0.1, 1.1, math.nan, math.inf, None, "1", [0.5])),
    "flag": ((True, False), ()),
    "size": ((None, (3, 4), (1, 1)), ((0, 2), (-1, 2), (2,), (1, 2, 3), 5, "ab", (1.5, 2))),
    "grid": (((3, 4), (1, 1)), ((0, 2), (-1, 2), (2,), (1, 2, 3), 5, "ab", (1.5, 2))),
}  # fmt: skip


class Plain(Tensor):
    """A subclass without any behaviour."""


class _Call:
    """Draws the arguments of one call; ``sane`` if nothing about them is out of the ordinary."""

    def __init__(self, draw: Callable[[Any], Any], case: Case, folder: Path) -> None:
        self.draw, self.folder = draw, folder
        self.generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        self.leading = draw(st.sampled_from(((), (2,), (1, 2), (), (0,))))
        self.sizes: dict[str, int] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.spoilt = draw(st.sampled_from(("", "", "value", "argument", "layout", "size")))
        self.low = 0 if self.spoilt == "size" else 1
        names = list(case[1]) + list(case[2])
        self.victim = draw(st.sampled_from(names)) if names else ""
        self.arguments = {name: self.argument(name, text) for name, text in case[1].items()}
        needed = inspect.signature(case[0]).parameters
        for name, kind in case[2].items():
            default = needed[name].default if name in needed else None
            if default is inspect.Parameter.empty or draw(st.booleans()):
                self.arguments[name] = self.option(name, kind)
            self.sizes[name] = self.arguments.get(name, {"start": 0, "step": 1}.get(name, default))
        self.sane = self.spoilt in ("", "layout") and 0 not in self.leading

    def size(self, text: str) -> int:
        """The size that an expression of letters stands for; a new letter gets one."""
        for letter in re.findall("[A-Za-z_]+", text):
            if letter not in self.sizes:  # an option is there already
                self.sizes[letter] = self.draw(st.integers(self.low, 6))
        return max(0, eval(text, {}, dict(self.sizes)))

    def shape(self, text: str) -> tuple[int, ...]:
        letters = text.split()
        lead = self.leading if letters[:1] == ["..."] else ()
        return (*lead, *(self.size(letter) for letter in letters if letter != "..."))

    def argument(self, name: str, text: str) -> Any:
        kind, _, letters = text.partition(" ")
        kind, _, like = kind.partition("=")
        kind, _, limit = kind.partition("<")
        if kind == "path":
            return self.path(name, letters)
        if kind == "result":
            return self.result(name, letters)
        value = self.tensor(kind, self.shape(letters), self.size(limit) if limit else 0)
        value = value.to(self.dtypes.setdefault(like or name, value.dtype))
        return self.spoil(value, kind) if name == self.victim else value

    def tensor(self, kind: str, shape: tuple[int, ...], limit: int) -> Tensor:
        dtypes, low, high = KINDS[kind]
        dtype = self.draw(st.sampled_from(dtypes))
        unit = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        if kind in ("index", "place"):
            return (low + unit * (limit - low)).floor().long()
        if dtype == torch.bool:
            return unit > 0.5
        if dtype.is_floating_point:
            return (low + unit * (high - low)).to(dtype)
        return (unit * (256 if kind == "frames" else high + 1)).to(dtype)

    def spoil(self, value: Tensor, kind: str) -> Any:
        """The tensor with odd values, in an odd layout, or something else in its place."""
        if self.spoilt == "value" and value.numel() and value.dtype != torch.bool:
            place = int(torch.randint(value.numel(), (), generator=self.generator))
            odd = self.draw(st.sampled_from(FAR if kind in ("index", "place", "ids") else EXTREMES))
            if not value.dtype.is_floating_point:
                info = torch.iinfo(value.dtype)
                odd = min(max(int(odd) if math.isfinite(odd) else 0, info.min), info.max)
            elif value.dtype == torch.float16 and abs(odd) > 65504:  # torch refuses to write it
                odd = math.copysign(math.inf, odd)
            value = value.clone()
            if self.draw(st.booleans()):
                value.view(-1)[place] = odd
            else:
                value.fill_(odd)
        if self.spoilt == "layout":
            return self.draw(st.sampled_from((_transposed, _expanded, _tracked, _strided, _subclass)))(value)
        if self.spoilt == "argument":
            return self.draw(st.sampled_from(_REPLACEMENTS))(value)
        return value

    def option(self, name: str, kind: Any) -> Any:
        good, bad = (kind, ("", "nothing", 7.5, ["a"])) if isinstance(kind, tuple) else OPTIONS[kind]
        if self.spoilt == "argument" and name == self.victim and bad:
            return self.draw(st.sampled_from(bad))
        return self.draw(st.sampled_from(good))

    def path(self, name: str, suffix: str) -> Any:
        if self.spoilt == "argument" and name == self.victim:
            bad = (None, 3, "", "a\0b", b"x" + suffix.encode(), self.folder, f"{self.folder}/{'x' * 300}{suffix}",
                   self.folder / "file.none", self.folder / "there" / ("x" + suffix))  # fmt: skip
            return self.draw(st.sampled_from(bad))
        return self.folder / ("good" + suffix)

    def result(self, name: str, letters: str) -> Any:
        """A segmentation of random features, or something that is none."""
        t, d, h, w = self.shape(letters)
        if min(t, d, h, w) == 0:
            return None
        config = Config(num_seeds=4, window=3, track_seeds=True, rule=self.draw(st.sampled_from(("paper", "robust"))))
        features = [torch.rand(shape, generator=self.generator) for shape in ((t, d, h, w), (t, h, w), (t, 2, h, w))]
        several = self.spoilt == "argument" and name == self.victim
        if several and self.draw(st.booleans()):
            return self.draw(st.sampled_from((None, tuple(features), 3)))
        return segment(*(v[None] for v in features) if several else features, config=config, size=(2 * h, 2 * w))


def _transposed(value: Tensor) -> Tensor:
    return value.movedim(0, -1).contiguous().movedim(-1, 0) if value.ndim else value


def _expanded(value: Tensor) -> Tensor:
    return value[..., :1].expand(value.shape) if value.ndim else value


def _tracked(value: Tensor) -> Tensor:
    return value.requires_grad_() if value.is_floating_point() else value


def _strided(value: Tensor) -> Tensor:
    return value.repeat_interleave(2, -1)[..., ::2] if value.ndim else value


def _subclass(value: Tensor) -> Tensor:
    return value.as_subclass(Plain)


_REPLACEMENTS: tuple[Callable[[Tensor], Any], ...] = (
    lambda _: None,
    lambda value: value.tolist(),
    lambda value: value.float().numpy(),
    lambda value: value.to("meta"),
    lambda value: value.to(torch.complex64),
    lambda value: value.to(torch.int16),
    lambda value: value.to(torch.int64 if value.is_floating_point() else torch.float32),
    lambda value: value.to(torch.uint8 if value.dtype == torch.bool else torch.bool),
    lambda value: value.float().to(torch.float8_e5m2),
    lambda value: value.to_sparse() if value.ndim else None,
    lambda value: value[None],
    lambda value: value.flatten(),
    lambda _: torch.zeros(()),
    lambda value: torch.cat((value, value), -1) if value.ndim else None,
    lambda value: torch.cat((value, value), 0) if value.ndim else None,
)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a result, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _bits(values: list[Tensor]) -> list[Any]:
    flat = [v.detach().cpu().flatten().clone(memory_format=torch.contiguous_format) for v in values]
    bits = [v.view(torch.uint8).tolist() if v.numel() else [] for v in flat]
    return [(v.shape, v.dtype, found) for v, found in zip(values, bits, strict=True)]


def _check_results(results: list[Tensor], wanted: list[str], call: _Call) -> None:
    """Shapes, types, ranges; finite values where the arguments are ordinary."""
    assert len(results) == len(wanted), f"{len(results)} results"
    for value, text in zip(results, wanted, strict=True):
        kind, _, letters = text.partition(" ")
        kind, always, _ = kind.partition("!")  # "!": finite whatever was accepted
        kind, endless, _ = kind.partition("~")  # "~": may be infinite
        if call.spoilt != "argument":  # which may have been a good one of another shape
            assert value.shape == call.shape(letters), f"{tuple(value.shape)} instead of {text}: {call.sizes}"
        assert not value.is_meta
        if kind in ("float", "positive", "unit"):
            assert value.is_floating_point()
            low, high = {"float": (-math.inf, math.inf), "positive": (0, math.inf), "unit": (0, 1)}[kind]
            known = value.detach().double()
            if call.sane or always:
                assert not known.isnan().any()
                assert endless or known.isfinite().all()
            assert not ((known < low) | (known > high)).any(), f"{text} holds {known.aminmax()}"
        else:
            assert value.dtype == {"bool": torch.bool, "uint8": torch.uint8, "index": torch.int64}[kind]


def _outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(**arguments)


def _check_refusal(message: str, case: Case, call: _Call) -> None:
    """Only what is out of the ordinary may be refused, by the name of an argument."""
    assert not call.sane, f"refused: {message}"
    named = set(re.findall(r"\w+", message.partition(":")[0]))
    assert named & {*case[1], *case[2]}, message
    assert ", wanted " in message, message


def _holds(case: Case, call: _Call) -> None:
    before = _bits([v for v in _tensors(list(call.arguments.values())) if not (v.is_meta or v.is_sparse)])
    try:
        result = _outcome(case[0], call.arguments)
    except InputError as error:
        _check_refusal(str(error), case, call)
        return
    found = list(_tensors(result))
    if not all(value.is_meta for value in found) or not found:
        _check_results(found, case[3], call)
        again = list(_tensors(_outcome(case[0], call.arguments)))
        assert _bits(found) == _bits(again), "another result the second time"
    after = _bits([v for v in _tensors(list(call.arguments.values())) if not (v.is_meta or v.is_sparse)])
    assert before == after, "an argument was changed"


@pytest.fixture(scope="session")
def holds(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Checks a case with a number of drawn calls, the same ones in every run."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("properties")
    (folder / "there").write_text("a file where a folder would have to be")

    def check(case: Case, examples: int = 40) -> None:
        @settings(
            derandomize=True, max_examples=examples, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=(Phase.generate,), report_multiple_bugs=False,
        )  # fmt: skip
        @given(st.data())
        def calls(data: st.DataObject) -> None:
            _holds(case, _Call(data.draw, case, folder))

        calls()

    return check


@pytest.fixture(scope="session")
def public() -> Callable[[ModuleType], set[str]]:
    """Names of a module that do something: no plain tuples of tensors, enumerations, exceptions, aliases."""

    def names(module: ModuleType) -> set[str]:
        own = (n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__)
        found = {name: getattr(module, name) for name in getattr(module, "__all__", own) if name[0] != "_"}
        return {name for name, value in found.items() if callable(value) and not _is_type_alone(value)}

    return names


def _is_type_alone(value: Any) -> bool:
    if not inspect.isclass(value):
        return not inspect.isfunction(value)
    kinds = (tuple, Enum, Exception)
    return issubclass(value, kinds) or getattr(value, "_is_protocol", False)
