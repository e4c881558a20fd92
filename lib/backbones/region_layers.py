"""fc6 and fc7 of a backbone: the layers that turn one pooled region into its row (Fast R-CNN §2.1 and §2.2).

R regions, g cells a side of a pooled region, D features.
"""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from lib.backbones.backbones import Backbone

PRETRAINED_FC = ("alexnet", "vgg16")
LAST_BLOCK = ("resnet18", "resnet50")

FcInit = Literal["gaussian", "uniform"]


def region_layers(
    backbone: Backbone, fc: int, dropout: float, init: FcInit = "gaussian"
) -> tuple[nn.Module, int]:
    """What turns a pooled region into its fc7 row.

    backbone : alexnet and vgg16 give their own fc6 and fc7, resnets their last block and its mean (no fc6); the layers
               are the backbone's own, not copies
    fc       : width of fc6 and fc7 where they are fresh (efficientnet_lite0: 1024)
    init     : their start: gaussian, weights of deviation 0.005 and biases 0, as Caffe's AlexNet; uniform, PyTorch's
               own within ±1/√inputs, where more is learnt from few images, and truncated SVD finds a lower rank only
               after more training, since what is learnt is small beside the start
    dropout  : share that is dropped after fc6 and fc7 in training (authors: 0.5); at 0 there is no dropout layer
    returns  : module float32 (R, channels, g, g) -> (R, D), after its ReLU; and D
    """
    if backbone.name in LAST_BLOCK:
        return nn.Sequential(backbone.crop_map, backbone.crop_fc), backbone.fc7_features
    if backbone.name in PRETRAINED_FC:
        linear = [layer for layer in backbone.crop_fc.modules() if isinstance(layer, nn.Linear)]
    else:
        linear = [nn.Linear(backbone.channels * backbone.grid**2, fc), nn.Linear(fc, fc)]
        if init == "gaussian":
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
