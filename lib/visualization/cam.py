"""Grad-CAM (Selvaraju et al. 2017): and HiResCAM: which cells of the last map speak for a score.

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
    cells, slopes = _slopes(target, network or target.network)
    return (slopes.mean((2, 3), keepdim=True) * cells).sum(1).clamp(min=0)


def hires_cam(target: Target, network: nn.Module | None = None) -> Tensor:
    """float32 (N, h, w), at least 0: the same without averaging, each cell by its own slope (Draelos and Carin 2020).

    What a detector's score of one region needs: its slopes are 0 outside of the region, which Grad-CAM spreads over the
    whole map, so that other places with the same channels shine. Exact where the score is linear in the map.
    """
    cells, slopes = _slopes(target, network or target.network)
    return (slopes * cells).sum(1).clamp(min=0)


def _slopes(target: Target, network: nn.Module) -> tuple[Tensor, Tensor]:
    """The last map, and the score's slope at each of its values, float32 (N, C, h, w) both."""
    with torch.no_grad():
        cells = target.maps(network, target.inputs).clone()
    cells.requires_grad_()
    with torch.enable_grad():
        score = target.score(network, cells.clone())  # a layer that works in place would overwrite the cells
        (slopes,) = torch.autograd.grad(score.sum(), cells)
    return cells.detach(), slopes
