#!/usr/bin/env python3
"""What the card itself does, measured with PyTorch: what the engine's figures are held against.

Prints JSON: FP32 matrix rate without TF32 (as the engine runs), copies on the card and over the bus, and what a launch
takes by itself and as part of a CUDA graph. Random data: zeros run faster than models do.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import torch


def seconds(what: Callable[[], object], runs: int) -> float:
    """Of one run, by the device's own clock, after a warm-up."""
    for _ in range(3):
        what()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(runs):
        what()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / runs


def matrix_rate(rows: int, inner: int, columns: int) -> float:
    a, b = (
        torch.rand(rows, inner, device="cuda"),
        torch.rand(inner, columns, device="cuda"),
    )
    return 2 * rows * inner * columns / seconds(lambda: a @ b, 20)


def launches(count: int) -> tuple[float, float]:
    """Seconds of a kernel that does next to nothing, launched by itself and in a graph of `count`."""
    x = torch.rand(64, device="cuda")

    def run() -> None:
        for _ in range(count):
            x.add_(1)

    alone = seconds(run, 20) / count
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return alone, seconds(graph.replay, 20) / count


def main() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    large = torch.rand(1 << 30, device="cuda")
    target = torch.empty_like(large)
    pinned = torch.rand(1 << 26).pin_memory()
    device = torch.empty_like(pinned, device="cuda")
    alone, graphed = launches(100)
    print(
        json.dumps(
            {
                "card": torch.cuda.get_device_name(),
                "matrix_flop_per_s": matrix_rate(8192, 8192, 8192),
                "layer_flop_per_s": {rows: matrix_rate(rows, 400, 400) for rows in (64, 1024, 4096, 16384)},
                "copy_bytes_per_s": 2 * large.nbytes / seconds(lambda: target.copy_(large), 10),
                "to_device_bytes_per_s": pinned.nbytes / seconds(lambda: device.copy_(pinned, non_blocking=True), 10),
                "to_host_bytes_per_s": pinned.nbytes / seconds(lambda: pinned.copy_(device, non_blocking=True), 10),
                "launch_us": alone * 1e6,
                "launch_in_graph_us": graphed * 1e6,
            }
        )
    )


if __name__ == "__main__":
    main()
