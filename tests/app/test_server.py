"""What reaches the server and what does not: other hosts, other tabs, other files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gpuvos.app.job import QUICK, Job, Method, Progressed, Wish, command, stage_costs
from gpuvos.app.project import Project
from gpuvos.app.tabs import Tabs
from gpuvos.app.words import progress_html
from gpuvos.cli.app import chosen, method_words, methods
from gpuvos.cli.common import build_config
from gpuvos.cli.main import main
from gpuvos.cli.options import demo, segment
from gpuvos.cli.options.app import add_arguments
from gpuvos.cli.options.common import REFINEMENTS, Parser
from gpuvos.config import Config
from gpuvos.errors import InputError
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.nn import GuidedFilter
from gpuvos.pipeline.presets import PRESETS
from gpuvos.pipeline.video import VideoSegmenter

if TYPE_CHECKING:
    from starlette.testclient import TestClient

with_gradio = pytest.mark.slow  # importing it takes seconds


def nobody(*_: str) -> Any:
    raise InputError("quality: got a call, wanted none")


@pytest.fixture
def tabs(tmp_path: Path) -> Tabs:
    return Tabs(tmp_path)


@pytest.fixture
def client(tabs: Tabs) -> TestClient:
    from starlette.testclient import TestClient

    from gpuvos.app.page import Limits
    from gpuvos.app.server import build_server

    limits = Limits(1 << 20, 6, 320, 1_000_000, "quick")
    return TestClient(build_server(tabs, nobody, limits, "127.0.0.1"), base_url="http://127.0.0.1")


@with_gradio
def test_pictures_and_files_need_the_token(client: TestClient, tabs: Tabs, project: Project) -> None:
    tabs.of("one").project = project
    good = f"/clip/{project.token}"
    assert client.get(f"{good}/0/input").headers["content-type"] == "image/jpeg"
    assert client.get(f"{good}/5/objects").headers["content-type"] == "image/png"
    answer = client.get(f"{good}/files/0/coco.json")
    assert answer.json()["images"][0]["width"] == 160
    assert "two-coco.json" in answer.headers["content-disposition"]
    for bad in (
        "/clip/x/0/input",
        f"{good}/6/input",
        f"{good}/-1/input",
        f"{good}/0/nothing",
        f"{good}/0/..%2f..%2fetc%2fpasswd",
        f"{good}/files/0/..%2f..%2fetc%2fpasswd",
        f"{good}/files/0/video.mp4",
    ):
        assert client.get(bad).status_code == 404, bad
    tabs.leave("one")
    assert client.get(f"{good}/0/input").status_code == 404


@with_gradio
def test_a_file_is_made_again_after_a_correction(client: TestClient, tabs: Tabs, project: Project) -> None:
    tabs.of("one").project = project
    address = f"/clip/{project.token}/files/0/coco.json"
    assert len(client.get(address).json()["categories"]) == 1
    project.split()
    assert len(client.get(address).json()["categories"]) == 2
    assert len(list(tabs.of("one").folder.glob("*coco.json"))) == 1


@with_gradio
def test_another_name_of_this_machine_is_refused(client: TestClient) -> None:
    """Else a page of the web could have its own name lead here and read what is here."""
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@with_gradio
def test_files_of_the_machine_are_not_served(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("hush")
    for path in ("/etc/hostname", str(tmp_path / "private.txt"), str(Path(__file__))):
        answer = client.get(f"/gradio_api/file={path}")
        assert answer.status_code in (403, 404)
        assert "hush" not in answer.text


def test_tabs_have_folders_of_their_own_that_go(tmp_path: Path) -> None:
    tabs = Tabs(tmp_path / "all")
    tabs.folder.mkdir()
    one, two = tabs.of("one"), tabs.of("two")
    assert one.folder != two.folder
    file = tmp_path / "upload"
    file.write_bytes(b"film")
    one.take(file, "../../a film.MP4")
    assert one.upload == one.folder / "video.mp4"
    assert not file.exists()
    tabs.leave("one")
    assert not one.folder.exists()
    assert two.folder.exists()
    tabs.close()
    assert not (tmp_path / "all").exists()


def test_the_tab_that_was_idle_longest_makes_room(tmp_path: Path) -> None:
    tabs = Tabs(tmp_path)
    first = tabs.of("0")
    for number in range(1, 16):
        tabs.of(str(number))
    tabs.of("0")  # used again
    second = tabs.of("1")
    tabs.of("1").used = -1.0
    tabs.of("16")
    assert not second.folder.exists() or tabs.of("1") is not second
    assert tabs.of("0") is first


@with_gradio
def test_everything_is_in_one_folder_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from gpuvos.app.server import private_folder

    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with private_folder() as tabs:
        assert Path(os.environ["GRADIO_TEMP_DIR"]).is_relative_to(tabs.folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        (tabs.of("one").folder / "file").write_text("film")
    assert not tabs.folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "before"


def test_import_gpuvos_brings_nothing_of_the_app() -> None:
    code = "import sys, gpuvos, gpuvos.cli.main; print(sorted(name for name in sys.modules if name.split('.')[0] in "
    code += "('gradio', 'fastapi', 'uvicorn', 'starlette', 'pandas') or name.startswith('gpuvos.app')))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--port", "70000"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["app", "--adapt-every", "2"]) == 2
    assert "--adapt-every" in capsys.readouterr().err


def test_the_command_to_copy_has_the_options_of_the_server_and_the_page() -> None:
    parser = Parser()
    add_arguments(parser)
    given = parser.parse_args(["--preset", "fast", "--num-seeds", "50", "--device", "cpu", "--refine", "crf"])
    careful = method_words(chosen(given, "balanced", "guided"))
    # the sets of a frame serve it alone here, so that a correction costs no more than it
    assert careful == ("--preset", "balanced", "--num-seeds", "50", "--adjacent-sets", "0", "--refine", "guided")
    assert method_words(chosen(given, "accurate", "")) == ("--num-seeds", "50", "--adjacent-sets", "0")
    quick = method_words(chosen(given, QUICK, ""))
    assert quick == ("--front-end", "appearance", "--preset", "fast", "--num-seeds", "50", "--adjacent-sets", "0")
    wish = Wish(Path("video.mp4"), "-a b.mp4", "balanced", "guided", 3, 2, 10, 640)
    assert shlex.split(command(wish, careful)) == [
        *("gpuvos", "segment", "./-a b.mp4", "--stop", "23", "--max-side", "640", "--start", "3", "--step", "2"),
        *careful,
    ]
    sample = command(wish._replace(source="two"), careful)
    assert sample == f"gpuvos demo --scene two --frames 10 {shlex.join(careful)}"
    for line in (command(wish, careful), command(wish, quick), sample):  # the commands take them
        assert parsed(line).refine in ("guided", None)
        assert build_config(parsed(line), "robust").adjacent_sets == 0


def parsed(line: str) -> Any:
    """The arguments of a command line, read by the parser of its command; its file need not be there."""
    name, *words = shlex.split(line)[1:]
    parser = Parser()
    if name == "demo":
        demo.add_arguments(parser)
        return parser.parse_args(words)
    segment.add_arguments(parser)
    return parser.parse_args([str(Path(__file__)), *words[1:], "-o", "out"])


@with_gradio
def test_qualities_and_edges_of_the_page_are_those_of_the_command() -> None:
    from gpuvos.app.page import EDGES, QUALITIES

    parser = Parser()
    add_arguments(parser)
    build = methods(parser.parse_args(["--front-end", "appearance", "--num-seeds", "40"]))
    quick = build(QUICK, "guided")
    assert isinstance(quick.segmenter.front_end, AppearanceFeatures)
    assert isinstance(quick.segmenter.refinement, GuidedFilter)
    assert quick.segmenter.config.num_seeds == 40
    assert quick.segmenter.config.adjacent_sets == 0
    words = ("--front-end", "appearance", "--num-seeds", "40", "--adjacent-sets", "0", "--refine", "guided")
    assert quick.words == words
    assert build(QUICK, "").segmenter.refinement is None
    fast = build("fast", "")
    assert fast.segmenter.front_end.network.size == PRESETS["fast"].saliency
    assert [step.size for step in fast.segmenter.refinement.steps] == 2 * [PRESETS["fast"].zoom]
    assert build("fast", "") is fast
    assert {*QUALITIES.values()} == {QUICK, *PRESETS}
    assert {*EDGES.values()} == {"", *REFINEMENTS}


@pytest.mark.parametrize("quality", [QUICK, *PRESETS])
@pytest.mark.parametrize("edges", ["", *REFINEMENTS])
def test_every_quality_has_its_costs(quality: str, edges: str) -> None:
    costs = stage_costs(quality, edges)
    assert ("network" in costs) == (quality != QUICK)
    default = "none" if quality == QUICK else PRESETS[quality].refine
    assert (costs["refine"] > 0) == ((edges or default) != "none")


class Going:
    """A job that is at some place."""

    def __init__(self, *now: Any) -> None:
        self.now = Progressed(*now)

    def progress(self) -> Progressed:
        return self.now


def test_progress_names_the_stage_and_the_time_left() -> None:
    said = progress_html(Going("flow", 3, 8, 0.42, 12.3))
    assert "Measuring motion, 3 of 8 · about 12 s left" in said
    assert 'aria-valuenow="42"' in said
    assert "left" not in progress_html(Going("decode", 0, 8, 0.0, None))
    assert "Waiting for another tab" in progress_html(Going("waiting", 0, 0, 0.0, None))


@pytest.mark.slow
def test_a_job_sharpens_every_frame_before_it_is_shown() -> None:
    """The filter has seen every frame when the job is done, and is not asked again until something changes."""
    seen: list[int] = []

    class Sharpened(torch.nn.Module):
        def forward(self, probability: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            seen.append(len(image))
            return probability

    segmenter = VideoSegmenter(AppearanceFeatures(), Config(track_seeds=True), refinement=Sharpened())
    wish = Wish("two", "two", QUICK, "guided", 0, 1, 2, 320)
    job = Job(wish, lambda *_: Method(segmenter, ("--refine", "guided")), 1_000_000)
    assert job.wait(600)
    assert job.error is None
    assert job.project is not None
    assert job.project.command.endswith("--refine guided")
    assert job.progress().share == 1.0
    assert seen == [1, 1]
    job.project.labels(0)
    assert seen == [1, 1]
    job.project.remove(1)
    job.project.labels(1)
    assert seen == [1, 1, 1]


def test_without_gradio_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("gpuvos.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", "--no-browser"]) == 2
    assert 'pip install "gpuvos[app]"' in capsys.readouterr().err


@with_gradio
def test_a_path_typed_by_a_page_is_refused(served: Any, tmp_path: Path) -> None:
    """An upload is named by where Gradio put it; any other path of this machine is none."""
    import httpx

    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"film")
    data = {"path": str(secret), "orig_name": "a.mp4", "meta": {"_type": "gradio.FileData"}}
    config = httpx.get(f"{served.address}/config", timeout=120).json()
    take = next(one["id"] for one in config["dependencies"] if len(one["inputs"]) == 7)
    body = {"data": [data, "quick", "", 0, 1, 6, 320], "fn_index": take, "session_hash": "typed"}
    httpx.post(f"{served.address}/gradio_api/queue/join", json=body, timeout=120)
    said: dict[str, Any] = {}
    with httpx.stream("GET", f"{served.address}/gradio_api/queue/data?session_hash=typed", timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                said = json.loads(line[5:])
                if said["msg"] in ("process_completed", "close_stream"):
                    break
    assert said["msg"] == "process_completed"
    assert not said["success"]
    assert secret.exists()
    assert served.tabs.of("typed").upload is None
