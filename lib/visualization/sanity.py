"""Sanity check by randomisation (Adebayo et al. 2018): a map that stays when the weights go is none of the network.

Layers are drawn anew from the output down. The map of the same score is then compared with the original by the rank
correlation of their signed values. Gradients and Grad-CAM lose it; guided back-propagation and the deconvnet keep much
of it, since they show edges whatever the weights.
"""

import copy
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import nn

from lib.detectors.target import Target

Level = Literal["head", "half", "all"]
LEVELS: tuple[Level, ...] = ("head", "half", "all")


def randomised(target: Target, level: Level, seed: int) -> nn.Module:
    """A copy of the target's network with fresh weights in some of its layers.

    level : head, the layers behind the map; half, the later half of those before it too; all
    seed  : of the weights, normal of each layer's own deviation, cut at twice that; biases are 0
    """
    network = copy.deepcopy(target.network).requires_grad_(True)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = [layer.weight for layer in layers]
    with torch.enable_grad():
        cells = target.maps(network, target.inputs)
        before = torch.autograd.grad(cells.sum(), weights, allow_unused=True)
        behind = torch.autograd.grad(target.score(network, cells.detach()).sum(), weights, allow_unused=True)
    trunk = [layer for layer, slope in zip(layers, before, strict=True) if slope is not None]
    kept = {"head": len(trunk), "half": len(trunk) // 2, "all": 0}[level]
    drawn = {id(layer) for layer, slope in zip(layers, behind, strict=True) if slope is not None}
    drawn |= {id(layer) for layer in trunk[kept:]}
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        if id(layer) in drawn:
            fresh = torch.empty(layer.weight.shape)
            deviation = layer.weight.detach().std().item() if layer.weight.numel() > 1 else 0.0
            nn.init.trunc_normal_(fresh, std=1, a=-2, b=2, generator=generator)
            with torch.no_grad():
                layer.weight.copy_(fresh * deviation)
                if layer.bias is not None:
                    layer.bias.zero_()
    return network.requires_grad_(False)


def rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float | None:
    """Spearman's, -1 .. 1, of two arrays of one shape, ties at their mean rank; None where one of them is constant."""
    ranks = [rankdata(values, axis=None) for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
