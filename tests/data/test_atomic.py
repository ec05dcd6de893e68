"""Whole or absent: what stands on the disk after success, failure and a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from gpuvos.data.atomic import as_path, atomic_file, atomic_folder, lock_target, sweep_once
from gpuvos.errors import InputError

FAILURES = [ValueError("half-way"), KeyboardInterrupt(), SystemExit(1)]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "out.mp4"
    with atomic_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".out.mp4.partial-")
        assert temporary.stat().st_size == 0
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["out.mp4"]


def test_the_working_directory_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "precious").write_text("mine")
    monkeypatch.chdir(tmp_path / "work")
    with (
        pytest.raises(InputError, match="where this process works"),
        atomic_folder(tmp_path, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["precious", "work"]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_failed_file_leaves_the_old_one(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write_and_fail() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("ha")
            raise failure

    with pytest.raises(type(failure)):
        write_and_fail()
    assert names(tmp_path) == ["out.txt"]
    assert target.read_text() == "old"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_failure_removes_the_folders_it_made_and_no_others(tmp_path: Path, failure: BaseException) -> None:
    (tmp_path / "kept").mkdir()
    for manager in (atomic_file, atomic_folder):
        with pytest.raises(type(failure)), manager(tmp_path / "kept" / "a" / "b" / "out"):
            raise failure
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == []


def test_file_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "out.txt") as temporary:
            temporary.write_text("x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "file.txt")
    with atomic_file(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "file.txt").read_text() == "new"


def test_long_name(tmp_path: Path) -> None:
    longest = tmp_path / ("ä" * 125 + ".txt")  # 254 bytes
    with atomic_file(longest) as temporary:
        temporary.write_text("x")
    assert longest.read_text() == "x"
    with pytest.raises(InputError, match="cannot be written"), atomic_file(tmp_path / ("n" * 300)):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_parent_that_is_a_file(tmp_path: Path, manager) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(InputError, match=r"path: got .*cannot be written"),
        manager(tmp_path / "file" / "out"),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("manager", [atomic_file, atomic_folder])
def test_parent_without_permission(tmp_path: Path, manager, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "mkdir", lambda *_, exist_ok=False, **__: None if exist_ok else refuse())
    with pytest.raises(InputError, match="Permission denied"), manager(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == []


def test_file_refuses_folders_and_devices(tmp_path: Path) -> None:
    for target in (tmp_path, Path(os.devnull)):
        with pytest.raises(InputError, match="not a regular file"), atomic_file(target):
            pytest.fail("the block must not run")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("value", [None, 3, b"bytes", "", "a\0b"])
def test_what_is_no_path(value: object) -> None:
    with pytest.raises(InputError, match="path: got"):
        as_path("path", value)


@pytest.mark.parametrize("existing", [False, True])
def test_folder_appears_only_at_the_end(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "out"
    if existing:
        target.mkdir()
    with atomic_folder(target) as work:
        assert work.parent == tmp_path
        assert work.name.startswith(".out.partial-")
        (work / "a").write_text("1")
        assert target.exists() == existing
    assert names(tmp_path) == ["out"]
    assert names(target) == ["a"]


def test_folder_refuses_what_exists(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").write_text("old")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"not empty.*overwrite=True"), atomic_folder(tmp_path / "full"):
        pytest.fail("the block must not run")
    for overwrite in (False, True):
        with (
            pytest.raises(InputError, match="is a file"),
            atomic_folder(tmp_path / "file", overwrite=overwrite),
        ):
            pytest.fail("the block must not run")
    assert names(tmp_path) == ["file", "full"]
    assert names(tmp_path / "full") == ["old"]


def test_folder_filled_by_somebody_else_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def write_too_late() -> None:
        with atomic_folder(target) as work:
            (work / "mine").write_text("1")
            target.mkdir()
            (target / "theirs").write_text("2")

    with pytest.raises(InputError, match="not empty"):
        write_too_late()
    assert names(tmp_path) == ["out"]
    assert names(target) == ["theirs"]


def test_overwrite_replaces_everything(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    with atomic_folder(target, overwrite=True) as work:
        (work / "new").write_text("new")
        assert names(target) == ["old"]
    assert names(tmp_path) == ["out"]
    assert names(target) == ["new"]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("overwrite", [False, True])
def test_failed_folder_leaves_the_old_one(tmp_path: Path, failure: BaseException, overwrite: bool) -> None:
    target = tmp_path / "out"
    target.mkdir()
    if overwrite:
        (target / "old").write_text("old")

    def write_and_fail() -> None:
        with atomic_folder(target, overwrite=overwrite) as work:
            (work / "new").write_text("new")
            raise failure

    with pytest.raises(type(failure)):
        write_and_fail()
    assert names(tmp_path) == ["out"]
    assert names(target) == (["old"] if overwrite else [])


def test_folder_is_put_back_when_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    rename = Path.rename

    def fail_for_work(self: Path, to: Path) -> Path:
        if "partial" in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr("gpuvos.data.atomic._exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_for_work)
    with pytest.raises(InputError, match="No space"), atomic_folder(target, overwrite=True) as work:
        (work / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(target) == ["old"]


@pytest.mark.slow
def test_killed_process_leaves_no_half_target(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from gpuvos.data.atomic import atomic_file, atomic_folder
        root = Path(sys.argv[1])
        with atomic_folder(root / "folder") as work, atomic_file(root / "file.txt") as temporary:
            (work / "half").write_text("half")
            temporary.write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    """)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = names(tmp_path)
    assert len(left) == 3
    assert ".folder.lock" in left
    assert all(".partial-" in name and name.startswith(".") for name in left if name != ".folder.lock")
    # What is left does not stand in the way of the next run, which takes it away.
    with atomic_folder(tmp_path / "folder") as work:
        (work / "whole").write_text("whole")
    assert names(tmp_path / "folder") == ["whole"]
    assert [name for name in names(tmp_path) if "file" not in name] == ["folder"]
    with atomic_file(tmp_path / "other.txt"):
        pass
    assert names(tmp_path) == ["folder", "other.txt"]


