"""Pooling of regions of a map: Fast R-CNN's grid of maxima (roi_pooling_layer.cu), RoIAlign's grid of means (Mask
R-CNN, He et al. 2017, §3), SPPnet's pyramid (§2.2, appendix A).

On a CPU all run here, in compiled loops over channels-last maps whose innermost step takes a vector of channels at
once; they release the interpreter lock, so that images are pooled side by side. On one core they take a fraction of the
time of torchvision's, which compute the same in the other memory order; threads within a call made them slower.

N images, R regions, C channels, H W cells of a map, g cells a side of the grid, n of a pyramid level.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.boxes.boxes import Boxes
from lib.pooling import kernels

Pooling = Literal["max", "align"]


def pool(maps: Tensor, rois: Tensor, stride: int, first: float, grid: int, pooling: Pooling) -> Tensor:
    """`roi_pool` (max), whose rule knows no `first`, or `roi_align` (align)."""
    return roi_pool(maps, rois, stride, grid) if pooling == "max" else roi_align(maps, rois, stride, first, grid)


def distinct(boxes: Boxes, stride: int, pooling: Pooling) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which regions differ: those that RoI pooling rounds to the same cells have the same features (authors' test.py).

    boxes   : float32 (R, 4) in the scaled image, not negative
    pooling : align rounds nothing: every region counts as different
    returns : int64 rows of the first region of each group, ascending; int64 (R,) the group of each region
    """
    if pooling == "align":
        return np.arange(len(boxes)), np.arange(len(boxes))
    # Inclusive corners, rounded as `roi_pool` does; the four numbers of a region are packed into one of 64 bits.
    corners = (boxes - np.array([0, 0, 1, 1], np.float32)) * np.float32(1 / stride)
    cells = np.floor(corners.astype(np.float64) + 0.5).astype(np.int64).clip(0)
    _, first, group = np.unique(cells @ (np.int64(1) << np.arange(0, 64, 16)), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[group.reshape(-1)]


def roi_pool(maps: Tensor, rois: Tensor, stride: int, grid: int) -> Tensor:
    """The largest value in each cell of a g x g grid laid over each region; differentiable with respect to `maps`.

    maps    : float (N, C, H, W), fastest in channels-last order
    rois    : float32 (R, 5)  index of the image, then x1 y1 x2 y2, half-open, in pixels of the scaled image
    stride  : pixels per cell;  grid : g (alexnet 6, vgg16 7)
    returns : float (R, C, g, g); 0 where a cell of the grid lies outside the map. R may be 0

    The original rule takes inclusive corners, so it rounds `x2 - 1` and `y2 - 1`, half away from zero; an inverted
    region becomes one cell; the grid is laid first and clipped to the map afterwards.
    """
    if maps.device.type != "cpu":
        inclusive = rois.float().clone()
        inclusive[:, 3:] -= 1
        return torchvision.ops.roi_pool(maps.float(), inclusive, grid, 1 / stride).to(maps.dtype)
    pooled: Tensor = _RoiPool.apply(maps.float(), rois.float(), stride, grid)  # type: ignore[no-untyped-call]
    return pooled.to(maps.dtype)


class _RoiPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, rois: Tensor, stride: int, grid: int) -> Tensor:
        cells = _rows(maps)
        regions = np.ascontiguousarray(rois.detach().numpy())
        pooled = np.empty((len(regions), grid, grid, cells.shape[3]), np.float32)
        if not ctx.needs_input_grad[0]:
            kernels.grid_max(cells, regions, np.float32(1 / stride), pooled)
            return torch.from_numpy(pooled).permute(0, 3, 1, 2)
        winners = np.empty(pooled.shape, np.int32)
        kernels.grid_argmax(cells, regions, np.float32(1 / stride), pooled, winners)
        ctx.winners, ctx.shape = winners, cells.shape
        ctx.image = regions[:, 0].astype(np.int64)
        return torch.from_numpy(pooled).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        totals = np.zeros(ctx.shape, np.float32)
        kernels.spread(_rows(gradient), ctx.winners, ctx.image, totals)
        return torch.from_numpy(totals).permute(0, 3, 1, 2), None, None, None


