"""Fast R-CNN with random weights at one scale and at two, SVMs for its features, and an image with boxes."""

import numpy as np
import torch
from torchvision.ops import roi_align, roi_pool

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale, factor, resize, to_input
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.linear import files as linear

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog"]
BOXES = np.float32(
    [[10, 10, 60, 60], [0, 0, 160, 120], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90], [10, 10, 60.1, 60]]
)
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def write(folder):
    """`one.pt`, `two.pt`, `align.pt`, `svm.pt`."""
    torch.manual_seed(0)
    backbone = backbones.build("efficientnet_lite0").eval()
    layers, features = region_layers(backbone, 16, 0.0)
    head = DetectionHead(layers, features, len(CLASSES))
    head.set_statistics(torch.rand(3, 4) * 0.1, torch.rand(3, 4) + 0.1)
    torch.nn.init.normal_(head.score.weight, std=0.5)
    torch.nn.init.normal_(head.box.weight, std=0.1)
    for name, sides, head.pooling in (("one", [96], "max"), ("two", [96, 288], "max"), ("align", [96], "align")):
        scale = Scale(short_side=sides, max_side=1000)
        model_file.save(folder / f"{name}.pt", backbone, CLASSES, scale, head=fast.describe_head(head, 16, 0.0))
    random = np.random.default_rng(0)
    weights, trained = random.normal(size=(2, 16)).astype(np.float32), np.array([True, False])
    linear.save_classifiers(folder / "svm.pt", CLASSES, "fc7", 0.5, weights, np.float32([1, 2]), trained, [])


def plain(path, image, boxes, short):
    """The network on each region by itself, with torchvision's pooling: no folding, no batch, no sharing."""
    network, _ = fast.load(path)
    scale = factor(160, 120, short, 1000)
    with torch.no_grad():
        maps = network.trunk(to_input(resize(image, scale), network.recipe, CPU))
        rows = []
        for box in boxes * np.float32(scale):
            if network.head.pooling == "align":
                # Cell u lies at the half-open 16 u + 0.5; by torchvision's rule it lies 7.5 further.
                pooled = roi_align(maps, torch.tensor([[0, *(box + np.float32(7.5))]]), 7, 1 / 16, 2, aligned=True)
            else:
                pooled = roi_pool(maps, torch.tensor([[0, box[0], box[1], box[2] - 1, box[3] - 1]]), 7, 1 / 16)
            rows.append([pooled.flatten(1), network.head.layers(pooled), *network.head(pooled)])
        pooled, fc7, logits, deltas = (torch.cat(column) for column in zip(*rows, strict=True))
    deltas = deltas * network.head.std + network.head.mean
    return pooled.numpy(), fc7.numpy(), logits.softmax(1).numpy(), deltas.numpy()
