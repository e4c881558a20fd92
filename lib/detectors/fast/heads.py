"""The layers that work on one pooled region: up to fc7, and Fast R-CNN's two sibling outputs (paper §2.1 and §2.2).

R regions, C classes without background, g cells a side of a pooled region, D features.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lib.backbones.backbones import Backbone

PRETRAINED_FC = ("alexnet", "vgg16")
LAST_BLOCK = ("resnet18", "resnet50")


def region_layers(backbone: Backbone, fc: int, dropout: float) -> tuple[nn.Module, int]:
    """What turns a pooled region into its fc7 row.

    backbone : alexnet and vgg16 give their own fc6 and fc7, resnets their last block and its mean (no fc6); the layers
               are the backbone's own, not copies
    fc       : width of fc6 and fc7 where they are fresh (efficientnet_lite0: 1024); Gaussian weights of deviation 0.005, as
               Caffe's AlexNet began. Weights that keep variance (He) are 4 to 9 times as large: what is learned then
               drowns in them, and the layers have no low rank for truncated SVD to find (digits: .94 -> .66)
    dropout  : share that is dropped after fc6 and fc7 in training (authors: 0.5); at 0 there is no such layer
    returns  : module float32 (R, channels, g, g) -> (R, D), after its ReLU; and D
    """
    if backbone.name in LAST_BLOCK:
        return nn.Sequential(backbone.crop_map, backbone.crop_fc), backbone.fc7_features
    if backbone.name in PRETRAINED_FC:
        linear = [layer for layer in backbone.crop_fc.modules() if isinstance(layer, nn.Linear)]
    else:
        linear = [nn.Linear(backbone.channels * backbone.grid**2, fc), nn.Linear(fc, fc)]
        for layer in linear:
            nn.init.normal_(layer.weight, std=0.005)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), *_with_relu(linear, dropout)), linear[-1].out_features


def _with_relu(linear: list[nn.Linear], dropout: float) -> Iterator[nn.Module]:
    for layer in linear:
        yield layer
        yield nn.ReLU(inplace=True)
        if dropout:
            yield nn.Dropout(dropout)


class DetectionHead(nn.Module):
    """Class scores and box deltas of pooled regions.

    layers : from `region_layers`, and D, the length of its rows;  classes : C
    score, box : linear layers on fc7 to C + 1 and 4 (C + 1) outputs; Gaussian weights of deviation 0.01 and 0.001,
                 biases 0 (paper §2.3; the authors' prototxts)
    mean, std  : buffers float32 (C + 1, 4), statistics of the targets. The weights stay in the space of normalised
                 targets, in memory and in files; `deltas` alone goes back, so it happens exactly once
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.layers, self.features = layers, features
        self.score = nn.Linear(features, classes + 1)
        self.box = nn.Linear(features, 4 * (classes + 1))
        for layer, deviation in ((self.score, 0.01), (self.box, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(classes + 1, 4))
        self.register_buffer("std", torch.ones(classes + 1, 4))

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (R, channels, g, g) -> logits (R, C+1), background first, and normalised deltas (R, C+1, 4)."""
        return self.outputs(self.layers(regions))

    def outputs(self, fc7: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` from fc7 rows (R, D) on. R may be 0."""
        # In half precision scores would tie, and deltas keep 8 bits.
        with torch.autocast(fc7.device.type, enabled=False):
            return self.score(fc7.float()), self.box(fc7.float()).unflatten(1, (-1, 4))

    def deltas(self, normalised: Tensor) -> Tensor:
        """Normalised deltas (R, C+1, 4) as the network gives them -> dx dy dw dh (R, C+1, 4), for `box_coding.decode`."""
        return normalised * self.std + self.mean

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the statistics, float (C+1, 4) each, std above 0."""
        self.mean.copy_(mean)
        self.std.copy_(std)
