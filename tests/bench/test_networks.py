"""Rows of the networks: their operations by hand, their floor, and how the table shows them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpuvos.bench.networks import count_flops
from gpuvos.bench.runner import measure_workload
from gpuvos.bench.stages import chosen_stages
from gpuvos.bench.table import measurement_table
from gpuvos.bench.workload import Workload
from gpuvos.features.network.embedding import EmbeddingNetwork, fuse
from gpuvos.features.network.u2net import U2NetP

TINY = Workload(height=48, width=64, frames=2, channels=4, seeds=5, robust_seeds=6)


@pytest.mark.slow
def test_operations_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.Conv2d(8, 4, 1))
    # 2 x 3 x 9 x 8 at 5 x 6, then 2 x 8 x 4 there
    assert count_flops(network, torch.zeros(1, 3, 10, 12)) == 30 * (432 + 64)


@pytest.mark.slow
def test_operations_grow_with_the_area() -> None:
    image = torch.zeros(1, 3, 9, 9)
    twice = count_flops(U2NetP(size=64), image) / count_flops(U2NetP(size=32), image)
    assert twice == pytest.approx(4, rel=0.01)


@pytest.mark.slow
def test_what_the_network_is_laid_out_as_is_not_counted() -> None:
    network = fuse(EmbeddingNetwork(dimensions=4, width=4))
    before = count_flops(network, torch.zeros(1, 3, 32, 32))
    network(torch.zeros(1, 3, 32, 32))
    assert count_flops(network, torch.zeros(1, 3, 32, 32)) == before


@pytest.mark.slow
@pytest.mark.usefixtures("small_saliency")
def test_rows_of_networks() -> None:
    found = measure_workload(TINY, chosen_stages(["network"]), bandwidth=1e9, peak_flops=1e12, peers=(), rounds=1)
    names = ["network, embedding", "network, salient objects", "network, U2NetP as published"]
    assert [row["stage"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row["error"] is None
        assert row["must_bytes"] is None
        assert row["floor"] == pytest.approx(row["flops"] / 1e9)
    assert measurement_table(found).count("GFLOP") == 3
