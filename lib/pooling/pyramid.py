"""From a window of an image to the cells of the trunk's map that it covers (SPPnet §4, appendix A; authors' spm_pool).

Where the cells' centres lie follows from the trunk's layers and the length of the input, so any trunk may be used.

R windows, L scales, C channels, H W cells of a map. W0, H0: sides of the image, of which m is the shorter; s: the
length of m at some scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from lib.backbones import scaling
from lib.backbones.backbones import Recipe
from lib.backbones.device import Device
from lib.boxes.boxes import Boxes
from lib.pooling.roi import pyramid_pool
from lib.stage.params import Settings


class Window(Settings):
    """Block `spp.window`: which scale, and which cells of its map, stand for a window.

    side    : pixels that the scaled window should measure (paper: 224; authors' code: 13 · 16 = 208)
    nearest : area: the scale at which its number of pixels is nearest side² (paper); scale: the one that is nearest to
              the ideal scale, rounded (authors' code)
    slack   : pixels of the scaled image by which a window is enlarged on each side before a cell's centre must lie
              strictly inside (paper: 0; authors' code: 16 / 2 - 6.5 = 1.5)
    """

    side: float = Field(gt=0)
    nearest: Literal["area", "scale"]
    slack: float = Field(ge=0)


@dataclass(frozen=True)
class Axis:
    """A map's cells along x or y: `cells` of them, the first centred at pixel `first` (0-based), `stride` apart."""

    cells: int
    first: float
    stride: int


@dataclass(frozen=True)
class Map:
    """The trunk's map of one image at one scale.

    values : float16 (H, W, C), channels last, perhaps memory-mapped;  x, y : where its cells lie in the scaled image
    """

    values: NDArray[np.float16]
    x: Axis
    y: Axis


def axis(trunk: nn.Module, length: int) -> Axis:
    """How a trunk's layers lay their cells along a side of `length` pixels.

    A layer of kernel k and padding p puts its first centre (k - 1) / 2 - p cells of its input behind the input's first.
    TensorFlow's padding, which EfficientNet keeps, depends on the length: odd and even sides differ, so there is no
    constant. Shortcuts (`downsample`) have the centres of the layers that they bypass.
    """
    cells, first = length, 0.0
    stride = 1
    for name, layer in trunk.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.MaxPool2d) or "downsample" in name:
            continue
        kernel, step = _along(layer.kernel_size), _along(layer.stride)
        pad = _along(layer.padding)
        if type(layer).__name__ == "Conv2dSame":  # timm's; by name, since importing timm takes seconds
            total = max((-(-cells // step) - 1) * step + kernel - cells, 0)
            cells, before = -(-cells // step), total // 2
        else:
            rest = cells + 2 * pad - kernel
            up = isinstance(layer, nn.MaxPool2d) and layer.ceil_mode
            cells, before = (-(-rest // step) if up else rest // step) + 1, pad
        first += stride * ((kernel - 1) / 2 - before)
        stride *= step
    return Axis(cells, first, stride)


def _along(value: Any) -> int:
    """A layer's size, step or padding along one axis; our trunks have the same along both."""
    return int(value[0] if isinstance(value, tuple) else value)


def scaled_sides(width: int, height: int, short: int) -> tuple[int, int]:
    """Width and height of an image whose shorter side becomes `short`; there is no limit to the longer one (§4.1)."""
    factor = short / min(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def scaled(image: NDArray[np.uint8], short: int) -> NDArray[np.uint8]:
    """The image, uint8 (H0, W0, 3), with a shorter side of `short` pixels."""
    return scaling.resize(image, short / min(image.shape[:2]))


def compute_maps(
    trunk: nn.Module, levels: Sequence[NDArray[np.uint8]], recipe: Recipe, device: Device
) -> list[Map]:
    """A pass of the trunk over the whole image at each scale, alone and without padding.

    trunk : in evaluation mode, on the device;  levels : uint8 (H, W, 3) RGB, the image `scaled`
    """
    limit, halves = float(np.finfo(np.float16).max), {}
    with torch.inference_mode(), device.autocast():
        for number, pixels in enumerate(levels):
            values = trunk(scaling.to_input(pixels, recipe, device))[0].float()
            halves[str(number)] = values.clamp(-limit, limit).half().permute(1, 2, 0).contiguous()
        arrays = device.fetch(halves).values()
    return [_located(trunk, values, pixels) for values, pixels in zip(arrays, levels, strict=True)]


def _located(trunk: nn.Module, values: NDArray[np.float16], pixels: NDArray[np.uint8]) -> Map:
    x, y = axis(trunk, pixels.shape[1]), axis(trunk, pixels.shape[0])
    if values.shape[:2] != (y.cells, x.cells):
        expected = f"expected {(y.cells, x.cells)}"
        raise ValueError(f"the trunk made {values.shape[:2]} cells of {pixels.shape[:2]} pixels, {expected}")
    return Map(values, x, y)


def compute_map(trunk: nn.Module, pixels: NDArray[np.uint8], recipe: Recipe, device: Device) -> Map:
    """`compute_maps` at one scale."""
    return compute_maps(trunk, [pixels], recipe, device)[0]


def choose_scale(boxes: Boxes, sides: tuple[int, int], scales: Sequence[int], window: Window) -> NDArray[np.int64]:
    """The scale at which each window is seen; ties go to the first.

    boxes  : float32 (R, 4) in the image, half-open;  sides : W0, H0;  scales : L lengths of the shorter side, pixels
    returns : int64 (R,) in 0 .. L-1
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    area = np.maximum(np.prod(corners[:, 2:] - corners[:, :2], axis=1), 1e-6)[:, None]
    candidates = np.array(scales, np.float64)[None]
    if window.nearest == "area":
        return np.abs(area * (candidates / min(sides)) ** 2 - window.side**2).argmin(axis=1)
    ideal = np.floor(window.side * min(sides) / np.sqrt(area) + 0.5)
    return np.abs(candidates - ideal).argmin(axis=1)


def covered(low: NDArray[np.float64], high: NDArray[np.float64], along: Axis, slack: float) -> tuple[
    NDArray[np.int32], NDArray[np.int32]
]:
    """The cells of one axis whose centres lie strictly inside the window enlarged by `slack` (spm_response_boxes.m).

    low, high : float64 (R,) first and last pixel, 0-based, both inside the window
    returns   : first cell and the one behind the last. Where there is none: the middle of the two, rounded towards 0 in
                the authors' 1-based cells. Then clipped to the map, so there is always at least one
    """
    offset = along.stride / 2 - slack
    first = np.floor((low - along.first + offset) / along.stride + 0.5) + 1
    last = np.ceil((high - along.first - offset) / along.stride - 0.5) + 1
    middle = np.trunc((first + last) / 2)
    empty = first > last
    first, last = (np.clip(np.where(empty, middle, edge), 1, along.cells) for edge in (first, last))
    return (first - 1).astype(np.int32), last.astype(np.int32)


def to_cells(boxes: Boxes, sides: tuple[int, int], short: int, x: Axis, y: Axis, slack: float) -> NDArray[np.int32]:
    """The windows of an image in cells of its map at one scale.

    boxes   : float32 (R, 4) in the image, half-open;  sides : W0, H0;  short : s
    returns : int32 (R, 4) x1 y1 x2 y2, half-open, inside the map, at least one cell

    Both axes are stretched by (s - 1) / (m - 1), which takes the first pixel to the first and the last to the last.
    """
    factor = (short - 1) / max(min(sides) - 1, 1)
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
    corners[:, 2:] -= factor
    x1, x2 = covered(corners[:, 0], corners[:, 2], x, slack)
    y1, y2 = covered(corners[:, 1], corners[:, 3], y, slack)
    return np.stack([x1, y1, x2, y2], axis=1)


def pool_windows(
    maps: Sequence[Map], boxes: Boxes, sides: tuple[int, int], scales: Sequence[int], scale_of: NDArray[np.int64],
    window: Window, levels: Sequence[int],
) -> NDArray[np.float16]:
    """The pooled rows of the windows of one image, each from the map of its own scale.

    maps     : of the image at each of `scales`;  scale_of : int64 (R,) in 0 .. L-1, from `choose_scale`
    returns  : float16 (R, C · Σ n²) as `pyramid_pool`
    """
    rows = np.empty((len(boxes), maps[0].values.shape[2] * sum(n * n for n in levels)), np.float16)
    for scale in np.unique(scale_of):
        at_scale, source = scale_of == scale, maps[scale]
        cells = to_cells(boxes[at_scale], sides, scales[scale], source.x, source.y, window.slack)
        rows[at_scale] = pyramid_pool(source.values, cells, levels)
    return rows
