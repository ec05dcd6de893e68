"""The embedding network: shapes, building blocks, projection, fusion, the teacher's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gpuvos.errors import InputError
from gpuvos.features.network import espnet
from gpuvos.features.network.embedding import EmbeddingNetwork, fit_projection, fuse, half_grid, load_teacher

TEACHER = Path("teachers", "espnetv2_s_2.0_pascal_384x384.pth")


def lively(network: EmbeddingNetwork) -> EmbeddingNetwork:
    """With every normalisation and every head different from what it starts as."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for value in (module.running_mean, module.bias.data):
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            for value in (module.running_var, module.weight.data):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    for head in filter(None, (network.correct, network.objectness)):
        head.weight.data.copy_(0.1 * torch.randn(head.weight.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return lively(EmbeddingNetwork(dimensions=8, width=16))


@pytest.mark.sampled
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (16, 16), (33, 50), (47, 31)])
def test_any_size_gives_the_grid_at_stride_4(network: EmbeddingNetwork, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = network(torch.rand(2, 3, *size))
    grid = (-(-size[0] // 4), -(-size[1] // 4))
    assert output.embedding.shape == (2, 8, *grid)
    assert output.class_logits.shape == (2, 21, *grid)
    assert output.object_logit.shape == (2, *grid)
    assert all(bool(value.isfinite().all()) for value in output)


def test_at_most_five_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in EmbeddingNetwork().parameters()) < 5e6


@pytest.mark.slow
def test_images_of_a_batch_do_not_meet(network: EmbeddingNetwork) -> None:
    images = torch.rand(3, 3, 40, 36)
    with torch.no_grad():
        together, alone = network(images), network(images[1:2])
    for several, one in zip(together, alone, strict=True):
        torch.testing.assert_close(several[1:2], one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8).byte(), None]
)
def test_wrong_images_are_named(network: EmbeddingNetwork, images: object) -> None:
    with pytest.raises(InputError, match="images"):
        network(images)


