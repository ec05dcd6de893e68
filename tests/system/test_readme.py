"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_python_block_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {})


def test_there_are_blocks_and_two_commands() -> None:
    assert len(BLOCKS) >= 3
    first, second = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    assert "gpuvos demo" in first
    assert "pytest" in second


def test_no_section_is_there_twice() -> None:
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert len(headings) > 10
    assert len(set(headings)) == len(headings)


def test_pictures_exist() -> None:
    root = Path(__file__).parents[2]
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (root / name).is_file(), name
