"""Records as Markdown tables."""

from __future__ import annotations

from typing import Any

from gpuvos.bench.workload import Workload

_HEAD = (
    "| stage | ms a frame | quartiles | frames/s | floor, ms | floor / time | MB must / moved | peak MiB | aim, ms |"
    " peer / ours |\n|---|" + "---:|" * 9
)


def heading(record: dict[str, Any]) -> str:
    """Where and with what a record was made, in one paragraph."""
    commit = (record["commit"] or "no commit")[:12] + ("+" if record["dirty"] else "")
    load = "" if record["load_average"] is None else f", load average {record['load_average']:g} before"
    copy, peak = record.get("copy_bandwidth"), record.get("peak_flops")
    return (
        f"{record['device']['name']} ({record['device']['type']}), {record['threads']} thread(s), "
        f"torch {record['versions']['torch']}, gpuvos {record['gpuvos']} {commit}, {record['created'][:10]}; "
        f"{record['clock']} time{load}"
        + ("" if copy is None else f"; a copy moves {copy / 1e9:.1f} GB/s, read and write counted")
        + ("" if peak is None else f"; a convolution reaches {peak / 1e9:.0f} GFLOP/s in float32")
        + "."
    )


def table(record: dict[str, Any]) -> str:
    """All measurements of a record: a stage a row, its peers below it, and what those compute."""
    return "\n\n".join([heading(record), *(measurement_table(one) for one in record["measurements"])])


def measurement_table(measurement: dict[str, Any]) -> str:
    """The table of one workload.

    Floor: the bytes that must move (inputs once, results once) at the measured bandwidth of a copy; of a network its
    operations at what a convolution was measured to reach, so that floor / time is its share of the peak. Moved: what
    the Triton kernels move by their own account. Aim: on an H200 (bfloat16, 80 frames). Peer / ours: above 1 the peer
    is slower.
    """
    lines = [f"**{Workload(**measurement['workload']).name}**", "", _HEAD]
    notes = []
    for row in measurement["rows"]:
        lines.append(_stage_line(row))
        for peer in (peer for peer in measurement["peers"] if peer["stage"] == row["stage"]):
            if peer["skipped"]:
                notes.append(f"- skipped: {peer['skipped']}")
                continue
            lines.append(_peer_line(peer, row))
            notes.append(f"- {peer['name']} {peer['version']}: {peer['computes']}{_agreement(peer)}")
    return "\n".join(lines + ([""] if notes else []) + notes)


def _stage_line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"| {row['stage']} | failed: {row['error']} |" + " - |" * 8
    share = "-" if row["floor"] is None else f"{100 * row['floor'] / row['median']:.2g} %"
    must = "-" if row["must_bytes"] is None else f"{row['must_bytes'] / 1e6:.3g}"
    moved = "-" if row["moved_bytes"] is None else f"{row['moved_bytes'] / 1e6:.3g}"
    work = f"{row['flops'] / 1e9:.3g} GFLOP" if row.get("flops") is not None else f"{must} / {moved}"
    return (
        f"| {row['stage']} | {_times(row)} | {number(row['floor'])} | "
        f"{share} | {work} | {_mebibytes(row)} | {number(row['aim'])} | |"
    )


def _peer_line(peer: dict[str, Any], row: dict[str, Any]) -> str:
    ratio = None if row["median"] is None else peer["median"] / row["median"]
    where = "" if peer["device"] == "cpu" else f" ({peer['device']})"
    return f"| &emsp;{peer['name']}{where} | {_times(peer)} | - | - | - | {_mebibytes(peer)} | - | {number(ratio)} |"


def _times(row: dict[str, Any]) -> str:
    return f"{number(row['median'])} | {number(row['q1'])} - {number(row['q3'])} | {number(1e3 / row['median'])}"


def _mebibytes(row: dict[str, Any]) -> str:
    return "-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.0f}"


def _agreement(peer: dict[str, Any]) -> str:
    return "" if peer["agreement"] is None else f"; {100 * peer['agreement']:.4g} % of the results equal ours"


def number(value: float | None) -> str:
    """Three significant digits without an exponent.

    Example:
        >>> number(0.01234), number(12345.6), number(None)
        ('0.0123', '12346', '-')
    """
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"


def comparison_table(record: dict[str, Any]) -> str:
    """Two commits side by side; above 1 the tree is quicker than the base."""
    found = record["comparison"]
    lines = [
        heading(record),
        f"Against {found['base']} ({found['base_commit'][:12]}); {Workload(**found['workload']).name}.",
        "",
        "| stage | ms a frame | base | speed-up | quartiles | verdict |\n|---|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row['stage']} | {number(row['head'])} | {number(row['base'])} | {number(row['speed_up'])} | "
        f"{number(row['q1'])} - {number(row['q3'])} | {row['verdict']} |"
        for row in found["rows"]
    ]
    return "\n".join(lines)
