"""R-CNN's crops: a box with some context around it, warped to a square (R-CNN paper §2.1 and appendix A).

Follows the authors' rcnn_im_crop.m number by number, including its half-pixel bias to the right and bottom, which
training and test share. `warp` cuts on a CPU; a GPU cuts what `Uncut` describes, by `sample`.
R boxes, S side of the square in pixels, H W sides of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.boxes.boxes import Boxes, to_voc

Shape = Literal["warp", "square"]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Placement:
    """Where the pixels of each crop come from and go to.

    source  : int64 (R, 4) x1 y1 x2 y2 in image pixels, 0-based, half-open, inside the image
    covered : int64 (R, 4) x1 y1 x2 y2 in crop pixels, half-open: the part of the square that holds image pixels
    """

    source: Ints
    covered: Ints


def place(boxes: Boxes, width: int, height: int, side: int, context: float, shape: Shape = "warp") -> Placement:
    """The geometry of the crops (facts of rcnn_im_crop.m, steps 1 to 10).

    boxes   : float32 (R, 4) half-open, inside the image
    context : border of context in pixels of a crop of side 227 (the paper's 16); it scales with `side`
    shape   : warp stretches each axis by itself; square first grows the shorter side of the box
    """
    scale = 227 / (227 - 2 * context)
    corners = to_voc(boxes)  # the authors' 1-based, inclusive corners
    low, high = corners[:, :2], corners[:, 2:]
    limit = np.array([width, height], np.float64)
    if context == 0 and shape == "warp":
        first, last = np.clip(_round(low), 1, limit), np.minimum(_round(high), limit)
        covered = np.broadcast_to(np.array([0, 0, side, side]), (len(corners), 4)).astype(np.int64)
        return Placement(np.hstack([first - 1, np.maximum(last, first)]).astype(np.int64), covered)
    half = (high - low + 1) / 2
    centre = low + half
    if shape == "square":
        half = np.broadcast_to(half.max(axis=1, keepdims=True), half.shape)
    first, last = _round(centre - half * scale), _round(centre + half * scale)
    unclipped = last - first + 1
    pad = np.maximum(0, 1 - first)
    first, last = np.clip(first, 1, limit), np.minimum(last, limit)
    stretch = side / unclipped
    pad = np.minimum(_round(pad * stretch), side - 1)
    size = np.maximum(_round((last - first + 1) * stretch), 1)
    size = np.minimum(size, side - pad)
    return Placement(
        np.hstack([first - 1, np.maximum(last, first)]).astype(np.int64), np.hstack([pad, pad + size]).astype(np.int64)
    )


def _round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half away from zero, as MATLAB and C round; numpy rounds half to even."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


@dataclass(frozen=True)
class Crops:
    """A batch of warped regions before normalisation.

    pixels  : uint8 (R, S, S, 3) RGB; what `covered` leaves out is undefined
    covered : int64 (R, 4) as in `Placement`
    """

    pixels: NDArray[np.uint8]
    covered: Ints

    def mirrored(self, which: NDArray[np.bool_]) -> "Crops":
        """The crops with those in `which`, bool (R,), flipped left to right."""
        pixels, covered = self.pixels.copy(), self.covered.copy()
        pixels[which] = pixels[which][:, :, ::-1]
        covered[which, 0::2] = pixels.shape[2] - self.covered[which][:, 2::-2]
        return Crops(pixels, covered)

    @staticmethod
    def concatenate(parts: list["Crops"]) -> "Crops":
        """Several batches as one."""
        return Crops(np.concatenate([part.pixels for part in parts]), np.concatenate([part.covered for part in parts]))

    def gaps(self) -> list[tuple[int, int, int, int, int]]:
        """The rectangles (crop, y1, y2, x1, x2) without image pixels, which normalisation fills with the mean."""
        side = self.pixels.shape[1]
        rectangles = []
        for crop in np.flatnonzero((self.covered != (0, 0, side, side)).any(axis=1)).tolist():
            x1, y1, x2, y2 = self.covered[crop].tolist()
            for gap in ((0, y1, 0, side), (y2, side, 0, side), (y1, y2, 0, x1), (y1, y2, x2, side)):
                if gap[1] > gap[0] and gap[3] > gap[2]:
                    rectangles.append((crop, *gap))
        return rectangles

    def normalised(self, recipe: Callable[[Tensor], Tensor], put: Callable[[NDArray[Any]], Tensor]) -> Tensor:
        """float32 (R, 3, S, S), channels-last, as a network takes them; gaps are exactly 0, the mean.

        recipe : of the network's weights;  put : onto its device
        """
        inputs = recipe(put(self.pixels).permute(0, 3, 1, 2))
        for crop, y1, y2, x1, x2 in self.gaps():
            inputs[crop, :, y1:y2, x1:x2] = 0
        return inputs


def warp(image: NDArray[np.uint8], boxes: Boxes, side: int, context: float, shape: Shape = "warp") -> Crops:
    """The crops of one image: bilinear without antialiasing, pixel centres at half coordinates.

    image : uint8 (H, W, 3);  boxes : float32 (R, 4) inside it;  other arguments as in `place`
    """
    placement = place(boxes, image.shape[1], image.shape[0], side, context, shape)
    pixels = np.empty((len(placement.source), side, side, 3), np.uint8)
    for crop, (sx1, sy1, sx2, sy2), (x1, y1, x2, y2) in zip(
        pixels, placement.source.tolist(), placement.covered.tolist(), strict=True
    ):
        source = image[sy1:sy2, sx1:sx2]
        if (x1, y1, x2, y2) == (0, 0, side, side):
            cv2.resize(source, (side, side), dst=crop, interpolation=cv2.INTER_LINEAR)
        else:
            crop[y1:y2, x1:x2] = cv2.resize(source, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    return Crops(pixels, placement.covered)


@dataclass(frozen=True)
class Uncut:
    """An image and where the pixels of its crops are in it, for a device that cuts them itself.

    image  : uint8 (H, W, 3) RGB
    points : float32 (R, 2, S): x of each column of the crop and y of each row, where -1 and 1 are the outer edges of
             the image; 2 where the crop holds no image pixels
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float32]


