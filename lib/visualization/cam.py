"""Grad-CAM (Selvaraju et al. 2017): which cells of the last map speak for a score.

N inputs, C channels, h w sides of the map.
"""

import torch
from torch import Tensor, nn

from lib.detectors.target import Target


def grad_cam(target: Target, network: nn.Module | None = None) -> Tensor:
    """float32 (N, h, w), at least 0: the channels, each times the mean of the score's slope over it, added up.

    All zeros where nothing in the map speaks for the score. Averaging the slope forgets where it came from: with fully
    connected layers behind the map, a cell that lowers the score can shine.
    """
    network = network or target.network
    with torch.no_grad():
        cells = target.maps(network, target.inputs)
    cells.requires_grad_()
    with torch.enable_grad():
        score = target.score(network, cells.clone())  # a layer that works in place would overwrite the cells
        (slopes,) = torch.autograd.grad(score.sum(), cells)
    return (slopes.mean((2, 3), keepdim=True) * cells.detach()).sum(1).clamp(min=0)
