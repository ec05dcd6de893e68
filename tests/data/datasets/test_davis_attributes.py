"""Attributes of the sequences of DAVIS in the layout of its archive."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpuvos.data.datasets.davis_attributes import ATTRIBUTES, read_attributes
from gpuvos.errors import InputError

TEXT = """
attributes: [AC, BC, DEF, OCC]
sets: [train, test]

sequences:
  - name: bear
    attributes: [DEF]
    num_frames: 82
    set: train
    eval_t: True
  - name: bmx-bumps
    attributes:
      - LR
      - OCC
    num_frames: 90
    set: train
    eval_t: False
  - name: bus
    attributes: []
"""


@pytest.mark.parametrize("name", ["db_info.yml", "db_info.yaml", "data/db_info.yaml"])
def test_reads_codes(tmp_path: Path, name: str) -> None:
    assert read_attributes(tmp_path) == {}
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(TEXT)
    assert read_attributes(tmp_path) == {"bear": ("DEF",), "bmx-bumps": ("LR", "OCC"), "bus": ()}
    assert len(ATTRIBUTES) == 15


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- bear",
        "sequences: 3",
        "sequences: [bear]",
        "sequences: [{name: bear}]",
        "sequences: [{attributes: []}]",
        "sequences: [",
        "sequences: !!python/object/apply:os.getcwd []",
    ],
)
def test_other_contents_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "db_info.yml").write_text(text)
    with pytest.raises(InputError, match=r"db_info\.yml.*wanted a list 'sequences'"):
        read_attributes(tmp_path)


def test_without_a_reader_of_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db_info.yml").write_text(TEXT)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.warns(UserWarning, match=r"gpuvos\[evaluate\]"):
        assert read_attributes(tmp_path) == {}
