"""An extension of Griffe: ``Example:`` of our docstrings is the section that Griffe calls ``Examples:``."""

from __future__ import annotations

import re

import griffe


class Examples(griffe.Extension):
    """Renames the heading, so that doctests are shown as code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Runs for every object of the package."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
