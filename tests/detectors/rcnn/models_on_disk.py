"""R-CNN's models with random weights, as the stages write them, and an image with boxes."""

import numpy as np
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.rcnn import network as rcnn
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors
from lib.storage import checkpoint

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]
BOXES = np.array([[10, 10, 60, 60], [0, 0, 160, 120], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90]], np.float32)
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def files(folder):
    """The roles of its models, as dvc.yaml gives them."""
    return {"model": folder / "cnn.pt", "scores": folder / "svm.pt", "boxes": folder / "boxes.pt"}


def write(folder):
    """The network, SVMs and box regressors."""
    torch.manual_seed(0)
    crop = rcnn.Crop(side=64, context=16, shape="warp", pool5_grid=1)
    network = rcnn.RcnnNetwork(backbones.build("resnet18"), CLASSES, crop)
    checkpoint.save(folder / "cnn.pt", rcnn.describe(network))
    weights = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
    trained, notes = np.array([True, False, True]), ["dog: no object"]
    svms = linear.classifiers(CLASSES, "fc7", 0.5, weights, np.float32([1, 2, 3]), trained, notes)
    checkpoint.save(folder / "svm.pt", svms)
    offsets = np.float32([[0.1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, np.log(2)]])
    regressors = BoxRegressors(np.zeros((3, 512, 4), np.float32), offsets, np.array([5, 0, 5]))
    checkpoint.save(folder / "boxes.pt", linear.regressors(CLASSES, "pool5", 0.25, regressors))
