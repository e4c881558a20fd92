"""One step of Fast R-CNN's training: ours against torchvision's RoIHeads on the same trunk.

    python -m benchmarks.detector_step [--rounds 24] [--threads 2] [--device cpu]

Both have the trunk of efficientnet_lite0 as ours trains it (frozen parts and batch norm folded, channels-last), in
float32, two images of 480 x 360, the same 200 proposals of each, 64 regions of which at most a quarter is foreground,
fc6 and fc7 of 1024, 10 classes, and fused AdamW; both sample the regions, run forward and backward, and step. What
differs is in DIFFERENCES. Both on as many cores as threads, in turns; prints the medians and the median of ours /
torchvision's, and writes results/benchmarks/detector_step.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torchvision
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.selective_search import machine, stay_on
from lib.backbones import backbones, model_file
from lib.backbones.centring import centre
from lib.backbones.device import Device, pick_device
from lib.backbones.scaling import Scale, factor, resize, to_input
from lib.detectors.fast import network as fast
from lib.detectors.fast import training as ft
from lib.images.decode import content_of
from lib.images.image_set import ImageSet
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.training import loop as training
from lib.training.optimisation import Adamw, Step
from lib.training.trunk import TrainedTrunk

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/detector_step.json"
DIFFERENCES = [
    "pooling: ours RoI max pooling, theirs RoIAlign with 2 x 2 samples a bin",
    "ours resizes and normalises its images in each step; theirs has them ready",
    "ours computes the images side by side, a thread each; theirs one batch on all threads",
    "smooth L1 with beta 1 in ours, 1/9 in theirs",
]
CLASSES = [str(digit) for digit in range(10)]
SIZE = (320, 240)
IMAGES = 8
PROPOSALS = 200
FROZEN = 3
TRAIN = ft.FastTraining(
    iterations=1000, optimiser=Adamw(name="adamw"), learning_rate=1e-6, weight_decay=0.0005,
    bias_multiplier=1.0, head_multiplier=1.0, schedule=Step(name="step", every=1000, gamma=0.1), parts=2,
    checkpoint_every=1000, scale=Scale(short_side=[360], max_side=1000), images=2, regions=128, foreground_share=0.25,
    foreground=0.5, background=[0.0, 0.5], mirror=0.0, pooling="max", fc=1024, fc_init="gaussian",
    dropout=0.0, head="fresh", frozen=FROZEN, clip_norm=None,
    box_loss="smooth_l1", beta=1.0, box_weight=1.0, stage_wise=False, statistics="fixed", std_floor=0.01,
    precision="float32",
)


def make_set(folder: Path) -> tuple[ImageSet, ByImage]:
    """Noise with bright squares, three objects an image, half of the proposals around them."""
    random = np.random.default_rng(0)
    images: list[tuple] = []
    objects: list[tuple] = []
    proposals: list[tuple] = []
    for number in range(IMAGES):
        pixels, image_id = random.integers(0, 120, (SIZE[1], SIZE[0], 3), np.uint8), f"{number}.png"
        corners = random.integers(0, 140, (3, 2))
        boxes = np.hstack([corners, corners + random.integers(24, 96, (3, 2))])
        near = boxes[random.integers(3, size=PROPOSALS // 2)] + random.uniform(-8, 8, (PROPOSALS // 2, 4))
        far = random.integers(0, 140, (PROPOSALS // 2, 2))
        far = np.hstack([far, far + random.integers(16, 96, far.shape)])
        for x1, y1, x2, y2 in boxes:
            pixels[y1:y2, x1:x2] = 250
        cv2.imwrite(str(folder / image_id), pixels)
        images.append((image_id, "train", *SIZE, False, content_of((folder / image_id).read_bytes())))
        objects += [(image_id, i, str(i), *box, False, False, False) for i, box in enumerate(boxes)]
        proposals += [(image_id, *box, 0.0) for box in np.concatenate([near, far])]
    for name, rows, schema in (
        ("images", images, tables.IMAGES), ("objects", objects, tables.OBJECTS),
        ("proposals", proposals, tables.PROPOSALS),
    ):
        tables.write(folder / f"{name}.parquet", pd.DataFrame(rows, columns=schema.names), schema)
    tables.write_json(folder / "classes.json", CLASSES)
    return ImageSet(folder, folder, cache_bytes=2**26), ByImage(folder / "proposals.parquet", tables.PROPOSALS)


def theirs(image_set: ImageSet, proposals: ByImage, device: Device) -> Callable[[list[str]], None]:
    """One step of torchvision's on the images of a batch."""
    torch.manual_seed(0)
    backbone = centre(backbones.build("efficientnet_lite0"))
    trunk = TrainedTrunk(backbone.trunk, FROZEN, device.torch_device)
    heads = RoIHeads(
        MultiScaleRoIAlign(["0"], 7, 2), TwoMLPHead(112 * 49, TRAIN.fc), FastRCNNPredictor(TRAIN.fc, len(CLASSES) + 1),
        0.5, 0.5, 64, 0.25, None, 0.05, 0.3, 100,
    ).train().to(device.torch_device)
    scale = factor(*SIZE, TRAIN.scale.short_side[0], TRAIN.scale.max_side)
    ready = {}
    for image_id in image_set.ids:
        boxes, labels = image_set.objects(image_id)
        ready[image_id] = (
            to_input(resize(image_set.image(image_id), scale), backbone.recipe, device),
            torch.from_numpy(proposals.boxes(image_id) * np.float32(scale)).to(device.torch_device),
            {
                "boxes": torch.from_numpy(boxes * np.float32(scale)).to(device.torch_device),
                "labels": torch.from_numpy(labels + 1).to(device.torch_device),
            },
        )
    parameters = [value for module in (backbone.trunk, heads) for value in module.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def step(images: list[str]) -> None:
        pixels, boxes, targets = zip(*(ready[image_id] for image_id in images), strict=True)
        batch = torch.cat(pixels).contiguous(memory_format=torch.channels_last)
        optimiser.zero_grad()
        _, losses = heads({"0": trunk(batch)}, list(boxes), [tuple(batch.shape[2:])] * len(images), list(targets))
        sum(losses.values()).backward()
        optimiser.step()
        sum(value.item() for value in losses.values())

    return step


def measure(rounds: int, threads: int, device: Device, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each step of ours, by the training loop of the stages, and of theirs in between."""
    image_set, proposals = make_set(folder)
    peer = theirs(image_set, proposals, device)
    batches = ft.FastBatches(image_set, proposals, TRAIN, 0, "benchmark")
    torch.manual_seed(0)
    backbones.save_m0(folder / "m0.pt", backbones.build("efficientnet_lite0"))
    model = model_file.read(folder / "m0.pt")
    network = fast.FastNetwork(model.backbone, ft.start_head(model, None, CLASSES, TRAIN, batches))
    ft.freeze(network, TRAIN, False)
    # Nothing is kept from one visit of an image to the next: torchvision keeps nothing either.
    trunk = TrainedTrunk(network.trunk, FROZEN, device.torch_device)
    times: tuple[list[float], list[float]] = ([], [])

    def turns(_: Any, done: int) -> Iterator[int]:
        for i in range(rounds + 3):
            began = time.perf_counter()
            yield i
            device.synchronise()
            between = time.perf_counter()
            peer(batches.images(i))
            device.synchronise()
            if i >= 3:
                times[0].append(between - began)
                times[1].append(time.perf_counter() - between)

    settings = TRAIN.model_copy(update={"iterations": rounds + 3, "parts": threads})
    training.train(
        network, [], batches, lambda item: ft.item_losses(network, trunk, item, settings, device), settings, device, 0,
        "benchmark", folder, turns,
    )
    return times


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2, help="and cores")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    options = parser.parse_args()
    device = pick_device(options.device, "float32", training=True)
    torch.set_num_threads(options.threads)
    stay_on(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = measure(options.rounds, options.threads, device, Path(folder))
    ratios = [our_seconds / peer_seconds for our_seconds, peer_seconds in zip(ours, peer, strict=True)]
    result = {
        "what": "One step of Fast R-CNN's training, ours / torchvision's RoIHeads on the same trunk",
        "machine": {
            "device": options.device, "processor": machine(), "torch": torch.__version__,
            "torchvision": torchvision.__version__, "precision": str(device.dtype).removeprefix("torch."),
        },
        "threads": options.threads, "differences": DIFFERENCES,
        "ratio": statistics.median(ratios), "p90": float(np.percentile(ratios, 90)), "rounds": len(ratios),
        "ours_ms": 1000 * statistics.median(ours), "torchvision_ms": 1000 * statistics.median(peer),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(*(f"{key} {value:.4g}" for key, value in result.items() if isinstance(value, float)))
    print("differences:", *DIFFERENCES, sep="\n  ")


if __name__ == "__main__":
    main()
