"""Scores of small networks, in double precision where pixels are moved by hand."""

import numpy as np
import torch
from torch import nn

from lib.detectors.target import Target


class Small(nn.Module):
    """A trunk of stride 2 and a score of its whole map, with ReLU, ReLU6 and a pooling of maxima."""

    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), activation(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 1),
        )
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 16), nn.ReLU(inplace=True), nn.Linear(16, 2))

    def forward(self, images):
        return self.fc(self.trunk(images))


def small(label=0, images=1, network=None, window=(0, 0, 8, 8), box=(2, 2, 6, 6)):
    """The target of a `Small` on random images of 8 x 8 pixels, double precision."""
    torch.manual_seed(0)
    network = (network or Small()).double().eval()
    inputs = torch.randn(images, 3, 8, 8, dtype=torch.float64)
    return Target(
        network, trunk_map, lambda net, maps: net.fc(maps)[:, label], trunk_map, inputs, np.float32(window),
        np.float32(box),
    )


def trunk_map(network, images):
    return network.trunk(images)
