"""What sharing the convolutions saves: R-CNN's network against SPPnet's and Fast R-CNN's, same image and proposals.

    python -m benchmarks.sharing [--rounds 5] [--crops 64] [--device cpu]

One image of 640 x 480 at its own size, 2000 proposals, the trunk of efficientnet_lite0 for all. For R-CNN the network's
pass over a sample of `--crops` warped proposals is measured and multiplied by 2000 / crops, at crops of 224 pixels and
at the 80 of the default preset; cutting and SVMs are left out. For the other two, all of `trunk` and `regions`:
resizing and normalising, trunk, pooling, fc6 and fc7 of 1024 (SPPnet's levels 1, 2, 3, 6; Fast's grid of 7), class
scores and boxes. In turns; prints the medians and R-CNN's time over theirs, and writes results/benchmarks/sharing.json.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib.backbones import backbones, model_file
from lib.backbones.device import Device, pick_device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale
from lib.boxes.boxes import Boxes
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.detectors.rcnn import network as rcnn
from lib.detectors.spp import network as spp_network
from lib.parallel.clock import Clock
from lib.pooling.pyramid import Window
from lib.storage import checkpoint

DIFFERENCES = [
    "R-CNN: cutting the crops and the SVMs are left out; SPPnet and Fast R-CNN are whole but for the SVMs",
    "R-CNN: a sample of the crops is measured, times what it lacks to all proposals",
    "R-CNN has EfficientNet's last layers of 1280 on a crop; the others fc6 and fc7 of 1024 on the pooled region",
    "Fast R-CNN pools regions with equal cells once",
]
RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/sharing.json"
CLASSES = [str(number) for number in range(20)]
SIZE = (640, 480)
PROPOSALS = 2000
FC = 1024
BATCH = 2000


def proposals() -> Boxes:
    """float32 (2000, 4): centres anywhere, sides from 20 pixels to those of the image, as many small as large ones."""
    random, (width, height) = np.random.default_rng(0), SIZE
    sides = np.exp(random.uniform(np.log(20), np.log([width, height]), (PROPOSALS, 2)))
    corner = random.uniform(0, 1, (PROPOSALS, 2)) * (np.array([width, height]) - sides)
    return np.hstack([corner, corner + sides]).astype(np.float32)


def write_models(folder: Path) -> None:
    """Models of random weights: the time does not depend on them."""
    torch.manual_seed(0)
    backbone = backbones.build("efficientnet_lite0")
    for side in (224, 80):
        crop = rcnn.Crop(side=side, context=16, shape="warp", pool5_grid=4)
        checkpoint.save(folder / f"rcnn{side}.pt", rcnn.describe(rcnn.RcnnNetwork(backbone, CLASSES, crop)))
    head = DetectionHead(*region_layers(backbone, FC, 0.0), len(CLASSES))
    scale = Scale(short_side=[SIZE[1]], max_side=1000)
    model_file.save(folder / "fast.pt", backbone, CLASSES, scale, head=fast.describe_head(head, FC, 0.0))
    layers = spp_network.SppLayers(levels=[1, 2, 3, 6], fc=FC, dropout=0.0)
    window = Window(side=224, nearest="area", slack=0.0)
    network = spp_network.SppNetwork(backbone, layers, CLASSES, [SIZE[1]], window)
    checkpoint.save(folder / "spp.pt", spp_network.describe(network))


def works(folder: Path, crops: int, device: Device) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Name -> what its time is multiplied by, and the work."""
    image = np.random.default_rng(1).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    boxes, todo = proposals(), {}
    for side in (224, 80):
        extractor = rcnn.Extractor(folder / f"rcnn{side}.pt", device, 64)
        cut = extractor.prepare(image, boxes[:crops])
        todo[f"rcnn{side}"] = PROPOSALS / crops, lambda extractor=extractor, cut=cut: extractor.features(cut)
    shared = spp_network.Extractor(folder / "spp.pt", device, BATCH)
    todo["spp"] = 1.0, lambda: shared.features(shared.prepare(image, boxes))
    run = fast.RegionScorer(folder / "fast.pt", device, BATCH, Clock())
    todo["fast"] = 1.0, lambda: run(run.prepare(image, boxes), ())
    return todo


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    options = parser.parse_args()
    device = pick_device(options.device, "auto")
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        todo = works(Path(folder), options.crops, device)
        times: dict[str, list[float]] = {name: [] for name in todo}
        for turn in range(options.rounds + 1):
            for name, (factor, work) in todo.items():
                began = time.perf_counter()
                work()
                times[name] += [factor * (time.perf_counter() - began)] * (turn > 0)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    result: dict[str, Any] = {
        "what": f"R-CNN's network / (trunk + regions) of SPPnet and of Fast R-CNN, {PROPOSALS} proposals of one image",
        "machine": {
            "device": options.device, "processor": platform.machine(), "torch": torch.__version__,
            "precision": str(device.dtype),
        },
        "differences": DIFFERENCES, "seconds": seconds, "rcnn_crops_measured": options.crops, "rounds": options.rounds,
        "threads": torch.get_num_threads(),
    }
    for side in (224, 80):
        for method in ("spp", "fast"):
            result[f"times_{method}_{side}"] = seconds[f"rcnn{side}"] / seconds[method]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(*(f"{key} {value:.4g}" for key, value in {**seconds, **result}.items() if isinstance(value, float)))
    print("differences:", *DIFFERENCES, sep="\n  ")


if __name__ == "__main__":
    main()
