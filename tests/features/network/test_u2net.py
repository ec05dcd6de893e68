"""U2NetP: its shapes, its parts by hand, and the weights in the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpuvos import InputError
from gpuvos.features.network.u2net import ConvRelu, ResidualUBlock, U2NetP, halve, join
from gpuvos.features.network.weights import SALIENCY, load_saliency


def test_halve_and_join_by_hand() -> None:
    x = torch.tensor([[[[1.0, 5.0, 2.0]]]])
    assert halve(x).tolist() == [[[[5.0, 2.0]]]]  # the odd column is a window of its own
    # 1 x 2 to 1 x 4, centres of pixels: 0, 1/4, 3/4, 1 of the way
    joined = join(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[[[7.0, 7.0, 7.0, 7.0]]]]))
    assert joined.tolist() == [[[[0.0, 1.0, 3.0, 4.0]], [[7.0, 7.0, 7.0, 7.0]]]]


def test_a_block_without_weights_returns_what_it_began_with() -> None:
    block = ResidualUBlock(4, 2, 64)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(block.enter.bias, 3.0)
    assert (block(torch.rand(1, 2, 9, 7)) == 3).all()  # relu(0 x + 3), and nothing added


def test_blocks_have_the_layers_of_the_paper() -> None:
    def dilations(block: ResidualUBlock) -> tuple[list[int], list[int]]:
        return tuple([conv.dilation[0] for conv in side] for side in (block.down, block.up))  # type: ignore[return-value]

    assert dilations(ResidualUBlock(7, 3, 64)) == ([1, 1, 1, 1, 1, 1, 2], [1] * 6)
    assert dilations(ResidualUBlock(4, 64, 64, dilated=True)) == ([1, 2, 4, 8], [4, 2, 1])
    with torch.device("meta"):
        network = U2NetP()
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == 119
    assert isinstance(network.encoder[0].enter, ConvRelu)


@pytest.mark.sampled
@pytest.mark.parametrize(("detail", "side"), [(False, 24), (True, 48)])
def test_sizes(detail: bool, side: int) -> None:
    network = U2NetP(size=48, detail=detail)
    for size in ((30, 50), (48, 48), (1, 1)):
        found = network(torch.rand(2, 3, *size))
        assert found.shape == (2, side, side)
        assert ((found >= 0) & (found <= 1)).all()


def test_images_are_divided_by_their_largest_value_and_normalised() -> None:
    network = U2NetP(size=8)
    prepared = network.prepare(torch.full((1, 3, 5, 9), 0.5))
    # 0.5 / 0.5 = 1, then (1 - 0.485) / 0.229 and so on
    for channel, value in enumerate((2.248908, 2.428571, 2.64)):
        torch.testing.assert_close(prepared[0, channel], torch.full((8, 8), value))
    assert network.prepare(torch.zeros(1, 3, 5, 9)).isfinite().all()


@pytest.mark.sampled
@pytest.mark.parametrize(("detail", "side"), [(False, 160), (True, 320)])
def test_the_weights_of_the_package_find_a_bright_disk(detail: bool, side: int) -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    disk = (x - 70).square() + (y - 50).square() < 25**2
    image = torch.where(
        disk, torch.tensor([0.9, 0.3, 0.1])[:, None, None], torch.tensor([0.2, 0.4, 0.3])[:, None, None]
    )
    found = load_saliency(detail=detail)(image[None])
    truth = torch.nn.functional.interpolate(disk[None, None].float(), size=(side, side), mode="area")[0] > 0.5
    shared, either = ((found > 0.5) & truth).sum(), ((found > 0.5) | truth).sum()
    assert shared / either > 0.9


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not hold weights of U2NetP"):
        load_saliency(SALIENCY.with_name("embedding.safetensors"))
    with pytest.raises(InputError, match="weights as safetensors"):
        load_saliency(tmp_path / "absent.safetensors")
    damaged = tmp_path / "u2netp.safetensors"
    damaged.write_bytes(SALIENCY.read_bytes()[:-1] + b"x")
    damaged.with_suffix(".json").write_text(SALIENCY.with_suffix(".json").read_text())
    with pytest.raises(InputError, match="SHA-256"):
        load_saliency(damaged)
    with pytest.raises(InputError, match="size"):
        U2NetP(size=0)


@pytest.mark.slow
def test_gradients_reach_the_image() -> None:
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    U2NetP(size=32)(images).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    network = U2NetP(size=32).requires_grad_(False)

    def total(images: torch.Tensor) -> torch.Tensor:
        return network(images).sum()

    wanted = torch.autograd.grad(total(images), images)[0]
    torch.testing.assert_close(torch.func.grad(total)(images.detach()), wanted)
