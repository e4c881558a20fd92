"""Our Faster R-CNN against torchvision's: one image at test, and one step of joint training.

    python -m benchmarks.faster [--rounds 12] [--threads 2] [--device cpu]

Both have the ImageNet trunk of efficientnet_lite0 as ours runs it (batch norm folded, channels-last, float32), the same
anchors, image size without padding, numbers of proposals and regions, frozen parts and fused optimiser, and score
background high, as trained ones do, so that few boxes reach the last NMS. Test: from the decoded image to the
detections, one thread. Step: two images, on as many cores as `--threads`. What differs is in DIFFERENCES. In turns;
prints the medians and the median of ours / torchvision's, and writes results/benchmarks/faster.json.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from benchmarks.selective_search import machine, stay_on
from lib.backbones import backbones, model_file, weights
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import fold_batch_norm
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale, resize
from lib.boxes.nms import nms_per_class
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.detectors.faster import detector as detector_module
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster import train_joint as joint_training
from lib.detectors.faster.rpn import RPN, Anchors, Proposing, RpnLayers
from lib.parallel.clock import Clock
from lib.training import loop as training
from lib.training.optimisation import Adamw, Step
from lib.training.trunk import TrainedTrunk

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/faster.json"
DIFFERENCES = [
    "pooling: ours RoI max pooling, theirs RoIAlign with 2 x 2 samples a bin",
    "resizing: ours OpenCV on bytes, theirs torch on float32",
    "proposals: ours clip and drop small boxes, then take the best 2000; theirs take them first",
    "step: ours computes the images side by side, a thread each; theirs one batch on all threads",
    "step: ours leaves anchors across the border out; theirs samples from all",
    "step: ours starts its loop, and the optimiser's moments, anew every 4 steps; theirs never",
    "step: smooth L1 of the head with beta 1 in ours, 1/9 in theirs",
]
CLASSES = [str(digit) for digit in range(10)]
ANCHORS = Anchors(scales=[32.0, 64.0, 128.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
SIZE = (320, 240)
SHORT = 360
FROZEN = 3
STEPS = 4
REGIONS = Proposing(pre_nms=2000, post_nms=300, nms=0.7, min_size=1.0)
TRAIN = joint_training.JointTraining(
    iterations=STEPS, optimiser=Adamw(name="adamw"), learning_rate=1e-6, weight_decay=0.0005, clip_norm=None,
    bias_multiplier=1.0, head_multiplier=1.0, schedule=Step(name="step", every=1000, gamma=0.1), parts=2,
    checkpoint_every=1000, scale=Scale(short_side=[SHORT], max_side=1000), images=2, regions=128, foreground_share=0.25,
    foreground=0.5, background=[0.0, 0.5], mirror=0.0, frozen=FROZEN,
    targets=rpn_targets.AnchorTargets(positive=0.7, negative=0.3, anchors=256, positive_share=0.5),
    loss=rpn_targets.RpnLoss(normaliser="sampled", box_weight=1.0, sigma=3.0), proposing=REGIONS,
    pooling="max", fc=1024, fc_init="gaussian", dropout=0.0, box_loss="smooth_l1",
    beta=1.0, box_weight=1.0, precision="auto",
)


def trunk() -> backbones.Backbone:
    """M0's backbone, fresh from its package."""
    torch.manual_seed(0)
    return weights.pretrained("efficientnet_lite0", "imagenet")