def uncut(image: NDArray[np.uint8], boxes: Boxes, side: int, context: float, shape: Shape = "warp") -> Uncut:
    """What `warp` would cut, arguments as there: the same points, each inside the crop's own source rectangle."""
    sides = np.array([image.shape[1], image.shape[0]], np.float64)
    placement = place(boxes, image.shape[1], image.shape[0], side, context, shape)
    low, high = (placement.source[:, edges, None].astype(np.float64) for edges in (slice(2), slice(2, 4)))
    first, end = (placement.covered[:, edges, None] for edges in (slice(2), slice(2, 4)))
    cells = np.arange(side)[None, None]
    pixels = np.clip(low + (cells - first + 0.5) * (high - low) / (end - first) - 0.5, low, high - 1)
    points = (2 * pixels + 1) / sides[None, :, None] - 1
    return Uncut(image, np.where((cells >= first) & (cells < end), points, 2).astype(np.float32))


def sample(image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Some crops of one image, all at once, within 1 of those that OpenCV cuts with its weights of 11 bits.

    image   : float32 (3, H, W) 0 .. 255;  points : float32 (N, 2, S) of `Uncut`, on the same device
    returns : uint8 (N, 3, S, S), channels-last; bool (N, 1, S, S), where a crop holds no image pixels and is undefined
    """
    count, _, side = points.shape
    columns, rows = points[:, 0, None, :], points[:, 1, :, None]
    grid = torch.stack(torch.broadcast_tensors(columns, rows), dim=3)
    crops = torch.nn.functional.grid_sample(
        image[None], grid.view(1, count * side, side, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    crops = crops.add_(0.5).to(torch.uint8).view(3, count, side, side).permute(1, 2, 3, 0).contiguous()
    return crops.permute(0, 3, 1, 2), ((columns > 1) | (rows > 1))[:, None]
