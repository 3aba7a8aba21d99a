"""The results of `gpu.py` as a page of Markdown."""

from __future__ import annotations

from typing import Any


def card(found: dict[str, Any]) -> list[str]:
    if "card" not in found:
        return [f"The card was not measured: {found.get('problem', 'no GPU')}", ""]
    layers = found["layer_flop_per_s"].items()
    return [
        f"{found['card']}, by PyTorch: FP32 matrices {found['matrix_flop_per_s'] / 1e12:.1f} TFLOP/s, a layer of 400 by"
        f" 400 {', '.join(f'{rate / 1e12:.1f} with {rows} rows' for rows, rate in layers)}; copies"
        f" {found['copy_bytes_per_s'] / 1e12:.2f} TB/s on the card, {found['to_device_bytes_per_s'] / 1e9:.0f} GB/s to"
        f" it, {found['to_host_bytes_per_s'] / 1e9:.0f} GB/s from it; a launch {found['launch_us']:.1f} µs,"
        f" {found['launch_in_graph_us']:.2f} in a graph.",
        "",
    ]


def run_times(measured: dict[str, Any]) -> list[str]:
    """Batches in process, a column for each way to run them."""
    if not measured:
        return []
    sizes = sorted({rows for run in measured.values() for rows in run["us_by_rows"]})
    lines = [*(f"- {run}: {found['device']}" for run, found in measured.items()), ""]
    lines += [f"| rows | {' | '.join(f'{run} µs' for run in measured)} | best, rows/s |"]
    lines += ["|---" * (len(measured) + 2) + "|"]
    for rows in sizes:
        times = [found["us_by_rows"].get(rows) for found in measured.values()]
        best = rows / min(t for t in times if t is not None) * 1e6
        lines.append(f"| {rows} | {' | '.join('' if t is None else f'{t:.0f}' for t in times)} | {best:,.0f} |")
    return [*lines, ""]


def loads(runs: list[dict[str, Any]]) -> list[str]:
    if not runs:
        return []
    lines = [
        "| device | run | lanes | rows by callers | requests/s | rows/s | p50 µs | p99 µs | server CPU µs | failed |"
    ]
    lines += ["|---" * 10 + "|"]
    for run in runs:
        lines.append(
            f"| {run['device']} | {run['run']} | {run['lanes'] or 'a core each'} | {run['shape'].replace('x', ' by ')}"
            f" | {run['requests_per_s']:,.0f} | {run['rows_per_s']:,.0f} | {run['p50_us']:,.0f} | {run['p99_us']:,.0f}"
            f" | {run['server_cpu_us']:,.0f} | {run['failed']:.0f} |"
        )
    return [*lines, ""]


def swaps(runs: list[dict[str, Any]]) -> list[str]:
    return [
        f"- open loop, {run['new_versions']} new versions on the way: {run['requests_per_s']:,.0f} requests/s, p50"
        f" {run['p50_us']:,.0f} µs, p99 {run['p99_us']:,.0f} µs, {run['failed']:.0f} failed"
        for run in runs
    ] + ([""] if runs else [])


def page(about: str, found: dict[str, Any], models: dict[str, Any]) -> str:
    lines = ["# On a GPU", "", about, "", *card(found)]
    for model, result in models.items():
        lines += [f"## {model}", ""]
        check = result.get("compare")
        if check:
            verdict = "as on the CPU" if check["right"] else "WRONG"
            error = check["worst_logit_error"]
            lines += [f"{check['predictions']} predictions {verdict}: worst error of a logit {error:.1e}.", ""]
        lines += run_times(result["measure"]) + loads(result.get("load", [])) + swaps(result.get("swaps", []))
        lines += [f"- {problem}" for problem in result["problems"]]
    return "\n".join(lines).rstrip() + "\n"
