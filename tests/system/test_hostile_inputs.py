"""Files and options that nobody vouches for: an InputError by name, quickly and in little memory."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, InputError, StreamingSegmenter, functional
from gpuvos.data import read_mask, read_video, render_clip, write_video
from gpuvos.data.images import load_image
from gpuvos.data.side_files import read_json
from gpuvos.errors import printable
from gpuvos.features.network.embedding import EmbeddingNetwork, load_teacher
from gpuvos.features.network.weights import load_weights, save_weights
from gpuvos.interactive.instances import instances
from gpuvos.interactive.relabel import relabel
from gpuvos.training.checkpoint import load_optimizer, read_checkpoint, sealed
from gpuvos.training.images import StillsDataset
from gpuvos.types import Features


@pytest.fixture(scope="module")
def features() -> Features:
    scene = render_clip("single", num_frames=2, height=32, width=48, seed=0)
    return Features(scene.frames.float() / 64, torch.full((2, 32, 48), 0.5), scene.flow)


# ------------------------------------------------------------------ sizes and formats


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["large.gif", "large.png"])
def test_a_frame_beyond_the_limit_is_refused_by_its_header(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("P", (9000, 8000)).save(tmp_path / name)  # 72 million pixels in some kilobytes
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match=r"64000000 pixels"):
        read_video(tmp_path / name)
    if name.endswith(".png"):
        with pytest.raises(InputError, match=r"of 9000 x 8000 pixels, wanted at most 64000000 pixels.*--max-pixels"):
            read_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["small.gif", "small.png", "small.mp4"])
def test_the_limit_is_an_option(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "small.mp4", torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
    for other in ("small.gif", "small.png"):
        Image.new("P", (48, 32)).save(tmp_path / other)
    assert read_video(tmp_path / name, max_pixels=48 * 32).frames.shape[-2:] == (32, 48)
    with pytest.raises(InputError, match="at most 1535 pixels"):
        read_video(tmp_path / name, max_pixels=48 * 32 - 1)


PLAYLISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile secret.gif\n",
    "self.mp4": "ffconcat version 1.0\nfile self.mp4\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.gif\n",
    "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.gif\n#EXT-X-ENDLIST\n",
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>',
    "letters.txt": "letters\n" * 100,
    "script.avs": 'AviSource("secret.gif")\n',
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_file_opens_no_other(name: str, tmp_path: Path) -> None:
    Image.new("P", (48, 32)).save(tmp_path / "secret.gif")
    (tmp_path / name).write_text(PLAYLISTS[name])
    with pytest.raises(InputError, match=r"^path: got"):
        read_video(tmp_path / name)


def test_a_header_that_claims_a_billion_entries_is_named(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", torch.zeros(2, 3, 32, 48, dtype=torch.uint8))
    content = (tmp_path / "clip.mp4").read_bytes()
    place = content.index(b"stts") + 8  # after the name, the version and the flags: how many times follow
    (tmp_path / "clip.mp4").write_bytes(content[:place] + b"\x7f\xff\xff\xff" + content[place + 4 :])
    with pytest.raises(InputError, match=r"^path: got .*clip\.mp4' \(Cannot allocate memory\), .*is it complete\?$"):
        read_video(tmp_path / "clip.mp4")


def test_an_image_that_does_not_decode_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(file)
    file.write_bytes(file.read_bytes()[:1000])
    opened: list[Any] = []
    keep = Image.open
    monkeypatch.setattr(Image, "open", lambda *words, **options: opened.append(keep(*words, **options)) or opened[-1])
    with pytest.raises(InputError, match="complete"), load_image(file):
        pytest.fail("the block must not run")
    assert opened[0].fp is None


def test_names_give_no_orders_to_a_terminal() -> None:
    assert printable("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\n"


# ------------------------------------------------------------------ side files


def test_side_files_are_read_or_named(tmp_path: Path) -> None:
    deep = b"[" * 200_000
    weights = save_weights(EmbeddingNetwork(dimensions=8), tmp_path / "w.safetensors")
    for content in (deep, b"[]", b'{"sha256": 3}', b"{"):
        weights.with_suffix(".json").write_bytes(content)
        with pytest.raises(InputError, match=r"^path: got"):
            load_weights(weights)
    (tmp_path / "deep.json").write_bytes(deep)
    with pytest.raises(InputError, match="RecursionError"):
        read_json("path", tmp_path / "deep.json")
    os.mkfifo(tmp_path / "pipe.safetensors")
    for read in (load_weights, load_teacher):
        with pytest.raises(InputError, match="a pipe, socket or device"):
            read(tmp_path / "pipe.safetensors")
    torch.save({"a": {"b": {"c": 1}}}, tmp_path / "nested.pth")
    with pytest.raises(InputError, match="more than tensors"):
        load_teacher(tmp_path / "nested.pth")


@pytest.mark.parametrize(
    ("rows", "pixels"),
    [
        ([["s", "a", 2, 2, "none", "mit"]], np.array([None] * 20)),
        ([["s", "a", 2, 2, "none", "mit"]], np.zeros(19, np.uint8)),
        ([["s", "a", 2, 2, "none", "mit"]], np.zeros(20, np.int8)),
        ([["s", "a", -2, -2, "none", "mit"]], np.zeros(20, np.uint8)),
        ([["s", "a", "2", 2, "none", "mit"]], np.zeros(20, np.uint8)),
        ({"a": 1}, np.zeros(20, np.uint8)),
    ],
)
def test_a_pack_is_checked(rows: object, pixels: np.ndarray[Any, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", pixels, allow_pickle=True)
    (tmp_path / "index.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"^root: got"):
        StillsDataset(tmp_path)


# ------------------------------------------------------------------ checkpoints


def checkpoint() -> dict[str, Any]:
    network = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"step": 1, "seconds": 0.5, "temperature": 1.0, "history": [{"step": 1, "loss": 2.0}]}
    return {
        "network": network.state_dict(),
        "teacher": None,
        "optimizer": optimizer.state_dict(),
        "state": state,
        "config": {},
    }


def write(file: Path, content: object) -> None:
    written = io.BytesIO()
    torch.save(content, written)
    file.write_bytes(sealed(written.getvalue()))


def altered(path: str, value: object) -> dict[str, Any]:
    content = checkpoint()
    *parents, last = path.split("/")
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return content


CRAFTED: dict[str, Callable[[], object]] = {
    "list": lambda: [1, 2],
    "missing": lambda: {name: value for name, value in checkpoint().items() if name != "state"},
    "network": lambda: altered("network", 3),
    "weight": lambda: altered("network/weight", [1.0]),
    "nan": lambda: altered("network/weight", torch.full((1, 2), math.nan)),
    "teacher": lambda: altered("teacher", "none"),
    "state": lambda: altered("state", [1]),
    "step": lambda: altered("state/step", "1"),
    "temperature": lambda: altered("state/temperature", math.inf),
    "history": lambda: altered("state/history", ["row"]),
    "cell": lambda: altered("state/history", [{"step": "1"}]),
    "config": lambda: altered("config", None),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_checkpoint_is_named(name: str, tmp_path: Path) -> None:
    write(tmp_path / "checkpoint.pt", CRAFTED[name]())
    with pytest.raises(InputError, match=r"^resume: got"):
        read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    write(file, checkpoint())
    content = file.read_bytes()
    assert read_checkpoint(file, torch.device("cpu"))["state"]["step"] == 1
    for number in range(40):
        place = (number * 7919) % len(content)
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << number % 8]) + content[place + 1 :])
        with pytest.raises(InputError, match="SHA-256"):
            read_checkpoint(file, torch.device("cpu"))
    assert hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]


def test_an_optimizer_of_another_network_is_named() -> None:
    optimizer = torch.optim.AdamW(nn.Linear(2, 1).parameters())
    good = checkpoint()["optimizer"]
    load_optimizer(optimizer, good)
    for value in (torch.zeros(3), torch.full((1, 2), math.nan), None):
        bad = copy.deepcopy(good)
        bad["state"][0]["exp_avg"] = value
        with pytest.raises(ValueError, match="exp_avg"):
            load_optimizer(optimizer, bad)


# ------------------------------------------------------------------ options


@pytest.mark.parametrize("value", [math.nan, 1e-300, 1e300, math.inf, 0, -1, Fraction(1, 2), "1", 10**400])
def test_a_temperature_that_is_no_number_of_use(value: Any, features: Features) -> None:
    with pytest.raises(InputError, match=r"^config.temperature: got"):
        Config(temperature=value)
    if (isinstance(value, float | int) and abs(value) < 1e308) or value != value:
        config = Config(temperature=torch.tensor(float(value), dtype=torch.float64))
        with pytest.raises(InputError, match=r"^config.temperature: got"):
            gpuvos.segment(*features, config=config)


def test_the_smallest_temperature_wants_a_small_embedding(features: Features) -> None:
    config = Config(temperature=1e-30, num_seeds=20)
    with pytest.raises(InputError, match=r"^embedding: got values"):
        gpuvos.segment(features.embedding * 1e6, *features[1:], config=config)
    assert bool(gpuvos.segment(*features, config=config).probability.isfinite().all())


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing_share": math.inf},
        {"smoothing_share": 1.5},
        {"num_seeds": 2**63},
        {"window": 10**30 + 1},
        {"adapt_every": 2**64},
        {"softness": Fraction(1, 4)},
        {"min_motion": math.inf},
        {"min_motion": 10**30},
        {"softness": 2**63},
        {"num_background": 10**5000},
    ],
)
def test_numbers_of_the_method_are_finite(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^config.{next(iter(options))}: got"):
        Config(**options)


@pytest.mark.parametrize("size", [5, (2.5, 3), (0, 1), (1,), "ab", (2**40, 1), None])
def test_sizes_are_two_whole_numbers(size: Any, features: Features) -> None:
    if size is None:
        assert gpuvos.segment(*features, size=(7, 9)).mask.shape == (2, 7, 9)
        return
    with pytest.raises(InputError, match=r"^size: got"):
        gpuvos.segment(*features, size=size)


def test_edits_and_instances_out_of_range(features: Features) -> None:
    result = gpuvos.segment(*features)
    for wrong in (0, [0], [(0, 0.5)], [(0, 2**70)], "ab"):
        with pytest.raises(InputError, match=r"^foreground: got"):
            relabel(result, features.embedding, foreground=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^num_instances: got"):
        instances(result, num_instances=10**9)


def test_ops_pass_nan_through() -> None:
    embedding = torch.tensor([[[[math.nan, 0.0]]]])
    seeds = torch.tensor([[[0.0], [1.0]]])
    sets = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    found = functional.foreground_probability(embedding, seeds, *sets)
    assert found.isnan().flatten().tolist() == [True, False]


# ------------------------------------------------------------------ streams


@pytest.mark.parametrize("options", [{"latency": 2.5}, {"history": 9.5}, {"latency": True}])
def test_a_stream_counts_in_whole_frames(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{next(iter(options))}: got"):
        StreamingSegmenter(**options)


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0, 1, 2])
def test_a_front_end_that_raises_loses_no_frame(latency: int) -> None:
    class Failing(nn.Module):
        """Raises the third time."""

        calls = 0

        def forward(self, frames: Tensor) -> Features:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("once")
            values = frames.float() / 255
            return Features(values, values[:, 0], values[:, :2])

    frames = torch.randint(0, 256, (6, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = StreamingSegmenter(Failing(), Config(num_seeds=9), latency=latency)
    whole.segmenter.front_end.calls = 9
    wanted = [one.probability for one in whole.stream(frames)]
    stream = StreamingSegmenter(Failing(), Config(num_seeds=9), latency=latency)
    found, failed = [], 0
    for frame in frames:
        try:
            result = stream.push(frame)
        except RuntimeError:
            failed += 1
            result = stream.push(frame)  # the same one again
        found += [] if result is None else [result.probability]
    rest = stream.flush()
    found += [] if rest is None else list(rest.probability.split(1))
    assert failed == 1
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