def test_what_is_being_written_is_spared(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "one.txt") as one, atomic_folder(tmp_path / "folder") as work:
        sweep_once.cache_clear()
        with atomic_file(tmp_path / "two.txt"), atomic_folder(tmp_path / "fold"):
            pass
        assert one.exists()
        assert work.exists()
    assert names(tmp_path) == ["fold", "folder", "one.txt", "two.txt"]


def test_two_processes_write_one_folder_one_after_the_other(tmp_path: Path) -> None:
    said: list[str] = []
    with lock_target(tmp_path / "out"):
        other = threading.Thread(target=lambda: _fill_when_free(tmp_path / "out", said))
        other.start()
        while not said:
            time.sleep(0.001)
        assert names(tmp_path) == [".out.lock"]
        with atomic_folder(tmp_path / "out", locked=True) as work:
            (work / "first").touch()
    other.join()
    assert said == ["waits", "got path: not empty"]
    assert names(tmp_path) == ["out"]


def _fill_when_free(folder: Path, said: list[str]) -> None:
    with lock_target(folder, waiting=lambda: said.append("waits")):
        try:
            with atomic_folder(folder, locked=True):
                said.append("nothing was there")
        except InputError as error:
            said.append("got path: not empty" if "not empty" in str(error) else str(error))


@pytest.mark.parametrize("then", ["nothing", "made anew", "written to"])
def test_a_work_folder_that_is_deleted_is_an_error(tmp_path: Path, then: str) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "out") as work:
            (work / "masks").mkdir()
            shutil.rmtree(work)
            if then == "made anew":
                (work / "masks").mkdir(parents=True)
            if then == "written to":
                (work / "masks/0.png").write_text("0")

    with pytest.raises(InputError, match=r"work folder .* was deleted"):
        fill()
    assert names(tmp_path) == []


def test_a_link_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="a link to"), atomic_folder(tmp_path / "link", overwrite=True):
        pytest.fail("the block must not run")
    assert names(tmp_path / "real") == ["mine"]


def test_a_folder_set_aside_by_a_killed_process_is_put_back(tmp_path: Path) -> None:
    for name in (".out.replaced-0123abcd", ".out.partial-0123abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with lock_target(tmp_path / "out"):
        assert names(tmp_path) == [".out.lock", "out"]
    assert (tmp_path / "out/file").read_text() == ".out.replaced-0123abcd"
    (tmp_path / ".out.replaced-0123abcd").mkdir()
    with lock_target(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False])
def test_an_interrupt_at_any_change_leaves_the_old_folder_or_the_new(tmp_path: Path, exchange: bool) -> None:
    script = """
        import sys
        from itertools import count
        from pathlib import Path
        from gpuvos.data import atomic
        from gpuvos.data.atomic import atomic_folder

        if sys.argv[2] == "False":
            atomic._exchange = lambda *_: False

        def hook(event, _):
            global left
            if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") and left:
                left -= 1
                whole = [path for path in root.iterdir() if (path / "second").exists() and (path / "first").exists()]
                assert whole, (event, list(root.rglob("*")))  # what a kill would leave here
                if not left:
                    raise KeyboardInterrupt

        root, left, found = Path(sys.argv[1]), 0, []
        sys.addaudithook(hook)
        for number in count(1):
            (root / "out").mkdir(exist_ok=True)
            for name in ("first", "second"):
                (root / "out" / name).write_text("old")
            left = number
            try:
                with atomic_folder(root / "out", overwrite=True) as work:
                    for name in ("first", "second"):
                        (work / name).write_text("new")
            except KeyboardInterrupt:
                pass
            ended, left = not left, 0
            found.append("".join(sorted({(root / "out" / name).read_text() for name in ("first", "second")})))
            assert [path.name for path in root.iterdir()] == ["out"], list(root.rglob("*"))
            if not ended:
                break
        print(*found)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(exchange)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    # the work folder is made (and its parent looked for); where two renames exchange them the old one stays before
    # these; then the old one is deleted: two files and itself; then the lock; all of it in the last round
    assert found == ["old"] * (2 if exchange else 4) + ["new"] * 5
