"""The image at the size that a detector looks at, as its trunk's input (SPPnet §4; Fast R-CNN §5.2, utils/blob.py).

Boxes follow by the same factors and are not rounded. R boxes, L levels of a pyramid, H and W sides of a scaled image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lib.backbones.backbones import Recipe
from lib.backbones.device import Device
from lib.boxes.boxes import Boxes
from lib.stage.params import Settings

LEAST_SIDE = 16  # of a square, pixels: a cell of the trunk's map
CANONICAL_SIDE = 224  # of ImageNet's crops: the region size that pre-trained layers were trained on


@dataclass(frozen=True)
class View:
    """How one image is seen at one size; made by `Scale.view` and `Square.view`.

    x, y : what its axes are multiplied by;  width, height : of the scaled image, pixels, at least 1
    """

    x: float
    y: float
    width: int
    height: int

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H0, W0, 3) -> uint8 (height, width, 3), bilinear; the image itself where both factors are 1."""
        if self.x == self.y:
            return resize(image, self.x)
        return np.asarray(cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def boxes(self, boxes: Boxes) -> Boxes:
        """float32 (R, 4) in pixels of the image -> the same boxes in pixels of the scaled image."""
        return np.asarray(boxes * self._factors(), np.float32)

    def original(self, boxes: Boxes) -> Boxes:
        """float32 (R, 4) in pixels of the scaled image -> in pixels of the image. Not clipped, though the
        scaled sides were rounded."""
        return np.asarray(boxes / self._factors(), np.float32)

    def _factors(self) -> NDArray[np.float32]:
        return np.array([self.x, self.y, self.x, self.y], np.float32)


class Scale(Settings):
    """The size at which a detector sees its images.

    short_side : pixels that the shorter side becomes; several make a pyramid (Fast R-CNN: 600; SPPnet, §5.2: 5 sizes)
    max_side   : pixels that the longer side may have; a longer one sets the factor (Fast R-CNN: 1000; pyramid 2000)
    """

    short_side: list[int] = Field(min_length=1)
    max_side: int = Field(ge=16)

    def factors(self, width: int, height: int) -> list[float]:
        """`factor` of each level for one image."""
        return [factor(width, height, short, self.max_side) for short in self.short_side]

    def view(self, width: int, height: int) -> View:
        """How an image of this size is seen, by one factor. Raises ValueError where there are several sizes."""
        if len(self.short_side) != 1:
            raise ValueError(f"short_side is {self.short_side}, where one size is wanted")
        ratio = self.factors(width, height)[0]
        return View(ratio, ratio, max(round(width * ratio), 1), max(round(height * ratio), 1))


class Square(Settings):
    """A detector that sees every image as a square, its aspect ratio not kept, and so has maps of one size.

    side : pixels (SSD: 300, 512; YOLO: 448)
    """

    side: int = Field(ge=LEAST_SIDE)

    def view(self, width: int, height: int) -> View:
        """How an image of this size is seen, by a factor for each axis."""
        return View(self.side / width, self.side / height, self.side, self.side)


Sizing = Scale | Square


def restore(contents: Mapping[str, Any]) -> Sizing:
    """The `Scale` or the `Square` whose `model_dump` a file holds; their keys tell which it is."""
    return Square(**contents) if "side" in contents else Scale(**contents)


def factor(width: int, height: int, short: int, max_side: int) -> float:
    """What both sides of an image are multiplied by.

    width, height : of the image, pixels;  short : what its shorter side becomes, unless the longer one, rounded,
    would be above `max_side`; then that is what the longer side becomes (VOC's 500 x 375: 1.6 for 600 and 1000)
    """
    ratio = short / min(width, height)
    return max_side / max(width, height) if round(ratio * max(width, height)) > max_side else ratio


def resize(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """The image scaled bilinearly by OpenCV, which rounds the sides (torch's interpolate would round them down).

    image : uint8 (H0, W0, 3);  returns : uint8 (H, W, 3), each side at least 1 pixel
    """
    if factor == 1:
        return image
    sides = [round(side * factor) for side in image.shape[1::-1]]
    if min(sides) < 1:
        return np.asarray(cv2.resize(image, [max(side, 1) for side in sides]), np.uint8)
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)


def to_input(image: NDArray[np.uint8], recipe: Recipe, device: Device) -> Tensor:
    """uint8 (H, W, 3) RGB -> float32 (1, 3, H, W) as the weights want it, channels-last, on the device."""
    return recipe(device.put(image).permute(2, 0, 1)[None])


def choose_level(boxes: Boxes, factors: Sequence[float]) -> NDArray[np.int64]:
    """The level at which each box is nearest in area to 224 x 224 pixels; ties go to the first (SPPnet §4.1).

    boxes   : float32 (R, 4) in pixels of the image, half-open;  factors : L numbers
    returns : int64 (R,) in 0 .. L-1
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    areas = np.prod(sides, axis=1)[:, None] * np.square(np.asarray(factors, np.float64))[None]
    return np.abs(areas - CANONICAL_SIDE**2).argmin(axis=1)
