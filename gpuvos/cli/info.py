"""``gpuvos info``: versions, devices, and which implementation every op runs on each, and why."""

from __future__ import annotations

import importlib.util
import pkgutil
import platform
from argparse import Namespace
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import torch

import gpuvos
from gpuvos import kernels
from gpuvos.kernels.backend import choose

_PACKAGES = ("torch", "triton", "torchvision", "kornia", "numpy", "av", "pillow")


def run(_arguments: Namespace) -> int:
    """Prints the report; returns the exit status."""
    print(f"gpuvos {gpuvos.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            print(f"  {name} not installed")
    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    print(f"devices: cpu ({torch.get_num_threads()} threads)")
    for device in devices[1:]:
        print(f"  {device} {torch.cuda.get_device_name(device)}")
    print("ops:")
    for line in describe_ops(devices):
        print(f"  {line}")
    return 0


def describe_ops(devices: list[str]) -> Iterator[str]:
    """What every op runs for float32 tensors of each device; where none is CUDA, what it would run there as well."""
    asked = devices if any(device.startswith("cuda") for device in devices) else [*devices, "cuda"]
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.ispkg:
            continue
        written = importlib.util.find_spec(f"gpuvos.kernels.{module.name}.kernel") is not None
        runs = []
        for device in asked:
            name, reason = choose(device)
            if name == "kernel" and not written:
                name, reason = "reference", "it has no kernel"
            where = f"on {device}" if device in devices else f"on {device}, were it there"
            runs.append(f"{name} {where} ({reason})")
        yield f"gpuvos::{module.name}: {'; '.join(runs)}"