def make_images(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Noise with bright squares: uint8 (H, W, 3), boxes float32 (3, 4), labels int64 (3,) from 0."""
    random, images = np.random.default_rng(0), []
    for _ in range(count):
        image = random.integers(0, 120, (SIZE[1], SIZE[0], 3), np.uint8)
        corners = random.integers(0, 140, (3, 2))
        boxes = np.hstack([corners, corners + random.integers(24, 96, (3, 2))]).astype(np.float32)
        for x1, y1, x2, y2 in boxes.astype(int):
            image[y1:y2, x1:x2] = 250
        images.append((image, boxes, random.integers(0, 10, 3)))
    return images


class PeerTrunk(nn.Module):
    """A trunk as torchvision's detectors take it: `run` on their batches, which it puts in channels-last order."""

    out_channels = 112

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._run = run

    def forward(self, images: Tensor) -> Tensor:
        return self._run(images.contiguous(memory_format=torch.channels_last))


def theirs(run: Callable[[Tensor], Tensor], device: torch.device) -> FasterRCNN:
    """torchvision's detector on a trunk, without padding to a multiple of 32."""
    anchors = AnchorGenerator((tuple(int(side) for side in ANCHORS.scales),), (tuple(ANCHORS.ratios),))
    model = FasterRCNN(
        PeerTrunk(run), len(CLASSES) + 1, min_size=SHORT, max_size=1000, rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2), box_batch_size_per_image=128, box_nms_thresh=0.3,
        rpn_pre_nms_top_n_train=REGIONS.pre_nms, rpn_pre_nms_top_n_test=REGIONS.pre_nms,
        rpn_post_nms_top_n_train=REGIONS.post_nms, rpn_post_nms_top_n_test=REGIONS.post_nms,
        image_mean=[0.498] * 3, image_std=[0.502] * 3, size_divisible=1,
    )
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[0] = 5
    return model.to(device, memory_format=torch.channels_last)


def peer_at_test(device: Device) -> FasterRCNN:
    """torchvision's detector on the folded trunk that ours runs."""
    return theirs(fold_batch_norm(trunk().trunk), device.torch_device).eval()


def peer_in_training(device: Device) -> tuple[FasterRCNN, torch.optim.Optimizer]:
    """torchvision's detector on the trunk as ours trains it, and its optimiser."""
    backbone = trunk().trunk
    peer = theirs(TrainedTrunk(backbone, FROZEN, device.torch_device), device.torch_device).train()
    parameters = [*backbone.parameters(), *peer.parameters()]
    return peer, torch.optim.AdamW([value for value in parameters if value.requires_grad], lr=1e-6, fused=True)


def ours(backbone: backbones.Backbone) -> joint_training.JointNetwork:
    """Our networks: 112 hidden channels in the region proposal network, as torchvision's has."""
    rpn = RPN(backbone.channels, RpnLayers(width=backbone.channels, score="logistic"), ANCHORS, backbone.stride)
    head = DetectionHead(*region_layers(backbone, 1024, 0.0), len(CLASSES))
    with torch.no_grad():
        head.score.bias[0] = 5
    return joint_training.JointNetwork(backbone, rpn, head)


def test_pair(device: Device, folder: Path) -> tuple[Callable[[np.ndarray], Any], Callable[[np.ndarray], Any]]:
    """From an image to its detections, ours and theirs."""
    backbone = trunk()
    network = ours(backbone)
    head = fast.describe_head(network.detector.head, 1024, 0.0)
    model_file.save(folder / "m.pt", backbone, CLASSES, TRAIN.scale, rpn=network.rpn.describe(), head=head)
    settings = detector_module.Detect(
        per_image=100, per_set=None, floor=0.05, nms=0.3, nms_before=None, most=None, regress=True, batch=1000,
        precision="auto",
    )
    files = {"regions": folder / "m.pt", "model": folder / "m.pt"}
    detector = detector_module.Detector(files, settings, REGIONS, device, Clock())
    peer = peer_at_test(device)

    def run_ours(image: np.ndarray) -> Any:
        boxes, scores, refine = detector(detector.prepare(image))[:3]
        rows, labels = np.nonzero(scores > 0.05)
        return nms_per_class(refine(rows, labels, boxes[rows]), scores[rows, labels], labels, 0.3)

    def run_theirs(image: np.ndarray) -> Any:
        with torch.inference_mode():
            pixels = torch.from_numpy(image).to(device.torch_device).permute(2, 0, 1).float() / 255
            return {name: value.cpu() for name, value in peer([pixels])[0].items()}

    return run_ours, run_theirs


