"""Clips in parts, and smaller parts where memory runs out."""

from __future__ import annotations

import importlib
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gpuvos
from gpuvos import Config, Features, InputError, OutOfMemoryError, Segmentation, VideoSegmenter
from gpuvos.cli.main import main
from gpuvos.data import render_clip, write_video
from gpuvos.features.appearance import AppearanceFeatures
from gpuvos.features.bundled import LearnedFeatures
from gpuvos.pipeline.chunked import in_parts, is_out_of_memory

pytestmark = pytest.mark.usefixtures("small_saliency")

SMALL = Config(num_seeds=20)
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
)


class Narrow(nn.Module):
    """A front end that has memory for ``room`` frames; a frame's flow is its mean change to the next one."""

    def __init__(self, room: int, error: Exception = OUT_OF_MEMORY[0]) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.seen: list[int] = []

    def forward(self, frames: Tensor) -> Features:
        self.seen.append(len(frames))
        if len(frames) > self.room:
            raise self.error
        embedding = frames.float() / 255
        change = (embedding[1:] - embedding[:-1]).mean((1, 2, 3))
        change = torch.cat((change, -change[-1:])) if len(frames) > 1 else torch.zeros(1)
        return Features(embedding, embedding[:, 0], change[:, None, None, None].expand(-1, 2, *frames.shape[2:]))


@pytest.fixture(scope="module")
def frames() -> Tensor:
    return render_clip("single", num_frames=7, height=48, width=64).frames


def same(one: tuple[Tensor, ...], two: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, two, strict=True))


def test_parts_by_hand() -> None:
    asked = []

    def run(first: int, last: int) -> list[Tensor]:
        asked.append((first, last))
        if last - first > 2:
            raise MemoryError
        return [torch.arange(first, last), torch.ones(last - first, 2)]

    with pytest.warns(UserWarning, match="out of memory with") as caught:
        number, ones = in_parts(run, 7, None)
    # 7 is too much, so is half of it rounded up (4), 2 fits and stays
    assert asked == [(0, 7), (0, 4), (0, 2), (2, 4), (4, 6), (6, 7)]
    assert [str(warning.message).split()[-1] for warning in caught] == ["4", "2"]
    assert number.tolist() == list(range(7))
    assert ones.shape == (7, 2)
    assert ones.all()


def test_what_fits_is_passed_on_as_it_is() -> None:
    value = torch.arange(3)
    assert in_parts(lambda *_: [value], 3, None)[0] is value
    assert in_parts(lambda *_: [value], 3, 5)[0] is value


def test_other_errors_are_not_swallowed() -> None:
    assert all(map(is_out_of_memory, OUT_OF_MEMORY))
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        OSError(),
    ):
        assert not is_out_of_memory(error)

    def wrong(*_: int) -> list[Tensor]:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        in_parts(wrong, 3, None)


def test_results_that_do_not_fit_are_refused() -> None:
    class Large(Tensor):
        def new_empty(self, *_: object, **__: object) -> Tensor:
            raise MemoryError

    with pytest.raises(InputError, match="frames of which the results of 4 do not fit into memory"):
        in_parts(lambda a, b: [torch.zeros(b - a).as_subclass(Large)], 4, 2)


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:out of memory")  # the second one
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_out_of_memory_is_answered_by_smaller_parts(frames: Tensor, error: Exception) -> None:
    whole = VideoSegmenter(Narrow(100), SMALL)(frames)
    front_end = Narrow(3, error)
    with pytest.warns(UserWarning, match="out of memory with 7 frames at a time, going on with 4"):
        parts = VideoSegmenter(front_end, SMALL)(frames)
    assert torch.equal(parts.probability, whole.probability)
    assert same(parts.forest, whole.forest)
    assert front_end.seen == [7, 5, 3, 3, 3, 2]  # each with the frame after it, the last with the one before


def test_one_frame_that_does_not_fit_is_refused(frames: Tensor) -> None:
    with (
        pytest.warns(UserWarning, match="out of memory"),
        pytest.raises(InputError, match=r"^frames: .*not even one fits into memory.*; scale frames down"),
    ):
        VideoSegmenter(Narrow(1), SMALL)(frames)


@pytest.mark.parametrize("chunk", [1, 2, 3, 6, 7, 50])
def test_a_chunk_bounds_what_the_front_end_sees(frames: Tensor, chunk: int) -> None:
    front_end = Narrow(100)
    features = VideoSegmenter(front_end, SMALL, chunk=chunk).features(frames)
    assert max(front_end.seen) == min(7, chunk + 1)
    assert same(features, Narrow(100)(frames))


@pytest.mark.slow
@pytest.mark.parametrize("make", [LearnedFeatures, AppearanceFeatures])
def test_chunks_of_the_front_ends_are_the_whole_bit_for_bit(frames: Tensor, make: Callable[[], nn.Module]) -> None:
    front_end = make()
    whole = front_end(frames[:5])
    for chunk in (1, 4):
        assert same(VideoSegmenter(front_end, chunk=chunk).features(frames[:5]), whole)
    assert same(VideoSegmenter(front_end, chunk=1).features(frames[:1]), front_end(frames[:1]))


