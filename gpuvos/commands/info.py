"""``gpuvos info``: versions, devices, and which implementation every op runs."""

from __future__ import annotations

import pkgutil
import platform
from argparse import ArgumentParser, Namespace
from importlib.metadata import PackageNotFoundError, version

import torch

import gpuvos
from gpuvos import kernels

_PACKAGES = ("torch", "triton", "torchvision", "kornia", "numpy", "av", "pillow")


def add_arguments(_parser: ArgumentParser) -> None:
    """``gpuvos info`` takes no arguments."""


def run(_arguments: Namespace) -> int:
    """Prints the report; returns the exit status."""
    print(f"gpuvos {gpuvos.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            print(f"  {name} not installed")
    print(f"devices: cpu ({torch.get_num_threads()} threads)")
    for number in range(torch.cuda.device_count()):
        print(f"  cuda:{number} {torch.cuda.get_device_name(number)}")
    print("ops:")
    for module in pkgutil.iter_modules(kernels.__path__):
        if module.ispkg:
            print(f"  gpuvos::{module.name}: reference (plain torch) on every device")
    return 0