@pytest.mark.parametrize("options", [{"dimensions": 0}, {"width": -1}])
def test_wrong_widths_are_named(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        EmbeddingNetwork(**options)


def test_half_grid_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    assert half_grid(x)[0, 0].tolist() == [[3.0, 4.5], [7.5, 9.0]]


@pytest.mark.parametrize("width", [16, 0])
def test_corrections_start_at_zero(width: int) -> None:
    network = EmbeddingNetwork(dimensions=8, width=width).eval()
    images = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        output = network(images)
        neck, class_logits = network.neck(images)
        background = class_logits.softmax(1)[:, 0]
        torch.testing.assert_close(output.embedding, network.project(neck))
    torch.testing.assert_close(output.class_logits, class_logits)
    torch.testing.assert_close(output.object_logit.sigmoid(), 1 - background, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("width", [16, 0])
def test_every_parameter_is_trained(width: int) -> None:
    torch.manual_seed(0)
    network = lively(EmbeddingNetwork(dimensions=8, width=width)).train()
    output = network(torch.rand(2, 3, 64, 64))
    sum((value - torch.randn_like(value)).square().mean() for value in output).backward()
    idle = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


def test_dilated_unit_by_parts(generator: torch.Generator) -> None:
    """Against the sums written out: y_k = y_(k-1) + f_k(reduced), residual and activation at the end."""
    unit = espnet.DilatedUnit(16, 16, (1, 2, 3, 4)).eval()
    x = torch.randn(1, 16, 9, 7, generator=generator)
    with torch.no_grad():
        reduced = unit.reduce(x)
        parts = [
            nn.functional.conv2d(reduced, branch.weight, padding=rate, dilation=rate, groups=4)
            for rate, branch in enumerate(unit.branches, start=1)
        ]
        summed = torch.cat([torch.stack(parts[: k + 1]).sum(0) for k in range(4)], 1)
        assert unit.act is not None
        torch.testing.assert_close(unit(x), unit.act(unit.expand(unit.middle(summed)) + x))


def test_pyramid_groups_the_scales_of_a_channel(generator: torch.Generator) -> None:
    """The merging filter of channel c sees exactly the five scales of channel c."""
    pool = espnet.PyramidPooling(3, 3, width=3).eval()
    for branch in pool.branches:
        branch.weight.data.fill_(1.0)
    with torch.no_grad():
        pool.reduce.conv.weight.copy_(torch.eye(3)[..., None, None])
        pool.expand.weight.copy_(torch.eye(3)[..., None, None])
        pool.merge.conv.weight.fill_(1.0)
        x = torch.rand(1, 3, 12, 14, generator=generator)
        changed = x.clone()
        changed[:, 1] += 1
        moved = (pool(changed) - pool(x)).abs().amax((0, 2, 3))
    assert moved[1] > 0.1
    assert moved[[0, 2]].max() == 0


def test_halve_and_grow(generator: torch.Generator) -> None:
    x = torch.rand(1, 2, 9, 5, generator=generator)
    assert espnet.halve(x).shape == (1, 2, 5, 3)
    assert espnet.halve(torch.ones(1, 1, 6, 6))[0, 0, 1, 1] == 1
    line = torch.arange(5.0).view(1, 1, 1, 5)
    torch.testing.assert_close(espnet.grow(line, torch.zeros(1, 1, 1, 9)), torch.arange(9.0).view(1, 1, 1, 9) / 2)


def test_fused_network_says_the_same(network: EmbeddingNetwork) -> None:
    images = torch.rand(1, 3, 45, 60)
    fused = fuse(network)
    with torch.no_grad():
        for ours, theirs in zip(fused(images), network(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in which.modules()) for which in (network, fused)]
    convolutions = sum(isinstance(module, espnet.ConvNorm) for module in network.modules())
    assert norms[0] - norms[1] == convolutions + 3  # and the results of three pyramids
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.slow
def test_projection_keeps_distances_between_scaled_necks() -> None:
    torch.manual_seed(0)
    network = lively(EmbeddingNetwork(dimensions=300, width=4))  # more than the neck has: nothing is left out
    images = torch.rand(4, 3, 48, 64)
    network.correct.weight.data.zero_()
    assert fit_projection(network.train(), images.split(2)).training
    network.eval()
    with torch.no_grad():
        embedding = network(images).embedding
        neck = network.neck(images)[0]
    blocks = neck.split([32, 128, 48, 32, 32, 21], 1)
    weights = (0.5, 0.7, 0.0, 0.7, 1.0, 0.0)
    variance = [block.var((0, 2, 3), unbiased=False).sum() for block in blocks]
    scaled = torch.cat([w * b / v.sqrt() for b, v, w in zip(blocks, variance, weights, strict=True)], 1)
    torch.testing.assert_close(embedding.mean((0, 2, 3)), torch.zeros(300), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        embedding.var((0, 2, 3), unbiased=False).sum(),
        torch.tensor(0.25 + 0.49 + 0.49 + 1),
        rtol=1e-3,
        atol=0,
    )
    first, second = (value[0].flatten(1)[:, [3, 17, 90]] for value in (embedding, scaled))
    torch.testing.assert_close(torch.cdist(first.mT, first.mT), torch.cdist(second.mT, second.mT), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_projection_orders_components_and_needs_images() -> None:
    torch.manual_seed(0)
    network = lively(EmbeddingNetwork(dimensions=6, width=4))
    network.correct.weight.data.zero_()
    images = torch.rand(4, 3, 48, 64)
    fit_projection(network, [images])
    with torch.no_grad():
        variance = network(images).embedding.var((0, 2, 3))
    assert (variance.diff() <= 1e-5).all()
    with pytest.raises(InputError, match="batches"):
        fit_projection(network, [])


@pytest.mark.slow
def test_traces_without_values_and_exports(network: EmbeddingNetwork) -> None:
    images = torch.rand(1, 3, 37, 52)
    program = torch.export.export(fuse(network), (images,)).module()
    with torch.no_grad():
        for ours, theirs in zip(program(images), fuse(network)(images), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_file_that_is_no_teacher(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "teacher.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"teacher\.pth"):
        load_teacher(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pth"
    torch.save({"level1.weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="ESPNetv2"):
        load_teacher(path)


@pytest.fixture(scope="module")
def taught(development_data: Path) -> EmbeddingNetwork:
    network = EmbeddingNetwork()
    result = network.load_state_dict(load_teacher(development_data / TEACHER), strict=False)
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if key.startswith(("encoder", "decoder"))]
    return network.eval()


def read(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path)))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("source", "classes", "floor"),
    [("weizmann_horse", [13], 0.75), ("via_dogcat", [8, 12], 0.7), ("human_vshenoy", [15], 0.8)],
)
def test_teacher_knows_the_classes(
    taught: EmbeddingNetwork, development_data: Path, source: str, classes: list[int], floor: float
) -> None:
    union = intersection = 0
    for path in sorted((development_data / "stills" / source / "images").glob("*.jpg"))[:6]:
        image = read(path).permute(2, 0, 1)[None].float() / 255
        mask = read(path.parents[1] / "masks" / f"{path.stem}.png") > 0
        with torch.no_grad():
            logits = taught(image).class_logits
        named = interpolate(logits, size=mask.shape, mode="bilinear").argmax(1)[0]
        found = torch.isin(named, torch.tensor(classes))
        union += int((found | mask).sum())
        intersection += int((found & mask).sum())
    assert intersection / union > floor