def test_the_crf_is_chunked_as_well(frames: Tensor) -> None:
    class Crf(nn.Module):
        seen: tuple[int, ...] = ()

        def forward(self, probability: Tensor, image: Tensor, *, validate: bool = True) -> Tensor:
            del validate
            self.seen += (len(image),)
            return probability * image.float().mean(1) / 255

    whole, parts = Crf(), Crf()
    expected = VideoSegmenter(Narrow(100), SMALL, refinement=whole)(frames)
    found = VideoSegmenter(Narrow(100), SMALL, refinement=parts, chunk=3)(frames)
    assert (whole.seen, parts.seen) == ((7,), (3, 3, 1))
    assert torch.equal(found.probability, expected.probability)


def test_bad_chunks_and_front_ends_are_refused(frames: Tensor) -> None:
    for chunk in (0, -1, 1.5, "2"):
        with pytest.raises(InputError, match=r"^chunk: got"):
            VideoSegmenter(Narrow(1), SMALL, chunk=chunk)  # type: ignore[arg-type]
    single = Narrow(100)(frames[:1])
    for wrong in (single, single._replace(flow=None), single._replace(flow=torch.zeros(()))):
        with pytest.raises(InputError, match=r"^front_end: got features of another number of frames"):
            VideoSegmenter(lambda _, wrong=wrong: wrong, SMALL, chunk=3)(frames)


def test_nothing_is_said_where_memory_suffices(frames: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoSegmenter(Narrow(100), SMALL)(frames)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:20])
def test_the_method_names_what_takes_less(frames: Tensor, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Tensor]] = []

    def select_seeds(*_: object, **__: object) -> Tensor:
        large = torch.zeros(100)
        held.append(weakref.ref(large))
        raise type(error)(*error.args)

    monkeypatch.setattr("gpuvos.functional.select_seeds", select_seeds)
    message = r"^embedding: got more than fits into memory \(.+\), wanted less; scale .* --mode stream.* seeds$"
    features = Narrow(100)(frames)
    for call in (
        lambda: gpuvos.segment(*features, config=SMALL),
        lambda: VideoSegmenter(Narrow(100), SMALL)(frames),
    ):
        with pytest.raises(OutOfMemoryError, match=message) as caught:
            call()
        assert isinstance(caught.value, InputError)
        assert is_out_of_memory(caught.value)
        assert held.pop()() is None  # nothing of the call is held while the user decides what to do


def test_what_the_segmenter_itself_takes(frames: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refine(*_: object, **__: object) -> Segmentation:
        raise MemoryError

    monkeypatch.setattr(VideoSegmenter, "refine", refine)
    with pytest.raises(OutOfMemoryError, match=r"^frames: got more than fits into memory \(MemoryError\)"):
        VideoSegmenter(Narrow(100), SMALL)(frames)


def test_other_errors_of_the_method_pass(frames: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **__: object) -> Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr("gpuvos.functional.select_seeds", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        gpuvos.segment(*Narrow(100)(frames), config=SMALL)


@pytest.fixture
def clip(tmp_path: Path, frames: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words of a command that segments a video of seven frames in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_video("clip.mp4", frames)
    return ["segment", "clip.mp4", "--front-end", "appearance", "--num-seeds", "20", "--device", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_the_command_goes_on_as_a_stream(
    clip: list[str], late: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*clip, "--mode", "stream", "-o", "stream"]) == 0
    name = "contact_sheet" if late else "label"
    module = importlib.import_module("gpuvos.cli.segment") if late else VideoSegmenter
    works, written = getattr(module, name), []

    def fail_once(*values: object, **options: object) -> object:
        written.append(len(list(Path().glob(".auto.partial-*/masks/*.png"))))
        if len(written) == 1:
            raise OUT_OF_MEMORY[0]
        return works(*values, **options)

    monkeypatch.setattr(module, name, fail_once)
    assert main([*clip, "-o", "auto"]) == 0
    assert written[0] == (7 if late else 0)
    assert "clip.mp4: out of memory for all frames at once, going on as a stream" in capsys.readouterr().err
    found, wanted = (
        {str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*.*")}
        for root in ("auto", "stream")
    )
    for file in ("record.json", "report.html"):  # both tell the mode
        assert found.pop(file) != wanted.pop(file)
    assert found == wanted


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["whole", "stream", "pieces"])
def test_the_command_says_that_memory_does_not_suffice(
    clip: list[str], mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise OUT_OF_MEMORY[1]

    monkeypatch.setattr("gpuvos.cli.segment.overlay", fail)
    assert main([*clip, "--mode", mode, "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpuvos: video: got more than fits into memory ([enforce fail]")
    assert "--mode stream" in said
    assert [path.name for path in Path().iterdir()] == ["clip.mp4"]
