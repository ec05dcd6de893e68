"""Options of ``gpuvos info``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace


def add_arguments(_parser: ArgumentParser) -> None:
    """``gpuvos info`` takes no arguments."""


def check(_arguments: Namespace) -> None:
    """``gpuvos info`` has nothing to check."""