def roi_align(maps: Tensor, rois: Tensor, stride: int, first: float, grid: int, samples: int = 2) -> Tensor:
    """The mean of bilinear samples in each cell of a g x g grid; differentiable with respect to `maps`.

    maps, rois, stride, grid : as `roi_pool` takes them
    first   : pixel on which the centre of the map's first cell lies, half-open: `Backbone.first`
    samples : a side, evenly spaced in the cell of the grid (Mask R-CNN: 4 in all, so 2)
    returns : float (R, C, g, g); R may be 0

    Nothing is rounded: the centre of cell (y, x) lies at pixel (first + x stride, first + y stride). torchvision's
    `aligned=True` has first = stride / 2, half a cell off on a trunk that is padded symmetrically. A sample beyond the
    outermost centres takes the border's value, one more than a cell further is 0.
    """
    rois = torch.cat([rois[:, :1], rois[:, 1:] + (stride / 2 - first)], 1)
    if maps.device.type != "cpu":
        return torchvision.ops.roi_align(maps.float(), rois.float(), grid, 1 / stride, samples, True).to(maps.dtype)
    pooled: Tensor = _RoiAlign.apply(maps.float(), rois.float(), stride, grid, samples)  # type: ignore[no-untyped-call]
    return pooled.to(maps.dtype)


class _RoiAlign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, rois: Tensor, stride: int, grid: int, samples: int) -> Tensor:
        cells = _rows(maps)
        ctx.regions = np.ascontiguousarray(rois.detach().numpy())
        ctx.shape, ctx.scale, ctx.samples = cells.shape, np.float32(1 / stride), samples
        pooled = np.empty((len(ctx.regions), grid, grid, cells.shape[3]), np.float32)
        kernels.align(cells, ctx.regions, ctx.scale, samples, pooled)
        return torch.from_numpy(pooled).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        totals = np.zeros(ctx.shape, np.float32)
        kernels.align_spread(_rows(gradient), ctx.regions, ctx.scale, ctx.samples, totals)
        return torch.from_numpy(totals).permute(0, 3, 1, 2), None, None, None, None


def pyramid_pool(cells: NDArray[Any], windows: NDArray[np.int32], levels: Sequence[int]) -> NDArray[Any]:
    """Each window of a map, pooled into n x n bins for each n of `levels` (paper, appendix A).

    cells   : float16 or float32 (H, W, C), one image's map with its channels last; not NaN. May be memory-mapped: only
              the cells of the windows are read
    windows : int32 (R, 4)  x1 y1 x2 y2 in cells, half-open, inside the map, at least one cell each
    levels  : n of each level, in the order that fc6 expects ([1, 2, 3, 6] in the released net)
    returns : dtype of `cells`, (R, C · Σ n²): level after level; inside one, channel, then row, then column

    Bin i of n along w cells goes from floor(i w / n) to ceil((i + 1) w / n), so bins overlap and none is empty: as in
    `pool_whole`.
    """
    pooled = np.empty((len(windows), cells.shape[2] * sum(n * n for n in levels)), cells.dtype)
    if len(windows) == 0:
        return pooled
    if cells.dtype == np.float16:
        (x1, y1), (x2, y2) = windows[:, :2].min(0).tolist(), windows[:, 2:].max(0).tolist()
        shifted = windows - np.array([[x1, y1, x1, y1]], np.int32)
        return _from_order(pyramid_pool(_to_order(cells[y1:y2, x1:x2]), shifted, levels))
    kernels.pyramid(cells, np.ascontiguousarray(windows, np.int32), np.array(levels, np.int64), pooled)
    return pooled


def pool_whole(maps: Tensor, levels: Sequence[int]) -> Tensor:
    """Whole maps pooled as `pyramid_pool` pools a window that covers them; differentiable.

    maps : float (N, C, H, W);  returns : (N, C · Σ n²)
    """
    return torch.cat([nn.functional.adaptive_max_pool2d(maps, n).flatten(1) for n in levels], 1)


def _to_order(halves: NDArray[np.float16]) -> NDArray[np.int16]:
    """Integers in the order of the halves (-0 before 0): no CPU compares halves, all compare these, 16 at once."""
    bits = halves.view(np.int16)
    return bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))


def _from_order(ordered: NDArray[np.int16]) -> NDArray[np.float16]:
    return (ordered ^ ((ordered >> np.int16(15)) & np.int16(0x7FFF))).view(np.float16)


def _rows(maps: Tensor) -> NDArray[np.float32]:
    """(N, C, H, W) as a contiguous array (N, H, W, C); a copy unless the tensor is channels-last."""
    return np.ascontiguousarray(maps.detach().permute(0, 2, 3, 1).numpy())
