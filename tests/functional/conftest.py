"""Geodesics by Dijkstra's algorithm in plain Python: what every forest is held to."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import pytest


def dijkstra(right: np.ndarray, down: np.ndarray, source: int, *, minimax: bool) -> tuple[np.ndarray, np.ndarray]:
    """Distance from ``source`` to every pixel and the largest edge on the path taken, ``[H, W]`` each."""
    h, w = right.shape[0], down.shape[1]
    length = np.full(h * w, np.inf)
    largest = np.full(h * w, np.inf)
    length[source] = largest[source] = 0
    queue = [(0.0, source)]
    done = set()
    while queue:
        here, p = heapq.heappop(queue)
        if p in done:
            continue
        done.add(p)
        y, x = divmod(p, w)
        around = []
        if x + 1 < w:
            around.append((p + 1, right[y, x]))
        if x > 0:
            around.append((p - 1, right[y, x - 1]))
        if y + 1 < h:
            around.append((p + w, down[y, x]))
        if y > 0:
            around.append((p - w, down[y - 1, x]))
        for q, cost in around:
            reach = max(here, float(cost)) if minimax else here + float(cost)
            if reach < length[q]:
                length[q], largest[q] = reach, max(largest[p], float(cost))
                heapq.heappush(queue, (reach, q))
    return length.reshape(h, w), largest.reshape(h, w)


@pytest.fixture
def geodesics() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """The function ``dijkstra``."""
    return dijkstra
