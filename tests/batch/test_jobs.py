"""Which videos there are, and where each goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuvos.batch.jobs import plan_jobs
from gpuvos.batch.manifest import RECORD
from gpuvos.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def planned(inputs: list[str], output: Path, root: Path) -> dict[str, str]:
    """Videos and outputs, each by its place in its root."""
    jobs = plan_jobs(inputs, output)
    return {str(job.video.relative_to(root)): str(job.output.relative_to(output)) for job in jobs}


def test_one_video_goes_to_the_output_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "one.mp4", "frames.v2/0.png")
    assert plan_jobs(["one.mp4"], Path("out")) == [(tmp_path / "one.mp4", tmp_path / "out")]
    assert plan_jobs(["one.mp4"], None) == [(tmp_path / "one.mp4", tmp_path / "one-gpuvos")]
    assert plan_jobs(["missing.mp4"], None) == [(tmp_path / "missing.mp4", tmp_path / "missing-gpuvos")]
    assert plan_jobs(["frames.v2/"], None) == [(tmp_path / "frames.v2", tmp_path / "frames.v2-gpuvos")]
    monkeypatch.chdir(tmp_path / "frames.v2")
    assert plan_jobs(["."], tmp_path) == [(tmp_path / "frames.v2", tmp_path)]


def test_lists_and_names_without_anything_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n\n")
    with pytest.raises(InputError, match=r"^video: got .*list\.txt, which names no video"):
        plan_jobs([f"@{tmp_path}/list.txt"], None)
    with pytest.raises(InputError, match=r"^video: got ''"):
        plan_jobs([""], None)


def test_several_go_to_folders_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.mp4", "b/two/0.jpg")
    inputs = [str(tmp_path / "a/one.mp4"), str(tmp_path / "b/two"), str(tmp_path / "a/one.mp4")]
    assert planned(inputs, tmp_path / "out", tmp_path) == {"a/one.mp4": "one-gpuvos", "b/two": "two-gpuvos"}


def test_a_tree_is_taken_over(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    touch(root, "one.mp4", "day/one.MOV", "day/two.mkv", "day/notes.txt", ".hidden/no.mp4", "day/.no.mp4")
    touch(root, "sequences/bear/00000.jpg", "sequences/bear/deeper/no.mp4", "sequences/camel/00000.png")
    touch(root, "out/one-gpuvos/overlay.mp4", f"old/one-gpuvos/{RECORD}", "old/one-gpuvos/overlay.mp4")
    with pytest.warns(UserWarning, match=r"1 file is left out \(no names of videos\): day/notes\.txt"):
        found = planned([str(root)], root / "out", root)
    assert found == {
        "one.mp4": "one-gpuvos",
        "day/one.MOV": "day/one-gpuvos",
        "day/two.mkv": "day/two-gpuvos",
        "sequences/bear": "sequences/bear-gpuvos",
        "sequences/camel": "sequences/camel-gpuvos",
    }


def test_posters_of_videos_are_no_frames(tmp_path: Path) -> None:
    touch(tmp_path, "films/one.mp4", "films/two.mkv", "films/poster.jpg", "films/two.png")
    with pytest.warns(UserWarning, match=r"films': 2 files are left out .*: poster\.jpg, two\.png"):
        found = planned([str(tmp_path / "films")], tmp_path / "out", tmp_path)
    assert found == {"films/one.mp4": "one-gpuvos", "films/two.mkv": "two-gpuvos"}


def test_a_video_beside_its_frames_is_left_out_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "bear/preview.mp4", *(f"bear/{number:05d}.jpg" for number in range(20)))
    for inputs in ([str(tmp_path / "bear")], [str(tmp_path)]):
        with pytest.warns(UserWarning, match=r"1 file is left out \(its frames are images\): preview\.mp4"):
            assert [job.video for job in plan_jobs(inputs, tmp_path / "out")] == [tmp_path / "bear"]


@pytest.mark.parametrize("suffix", ["3gp", "vob", "ogg", "m2v", "mjpeg", "h264", "dv", "f4v", "asf", "y4m", "apng"])
def test_videos_of_many_names(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"films/one.{suffix}")
    found = planned([str(tmp_path / "films")], tmp_path / "out", tmp_path)
    assert found == {f"films/one.{suffix}": "one-gpuvos"}


def test_a_tree_of_one_video_is_still_a_tree(tmp_path: Path) -> None:
    touch(tmp_path, "videos/one.mp4")
    assert planned([str(tmp_path / "videos")], tmp_path / "out", tmp_path) == {"videos/one.mp4": "one-gpuvos"}


def test_a_list_names_videos_and_trees(tmp_path: Path) -> None:
    touch(tmp_path, "one.mp4", "tree/two.mp4")
    (tmp_path / "list.txt").write_text(f"# videos\n{tmp_path}/one.mp4\n\n{tmp_path}/tree\n")
    found = planned([f"@{tmp_path}/list.txt"], tmp_path / "out", tmp_path)
    assert found == {"one.mp4": "one-gpuvos", "tree/two.mp4": "two-gpuvos"}


def test_what_cannot_be_planned_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/one.mp4", "b/one.mkv", "empty/notes.txt")
    with pytest.raises(InputError, match=r"a/one\.mp4.*b/one\.mkv.*one-gpuvos"):
        plan_jobs([str(tmp_path / "a/one.mp4"), str(tmp_path / "b/one.mkv")], tmp_path / "out")
    with pytest.raises(InputError, match=r"empty', a folder in which no file has the name of a video or an image"):
        plan_jobs([str(tmp_path / "empty")], None)
    with pytest.raises(InputError, match=r"@nowhere\.txt"):
        plan_jobs(["@nowhere.txt"], None)
