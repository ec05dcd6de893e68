"""The Ray engine: what each actor gets, and workers that are killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from gpuvos.batch.jobs import Job
from gpuvos.batch.manifest import read_record
from gpuvos.batch.ray import RayOptions, Share, run_ray, share
from gpuvos.batch.worker import DONE, FAILED, Outcome, RunOptions, SegmentVideo, Worker
from gpuvos.cli.main import main
from gpuvos.data import render_clip, write_video
from gpuvos.errors import InputError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'gpuvos[ray]'")
GIB = 2**30


@pytest.mark.parametrize(
    ("resources", "options", "wanted"),
    [
        ({"CPU": 8, "memory": 100 * GIB}, RayOptions(), Share(8, 1, 0)),  # one a core
        ({"CPU": 8, "memory": 11 * GIB}, RayOptions(), Share(2, 4, 0)),  # 11 / 4 GiB: two, of 8 / 2 cores
        ({"CPU": 2, "memory": 1 * GIB}, RayOptions(), Share(1, 2, 0)),
        ({"CPU": 8, "memory": 11 * GIB}, RayOptions(workers=3), Share(3, 2, 0)),  # 8 // 3
        ({"CPU": 2}, RayOptions(workers=4), Share(4, 0.5, 0)),
        ({"CPU": 64, "GPU": 8}, RayOptions(), Share(8, 1, 1)),  # one a GPU
        ({"CPU": 64, "GPU": 8}, RayOptions(workers=4), Share(4, 1, 1)),
        ({"CPU": 64, "GPU": 2}, RayOptions(workers=5), Share(5, 1, 1 / 3)),  # two GPUs hold 3 + 3
        ({"CPU": 4, "GPU": 8}, RayOptions(), Share(8, 0.5, 1)),
        ({"CPU": 8, "GPU": 2}, RayOptions(device="cpu"), Share(8, 1, 0)),
    ],
)
def test_shares_by_hand(resources: dict[str, float], options: RayOptions, wanted: Share) -> None:
    assert share(resources, options) == wanted


def test_a_gpu_is_asked_for_where_there_is_none() -> None:
    with pytest.raises(InputError, match="--device"):
        share({"CPU": 8}, RayOptions(device="cuda"))


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "one.mp4").touch()
    quick = ["--front-end", "appearance", "--engine", "ray", "-o", str(tmp_path / "out")]
    assert main(["segment", str(tmp_path / "one.mp4"), *quick]) == 2
    assert "pip install 'gpuvos[ray]'" in capsys.readouterr().err


def test_tasks_that_ray_loses_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs: the first is answered, the second finished but its answer is lost, the third never comes."""
    jobs = [Job(tmp_path / f"{name}.mp4", tmp_path / f"out/{name}") for name in "abc"]
    for job in jobs:
        job.video.touch()
    options = RunOptions({}, "run", tmp_path / "out/.work")
    worker = Worker(lambda _video, _folder: 5, options)

    def rows() -> Iterator[dict[str, object]]:
        yield worker(jobs[0])._asdict()
        worker(jobs[1])
        raise OSError("gone")

    closed = []
    fake = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 1.0},
        exceptions=SimpleNamespace(RayError=OSError),
        shutdown=lambda: closed.append(True),
    )
    monkeypatch.setattr("gpuvos.batch.ray._connect", lambda _address: fake)
    monkeypatch.setattr("gpuvos.batch.ray._dataset", lambda *_: SimpleNamespace(iter_rows=rows))
    outcomes = list(run_ray(jobs, lambda: worker.segment, options, RayOptions()))
    assert [(row.status, row.frames) for row in outcomes] == [(DONE, 5), (DONE, 5), (FAILED, 0)]
    assert outcomes[2] == Outcome(*map(str, jobs[2]), FAILED, error="Ray lost the task: gone")
    assert closed == [True]


