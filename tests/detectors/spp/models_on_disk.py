"""SPPnet's models with random weights, as the stages write them, and an image with boxes."""

import numpy as np
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.network import SppLayers
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors
from lib.pooling.pyramid import Window
from lib.storage import checkpoint

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]
SCALES = [96, 128]
BOXES = np.array(
    [[0, 0, 160, 120], [10, 10, 60, 60], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90]], np.float32
)
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def make_network(levels=(1, 2), scales=None):
    torch.manual_seed(0)
    layers = SppLayers(levels=list(levels), fc=32, dropout=0)
    classifier = spp_network.SppNetwork(backbones.build("resnet18"), layers, ["a", "b"])
    window = Window(side=64, nearest="area", slack=1.5)
    return spp_network.for_detection(classifier, CLASSES, scales or SCALES, window)


def write(folder):
    """The network, SVMs and box regressors."""
    checkpoint.save(folder / "cnn.pt", spp_network.describe(make_network()))
    weights = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    trained, notes = np.array([True, False, True]), ["dog: no object"]
    svms = linear.classifiers(CLASSES, "fc7", 0.5, weights, np.float32([1, 2, 3]), trained, notes)
    checkpoint.save(folder / "svm.pt", svms)
    offsets = np.float32([[0.1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, np.log(2)]])
    regressors = BoxRegressors(np.zeros((3, 1280, 4), np.float32), offsets, np.array([5, 0, 5]))
    checkpoint.save(folder / "boxes.pt", linear.regressors(CLASSES, "pool5", 0.25, regressors))
