"""What PASCAL VOC 2007 would cost on this machine: the networks timed, the rest arithmetic.

    python -m benchmarks.networks [--seconds 4] [--device auto]

Times one crop, one image of 800 x 600 through the trunk, and one region through fc6 and fc7, for the networks of the
VOC presets with random weights: once in the precision that training takes by itself (float32 on a CPU) and once in that
of the stages that only compute forward (bfloat16 where the processor has it). From these come hours and gigabytes of
each method's stages at the presets' numbers (about 2,000 proposals an image). A training step counts as three forward
passes, as one where the trunk is frozen. Feature maps and features of the training images are computed forward alone.
Proposals, SVMs and regressors are not included. On a CPU a pass runs on one core and its processor time counts, which
a busy machine hardly changes: the hours are those of one core. Writes results/benchmarks/networks.json.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.selective_search import ROOT, machine
from lib.backbones import backbones
from lib.backbones.device import Device, pick_device
from lib.backbones.region_layers import region_layers
from lib.storage import tables

RESULT = ROOT / "results/benchmarks/networks.json"
TRAIN = 5011
TEST = 4952
PROPOSALS = 2000
STEP = 3
PYRAMID = sum((short / 600) ** 2 for short in (480, 576, 688, 864, 1200))  # of one image of 800 x 600
CELLS = sum((short // 16) * (short * 4 // 3 // 16) for short in (480, 576, 688, 864, 1200))
SIDES = {"alexnet": 227, "vgg16": 224}
BATCH = {"alexnet": 128, "vgg16": 24}
POOL5 = {"alexnet": 6 * 6 * 256, "vgg16": 7 * 7 * 512}
ABOVE = 0.0157  # share of the regions with an IoU above 0.6: 1,179 of 74,906, on 40 images of VOC 2007's train and val
MEASURED = 200 * 200  # regions on which the scale of the features is measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4, help="for each figure, at least one pass")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    devices = {"train": pick_device(options.device, "auto", training=True), "test": pick_device(options.device, "auto")}
    result: dict[str, object] = {
        "what": (__doc__ or "").split("\n")[0], "machine": machine(), "threads": torch.get_num_threads(),
        "device": devices["test"].torch_device.type,
        "precision": {phase: str(device.dtype).removeprefix("torch.") for phase, device in devices.items()},
    }
    for name in SIDES:
        ms = {phase: measure(name, device, options.seconds) for phase, device in devices.items()}
        result[name] = {"ms": ms, "hours": hours(name, ms), "gigabytes": gigabytes(name)}
        print(name, result[name])
    tables.write_json(options.out, result)
    return 0


def measure(name: str, device: Device, seconds: float) -> dict[str, float]:
    """Milliseconds of a crop (in a batch of 16), of an image of 800 x 600, of a region (in a batch of 128)."""
    network = backbones.build(name).eval()
    network = network.to(device.torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers, _ = region_layers(network, 4096, 0.0)

    def inputs(count: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(count, 3, height, width, device=device.torch_device).to(memory_format=torch.channels_last)

    crops, image = inputs(16, SIDES[name], SIDES[name]), inputs(1, 600, 800)
    regions = torch.rand(128, network.channels, network.grid, network.grid, device=device.torch_device)
    with torch.inference_mode(), device.autocast():
        return {
            "crop": timed(lambda: network(crops), seconds, device) / 16,
            "image": timed(lambda: network.trunk(image), seconds, device),
            "region": timed(lambda: layers(regions), seconds, device) / 128,
        }


def timed(work: Callable[[], object], seconds: float, device: Device) -> float:
    """Median milliseconds of a call, of processor time on a CPU, after one that does not count."""
    clock = time.process_time if device.torch_device.type == "cpu" else time.perf_counter
    work()
    taken: list[float] = []
    while sum(taken) < seconds:
        began = clock()
        work()
        device.synchronise()
        taken.append(clock() - began)
    return 1000 * sorted(taken)[len(taken) // 2]


def hours(name: str, ms: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of training and of the whole test set, by method.

    ms : milliseconds as `measure` returns them, in the precision of `train` and in that of `test`
    """
    train, test = ms["train"], ms["test"]
    step = {part: STEP * milliseconds for part, milliseconds in train.items()}
    head = 128 * step["region"]
    both = {
        "rcnn": (70_000 * BATCH[name] * step["crop"] + TRAIN * PROPOSALS * test["crop"],
                 TEST * PROPOSALS * test["crop"]),
        "spp": (300_000 * head + TRAIN * (2 * PYRAMID * test["image"] + PROPOSALS * test["region"]),
                TEST * (PYRAMID * test["image"] + PROPOSALS * test["region"])),
        "fast": (40_000 * (2 * step["image"] + head), TEST * (test["image"] + PROPOSALS * test["region"])),
        "faster": ((80_000 + 2 * 40_000) * (step["image"] + train["image"]) + 80_000 * head,
                   TEST * (test["image"] + 300 * test["region"])),
    }
    return {
        method: {"train": training / 3.6e6, "test": testing / 3.6e6} for method, (training, testing) in both.items()
    }


def gigabytes(name: str) -> dict[str, float]:
    """Of the stored features in half precision: fc7 of all training regions; R-CNN's pool5 of those that the regressors
    read, and SPPnet's feature maps, from which its regressors pool."""
    channels, regions = {"alexnet": 256, "vgg16": 512}[name], TRAIN * PROPOSALS
    fc7, pool5 = regions * 4096, (regions * ABOVE + MEASURED) * POOL5[name]
    maps = 2 * TRAIN * CELLS * channels
    return {"rcnn": (fc7 + pool5) * 2 / 1e9, "spp": (fc7 + maps) * 2 / 1e9, "fast": 0.0, "faster": 0.0}


if __name__ == "__main__":
    raise SystemExit(main())