def descendants(pid: int) -> set[int]:
    """All processes that a process started, directly or not."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    found, size = {pid}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def actors(pid: int) -> list[int]:
    """Those of the descendants that segment videos."""
    found = []
    for child in descendants(pid):
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"SegmentActor" in name:
            found.append(child)
    return found


def open_ports(pid: int) -> list[str]:
    """Addresses beyond the loopback interface that a process or its descendants listen on, as /proc writes them."""
    sockets = set()
    for process in descendants(pid):
        for file in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(str(file.readlink()))
            except OSError:
                continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
    assert listening
    mapped = "0000000000000000FFFF00000100007F:"  # ::ffff:127.0.0.1
    return [address for address in listening if not address.startswith(("0100007F:", mapped))]


def contents(output: Path) -> dict[str, bytes]:
    """All but the records, which hold times, and the overlays: x264 does not repeat itself to the bit."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file() and path.name not in ("record.json", "overlay.mp4")
    }


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """A folder with a short name, as Ray's sockets are in it."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_workers_lose_nothing_and_repeat_nothing(
    tmp_path: Path, ray_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    for number in range(3):
        clip = render_clip("single", num_frames=6, height=96, width=160, seed=number)
        write_video(videos / f"{number}.mp4", clip.frames, frame_rate=12)
    (videos / "broken.mp4").write_bytes(bytes(range(256)))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ["segment", str(videos), "--front-end", "appearance"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gpuvos", *command, "-o", str(out), "--engine", "ray", "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 500
        # One video is done, and others have begun: every actor is killed.
        while not (list(out.glob("*-gpuvos")) and list(out.glob(".gpuvos-work/*/*"))):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed = actors(process.pid)
        for actor in killed:
            os.kill(actor, signal.SIGKILL)
        assert killed
        before = {path: path.stat().st_mtime_ns for path in out.glob("*-gpuvos/record.json")}
        assert open_ports(process.pid) == []
        _, errors = process.communicate(timeout=500)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, errors  # for the broken video
    assert "broken.mp4" in (out / "failures.json").read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"{n}-gpuvos" for n in range(3)),
        "failures.json",
    ]
    attempts = {path: read_record(path.parent)["attempts"] for path in out.glob("*/record.json")}  # type: ignore[index]
    assert max(attempts.values()) == 2  # what was in the middle began again
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())  # what was done did not

    (out / "failures.json").unlink()
    (videos / "broken.mp4").unlink()
    done = {path: path.stat().st_mtime_ns for path in attempts}
    assert main([*command, "-o", str(out)]) == 0  # the local engine knows them all
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/record.json")} == done
    assert main([*command, "-o", str(tmp_path / "local")]) == 0
    assert contents(out) == contents(tmp_path / "local")


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_a_machine_that_is_gone_loses_nothing(tmp_path: Path, ray_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes with an address each; one is ended in the middle of a video, which the other makes from the start."""
    from ray.cluster_utils import Cluster

    begun = tmp_path / "begun"

    def open_segmenter() -> SegmentVideo:
        def segment(video: Path, folder: Path) -> int:
            import ray

            (folder / "mask").write_text(video.stem)
            if ray.util.get_node_ip_address() == "127.0.0.3":
                begun.write_text(video.stem)
                time.sleep(3600)
            patience = time.monotonic() + 120  # this node must not take all videos before the other has begun one
            while not begun.exists() and time.monotonic() < patience:
                time.sleep(0.1)
            return 5

        return segment

    def end(node: object) -> None:
        while not begun.exists():
            time.sleep(0.2)
        cluster.remove_node(node, allow_graceful=False)

    jobs = [Job(tmp_path / f"{name}.mp4", tmp_path / f"out/{name}") for name in "abc"]
    for job in jobs:
        job.video.touch()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    own = {"object_store_memory": 2**27, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**own, "num_cpus": 2, "node_ip_address": "127.0.0.2"})
    try:
        other = cluster.add_node(**own, num_cpus=1, node_ip_address="127.0.0.3")
        Thread(target=end, args=(other,), daemon=True).start()
        options = RunOptions({}, "run", tmp_path / "out/.work", retries=1)
        outcomes = list(run_ray(jobs, open_segmenter, options, RayOptions(cluster.address, workers=2, device="cpu")))
    finally:
        cluster.shutdown()
    assert {row.output: row.status for row in outcomes} == {str(job.output): DONE for job in jobs}
    assert {Path(row.video).stem: row.attempts for row in outcomes} == {"a": 1, "b": 1, "c": 1, begun.read_text(): 2}
    assert [(job.output / "mask").read_text() for job in jobs] == ["a", "b", "c"]
