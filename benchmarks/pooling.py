"""Our RoI pooling against torchvision's, forward and backward, and pyramid pooling against adaptive pooling by window.

    python -m benchmarks.pooling [--repeats 15]

The same feature maps and regions in float32, in turns, one thread each; torchvision and torch get the memory order that
is fastest for them, and pyramid pooling its maps in the precision that each computes in. What differs is in
DIFFERENCES. Checks that both give the same numbers, prints a table and writes results/benchmarks/pooling.json, whose
ratios are ours / theirs (medians of processor time).
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from benchmarks.selective_search import machine
from lib.pooling import roi as pooling

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/pooling.json"
DIFFERENCES = [
    "memory order: ours channels-last, theirs channels first",
    "RoI pooling: torchvision's forward always keeps the winning cells; ours does so in forward_train alone",
    "pyramid: ours reads half-precision maps, as they are stored; theirs float32 maps",
    "pyramid: ours is compiled for all windows; theirs calls torch's adaptive pooling for each window and level",
]
TRUNKS = {"efficientnet_lite0": (112, 7), "alexnet": (256, 6), "vgg16": (512, 7)}
# Two images of 600 x 800 pixels, Fast R-CNN's batch.
IMAGES = 2
HEIGHT, WIDTH = 38, 50
STRIDE = 16
REGIONS, WINDOWS = 256, 500
LEVELS = [1, 2, 3, 6]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "what": __doc__.split("\n")[0], "machine": machine(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "torchvision": torchvision.__version__, "differences": DIFFERENCES,
        "milliseconds": {},
    }
    for name, (channels, grid) in TRUNKS.items():
        milliseconds = measure(channels, grid, repeats)
        result["milliseconds"][name] = milliseconds
        for part, (ours, theirs) in milliseconds.items():
            result[f"ratio_{part}_{name}"] = round(ours / theirs, 4)
            print(f"{name:20} {part:16} ours {ours:8.2f} ms  theirs {theirs:8.2f} ms  ratio {ours / theirs:.3f}")
    print("differences:", *DIFFERENCES, sep="\n  ")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(channels: int, grid: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Part -> milliseconds of ours and theirs, medians of interleaved runs; the first two runs do not count."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    maps = torch.randn(IMAGES, channels, HEIGHT, WIDTH)
    boxes = random_boxes(random, REGIONS)
    rois = torch.from_numpy(np.hstack([random.integers(0, IMAGES, (REGIONS, 1)), boxes]).astype(np.float32))
    inclusive = rois - torch.tensor([0, 0, 0, 1, 1.0])
    maps_last = maps.contiguous(memory_format=torch.channels_last)
    cells = (random_boxes(random, WINDOWS) / STRIDE).astype(np.int32)
    cells[:, 2:] = np.minimum(np.maximum(cells[:, 2:], cells[:, :2] + 1), [WIDTH, HEIGHT])
    halves = maps_last[0].permute(1, 2, 0).half().contiguous().numpy()
    rounded = maps[:1].half().float()
    times: dict[str, tuple[list[float], list[float]]] = {
        part: ([], []) for part in ("forward", "forward_train", "backward", "pyramid")
    }
    gradient = torch.randn(REGIONS, channels, grid, grid)
    gradient_last = gradient.contiguous(memory_format=torch.channels_last)
    for _ in range(repeats + 2):
        with torch.no_grad():
            timed(times["forward"][0], lambda: pooling.roi_pool(maps_last, rois, STRIDE, grid))
            timed(times["forward"][1], lambda: torchvision.ops.roi_pool(maps, inclusive, grid, 1 / STRIDE))
        a, b = maps_last.clone().requires_grad_(), maps.clone().requires_grad_()
        ours = timed(times["forward_train"][0], lambda a=a: pooling.roi_pool(a, rois, STRIDE, grid))
        theirs = timed(times["forward_train"][1], lambda b=b: torchvision.ops.roi_pool(b, inclusive, grid, 1 / STRIDE))
        timed(times["backward"][0], lambda ours=ours: ours.backward(gradient_last))
        timed(times["backward"][1], lambda theirs=theirs: theirs.backward(gradient))
        rows = timed(times["pyramid"][0], lambda: pooling.pyramid_pool(halves, cells, LEVELS))
        expected = timed(times["pyramid"][1], lambda: adaptive(rounded, cells))
        assert torch.equal(ours, theirs), "RoI pooling differs from torchvision's"
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
        np.testing.assert_array_equal(rows, expected.numpy())
    medians = {
        part: tuple(1000 * float(np.median(kind[2:])) for kind in both) for part, both in times.items()
    }
    return {part: (ours, theirs) for part, (ours, theirs) in medians.items()}


def random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """float (count, 4): boxes of 32 to 400 pixels a side, cut at the image."""
    low = random.uniform(0, [WIDTH * STRIDE - 32, HEIGHT * STRIDE - 32], (count, 2))
    high = np.minimum(low + random.uniform(32, 400, (count, 2)), [WIDTH * STRIDE, HEIGHT * STRIDE])
    return np.hstack([low, high])


def adaptive(maps: Tensor, cells: np.ndarray) -> Tensor:
    """The same windows by torch's adaptive pooling of slices, as most re-implementations pool them."""
    return torch.cat([pooling.pool_whole(maps[:, :, y1:y2, x1:x2], LEVELS) for x1, y1, x2, y2 in cells.tolist()])


def timed(into: list[float], work: Callable[[], Any]) -> Any:
    """The result of the work; its seconds of processor time are added: a busy machine stretches long work more."""
    began = time.process_time()
    result = work()
    into.append(time.process_time() - began)
    return result


if __name__ == "__main__":
    raise SystemExit(main())
