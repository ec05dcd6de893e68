"""The page about a segmented video: what it says, and that it needs nothing beside it."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from gpuvos.errors import InputError
from gpuvos.viz.report import report_html
from gpuvos.viz.timeline import FlagRow, Strip, frame_ranges, timeline_html


def page(tmp_path: Path, title: str = "clip.mp4") -> str:
    (tmp_path / "overlay.mp4").write_bytes(b"film")
    (tmp_path / "sheet.png").write_bytes(b"picture")
    return report_html(
        title,
        summary="Found in 2 of 3 frames.",
        video=tmp_path / "overlay.mp4",
        sheet=tmp_path / "sheet.png",
        times=[0.0, 0.5, 1.0],
        strips=[Strip("Share", [0.0, 0.25, 0.5], "%")],
        flags=[FlagRow("Nothing moves", [True, False, False]), FlagRow("Gone", [False] * 3)],
        facts={"rule": "robust"},
    )


def test_page_holds_all_it_shows(tmp_path: Path) -> None:
    text = page(tmp_path)
    for kind, data in (("video/mp4", b"film"), ("image/png", b"picture")):
        assert f'src="data:{kind};base64,{base64.b64encode(data).decode()}"' in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert "Found in 2 of 3 frames." in text
    assert "<th>rule</th><td>robust</td>" in text


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    text = page(tmp_path, "<script>alert(1)</script>.mp4")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.mp4" in text


def test_unusual_frames_are_told_in_words(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "<th>Nothing moves</th><td>frames 0</td>" in text
    assert "<th>Gone</th>" not in text


def test_a_video_too_large_for_an_address_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuvos.viz.report._MOST_VIDEO", 3)
    assert '<a href="overlay.mp4">' in page(tmp_path)


def test_chart_by_hand() -> None:
    """Heights 0, 1/4 and 1/2 under a top of 1/2 leave 40, 20 and 0 of the 40 units above them."""
    drawn = timeline_html([Strip("Share", [0.0, 0.25, 0.5], "%")])
    assert 'viewBox="0 0 3 40"' in drawn
    assert 'd="M0 40V40.00H1V20.00H2V0.00H3V40Z"' in drawn
    assert "up to 50 %" in drawn


def test_marks_by_hand() -> None:
    drawn = timeline_html([Strip("Share", [0.0] * 4)], [FlagRow("tie", [True, True, False, True])])
    assert 'd="M0 0H2V40H0ZM3 0H4V40H3Z"' in drawn
    assert "3 frames" in drawn


def test_many_frames_share_columns() -> None:
    drawn = timeline_html([Strip("Share", [1.0] * 5001)], [FlagRow("tie", [False] * 5000 + [True])])
    assert drawn.count('viewBox="0 0 2000 40"') == 2
    assert 'd="M1999 0H2000V40H1999Z"' in drawn


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="strips"):
        timeline_html([Strip("a", [0.0]), Strip("b", [0.0, 1.0])])
    with pytest.raises(InputError, match="strips"):
        timeline_html([Strip("a", [])])
    assert frame_ranges([False, True, True, False, True]) == [(1, 2), (4, 4)]
