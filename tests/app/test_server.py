"""What reaches the server and what does not: other hosts, other tabs, other files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpuvos.app.job import Wish, command
from gpuvos.app.project import Project
from gpuvos.app.tabs import Tabs
from gpuvos.cli.app import method_words
from gpuvos.cli.main import main
from gpuvos.cli.options.app import add_arguments
from gpuvos.cli.options.common import Parser
from gpuvos.errors import InputError

if TYPE_CHECKING:
    from starlette.testclient import TestClient

with_gradio = pytest.mark.slow  # importing it takes seconds


def nobody(_: str) -> Any:
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


def test_the_command_to_copy_has_the_options_of_the_server() -> None:
    parser = Parser()
    add_arguments(parser)
    words = method_words(parser.parse_args(["--preset", "fast", "--num-seeds", "50", "--device", "cpu"]))
    assert words == ("--preset", "fast", "--num-seeds", "50")
    wish = Wish(Path("video.mp4"), "-a b.mp4", "careful", 3, 2, 10, 640, True)
    line = "gpuvos segment './-a b.mp4' --start 3 --stop 23 --step 2 --max-side 640 --refine guided --preset fast"
    assert command(wish, words) == f"{line} --num-seeds 50"
    assert command(wish._replace(quality="quick"), words).endswith("guided --front-end appearance")


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
    config = httpx.get(f"{served.address}/config").json()
    take = next(one["id"] for one in config["dependencies"] if len(one["inputs"]) == 7)
    body = {"data": [data, "quick", 0, 1, 6, 320, False], "fn_index": take, "session_hash": "typed"}
    httpx.post(f"{served.address}/gradio_api/queue/join", json=body)
    said: dict[str, Any] = {}
    with httpx.stream("GET", f"{served.address}/gradio_api/queue/data?session_hash=typed", timeout=30) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                said = json.loads(line[5:])
                if said["msg"] in ("process_completed", "close_stream"):
                    break
    assert said["msg"] == "process_completed"
    assert not said["success"]
    assert secret.exists()
    assert served.tabs.of("typed").upload is None
