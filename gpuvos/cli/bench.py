"""``gpuvos bench``: what every stage costs, beside its floor and other packages; what the kernels need."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
from tqdm import tqdm

from gpuvos.bench.compare import compare
from gpuvos.bench.curves import default_axes, measure_curves, write_curves
from gpuvos.bench.environment import environment, write_record
from gpuvos.bench.peers import PEERS
from gpuvos.bench.runner import measure_workload
from gpuvos.bench.stages import Stage, chosen_stages
from gpuvos.bench.static_table import Estimate, call_table, estimate_table, estimates, usage_table
from gpuvos.bench.table import comparison_table, heading, measurement_table
from gpuvos.bench.timing import convolution_peak, copy_bandwidth
from gpuvos.bench.workload import SIZES, Workload, check_workload
from gpuvos.cli.common import pick_device
from gpuvos.data.atomic import atomic_file
from gpuvos.errors import check_positive, fail
from gpuvos.kernels.static import compile_op, kernel_names

_HOST: dict[str, Any] = {
    "frames": 8,
    "stride": [4],
    "dtype": "float32",
}  # of a CPU, where the command does not say
_DEVICE: dict[str, Any] = {
    "frames": 80,
    "stride": [4, 1],
    "dtype": "bfloat16",
}  # of a GPU: what the aims are for


def run(arguments: Namespace) -> int:
    """Prints a table; returns 1 if a kernel spills or a stage fails, else 0."""
    if arguments.static:
        return _run_static(arguments)
    stages = chosen_stages(arguments.stages)
    for name in ("rounds", "max_seconds", "peer_frames"):
        check_positive(f"--{name.replace('_', '-')}", getattr(arguments, name))
    if arguments.threads is not None:
        check_positive("--threads", arguments.threads)
        torch.set_num_threads(arguments.threads)
    workloads = build_workloads(arguments, pick_device(arguments.device))
    if arguments.base is not None:
        return _run_base(arguments, workloads, stages)
    if arguments.curves is not None:
        return _run_curves(arguments, workloads)
    return _run_stages(arguments, workloads, stages)


def build_workloads(arguments: Namespace, device: torch.device) -> list[Workload]:
    """The workloads that the arguments describe, one a stride."""
    default = _DEVICE if device.type == "cuda" else _HOST
    height, width = SIZES[arguments.size]
    if (arguments.height is None) != (arguments.width is None):
        raise fail("--height, --width", "one of them", "both or neither")
    if arguments.height is not None:
        height, width = arguments.height, arguments.width
    chosen = {name: default[name] if getattr(arguments, name) is None else getattr(arguments, name) for name in default}
    seeds = {} if arguments.seeds is None else {"seeds": arguments.seeds, "robust_seeds": arguments.seeds}
    return [
        check_workload(
            Workload(
                height=height,
                width=width,
                stride=stride,
                frames=chosen["frames"],
                channels=arguments.channels,
                dtype=chosen["dtype"],
                device=str(device),
                **seeds,
            )
        )
        for stride in chosen["stride"]
    ]


def _run_stages(arguments: Namespace, workloads: list[Workload], stages: Sequence[Stage]) -> int:
    device = torch.device(workloads[0].device)
    record = _environment(arguments, device)
    record["copy_bandwidth"] = copy_bandwidth(device, clock=arguments.clock)
    if any(stage.flops is not None for stage in stages):
        record["peak_flops"] = convolution_peak(device, clock=arguments.clock)
    record["measurements"] = []
    print(heading(record))
    for number, workload in enumerate(workloads):
        wanted = [stage for stage in stages if number == 0 or stage.on_grid]
        if not wanted:
            continue
        with _progress() as progress:
            found = measure_workload(
                workload,
                wanted,
                bandwidth=record["copy_bandwidth"],
                peak_flops=record.get("peak_flops"),
                progress=progress,
                peers=() if arguments.no_peers else PEERS,
                peer_frames=arguments.peer_frames,
                rounds=arguments.rounds,
                max_seconds=arguments.max_seconds,
                clock=arguments.clock,
            )
        record["measurements"].append(found)
        print("\n" + measurement_table(found), flush=True)
    _keep(arguments, record)
    return int(any(row["error"] for found in record["measurements"] for row in found["rows"]))


def _run_base(arguments: Namespace, workloads: list[Workload], stages: Sequence[Stage]) -> int:
    record = _environment(arguments, torch.device(workloads[0].device))
    with _progress() as progress:
        record["comparison"] = compare(
            arguments.base,
            workloads[0],
            [stage.name for stage in stages],
            rounds=arguments.rounds,
            clock=arguments.clock,
            progress=progress,
        )
    print(comparison_table(record))
    _keep(arguments, record)
    return 0


def _run_curves(arguments: Namespace, workloads: list[Workload]) -> int:
    axes = default_axes(workloads[0])
    record = _environment(arguments, torch.device(workloads[0].device))
    with _progress() as progress:
        record["curves"] = measure_curves(
            axes,
            point_seconds=arguments.max_seconds,
            rounds=arguments.rounds,
            clock=arguments.clock,
            progress=progress,
        )
    name = f"curves-{torch.device(workloads[0].device).type}"
    for file in write_curves(arguments.curves, name, record):
        print(file)
    _keep(arguments, record)
    return 0


def _environment(arguments: Namespace, device: torch.device) -> dict[str, Any]:
    return environment(device, arguments.clock, {peer.package for peer in PEERS})


def _keep(arguments: Namespace, record: dict[str, Any]) -> None:
    if arguments.json is not None:
        write_record(arguments.json, record)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Shows the name of what runs on a terminal."""
    with tqdm(disable=None, leave=False, bar_format="{elapsed} {desc}") as line:
        yield line.set_description_str


def _run_static(arguments: Namespace) -> int:
    """Prints the tables; returns 1 if a kernel spills, else 0."""
    known = kernel_names()
    unknown = sorted(set(arguments.ops or ()) - set(known))
    if unknown:
        raise fail("--ops", ", ".join(unknown), f"some of {', '.join(known)}")
    ops = arguments.ops or known
    rows = [
        row
        for op in tqdm(ops, disable=None, unit="op", leave=False)
        for architecture in arguments.architectures
        for row in compile_op(op, architecture)
    ]
    guessed: list[Estimate] = []
    calls: list[dict[str, Any]] = []
    if arguments.ops is None:  # they are of the whole method
        with _progress() as progress:
            guessed, calls = estimates(notice=progress)
        print(estimate_table(guessed) + "\n\n" + call_table(calls) + "\n")
    if arguments.architectures:
        print(usage_table(rows))
    if arguments.json is not None:
        report = {
            "triton": version("triton"),
            "torch": version("torch"),
            "kernels": [row._asdict() for row in rows],
            "estimates": [row._asdict() for row in guessed],
            "calls": calls,
        }
        with atomic_file(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(row.spilled for row in rows))