def step_pair(threads: int, device: Device, folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """`STEPS` steps of joint training, ours by the training loop of the stages, theirs by a plain loop."""
    settings = TRAIN.model_copy(update={"parts": threads})
    network, examples = ours(trunk()), make_images(2)
    running = TrainedTrunk(network.detector.trunk, FROZEN, device.torch_device)
    factor = TRAIN.scale.factors(*SIZE)[0]
    count = iter(range(10**6))

    def batch(i: int) -> list[joint_training.JointExample]:
        random, items = np.random.default_rng(i), []
        for number, (image, boxes, labels) in enumerate(examples):
            scaled, objects = resize(image, factor), boxes * np.float32(factor)
            size = scaled.shape[1], scaled.shape[0]
            anchors = network.rpn.anchors.of_image(*size)
            sampled = rpn_targets.sample(anchors, size, objects, ANCHORS.count, TRAIN.targets, random)
            items.append(joint_training.JointExample(
                scaled, (number, False), str(number), factor, objects, labels, sampled, i
            ))
        return items

    def run_ours() -> Any:
        scratch = folder / str(next(count))
        scratch.mkdir()
        return training.train(
            network, [], batch, lambda item: joint_training.item_losses(network, running, item, settings, device),
            settings, device, 0, "benchmark", scratch, lambda todo, done: iter(todo),
        )

    peer, optimiser = peer_in_training(device)

    def run_theirs() -> Any:
        for _ in range(STEPS):
            images = [
                torch.from_numpy(image).to(device.torch_device).permute(2, 0, 1).float() / 255
                for image, _, _ in examples
            ]
            targets = [
                {
                    "boxes": torch.from_numpy(boxes).to(device.torch_device),
                    "labels": torch.from_numpy(labels + 1).to(device.torch_device),
                }
                for _, boxes, labels in examples
            ]
            optimiser.zero_grad()
            sum(peer(images, targets).values()).backward()
            optimiser.step()

    return run_ours, run_theirs


def interleaved(
    first: Callable[[], Any], second: Callable[[], Any], rounds: int, device: Device
) -> dict[str, Any]:
    """Milliseconds of both, in turns after a warm-up, and the median of their ratios."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 2):
        for milliseconds, work in zip(times, (first, second), strict=True):
            began = time.perf_counter()
            work()
            device.synchronise()
            milliseconds.extend([1000 * (time.perf_counter() - began)] * (turn >= 2))
    ratios = [our_ms / peer_ms for our_ms, peer_ms in zip(*times, strict=True)]
    return {
        "ratio": statistics.median(ratios), "ours_ms": statistics.median(times[0]),
        "torchvision_ms": statistics.median(times[1]), "rounds": rounds,
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2, help="and cores, of a step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT, help="file for the figures")
    options = parser.parse_args()
    device = pick_device(options.device, "float32")
    result: dict[str, Any] = {
        "what": "Faster R-CNN, ours / torchvision's: one image at test, one step of joint training with two images",
        "machine": {
            "device": options.device, "processor": machine(), "torch": torch.__version__,
            "torchvision": torchvision.__version__, "precision": str(device.dtype).removeprefix("torch."),
        },
        "threads": {"test": 1, "step": options.threads}, "differences": DIFFERENCES,
    }
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        run_ours, run_theirs = test_pair(device, Path(folder))
        image = make_images(1)[0][0]
        result["test"] = interleaved(
            lambda: run_ours(image), lambda: run_theirs(image), 3 * options.rounds, device
        )
        torch.set_num_threads(options.threads)
        stay_on(options.threads)
        step = interleaved(*step_pair(options.threads, device, Path(folder)), options.rounds, device)
        result["step"] = {**step, "ours_ms": step["ours_ms"] / STEPS, "torchvision_ms": step["torchvision_ms"] / STEPS}
    result |= {"ratio_test": result["test"]["ratio"], "ratio_step": result["step"]["ratio"]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for name in ("test", "step"):
        print(name, *(f"{key} {value:.4g}" for key, value in result[name].items()))
    print("differences:", *DIFFERENCES, sep="\n  ")


if __name__ == "__main__":
    main()
