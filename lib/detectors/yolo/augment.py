"""YOLO's augmentation (Redmon et al. 2016, §2.2; Darknet's data.c): shifted and stretched crops, colours in HSV."""

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.scaling import Sizing
from lib.boxes.boxes import clip
from lib.detectors.dense.augment import Example, ImageAugmentation, mirrored, moved, tone

HUES = 180  # of OpenCV's circle, 2 degrees each


class Jitter(ImageAugmentation):
    """Steps in this order, each on every image.

    jitter               : each border moves in or out by up to this share of the side (paper, code: 0.2)
    mirror               : probability of mirroring (code: 0.5)
    hue                  : largest shift, in turns of the circle (paper: 0; Darknet: 0.1)
    saturation, exposure : largest factor of saturation and of value, or its inverse (paper: 1.5)
    """

    jitter: float = Field(ge=0, lt=0.5)
    mirror: float = Field(ge=0, le=1)
    hue: float = Field(ge=0, le=0.5)
    saturation: float = Field(ge=1)
    exposure: float = Field(ge=1)

    def __call__(
        self, example: Example, scale: Sizing, fill: tuple[float, ...], random: np.random.Generator
    ) -> Example:
        """See `ImageAugmentation`."""
        cutting, mirroring, colouring = random.spawn(3)
        example = jittered(example, self.jitter, fill, cutting)
        view = scale.view(example.image.shape[1], example.image.shape[0])
        example = example._replace(image=view.image(example.image), boxes=view.boxes(example.boxes))
        if mirroring.random() < self.mirror:
            example = mirrored(example)
        return example._replace(image=coloured(example.image, self, colouring))


def jittered(example: Example, share: float, fill: tuple[float, ...], random: np.random.Generator) -> Example:
    """A crop whose sides are 1 - 2·share to 1 + 2·share of the image's; `fill` where it reaches beyond the image.

    What is left of an object stays, however little, with its label; K may become 0.
    """
    height, width = example.image.shape[:2]
    reach = np.array([width, height, width, height]) * share
    left, top, right, bottom = (int(random.integers(-most, most + 1)) for most in reach.astype(int))
    sides = height - top - bottom, width - left - right
    image = np.empty((*sides, 3), np.uint8)
    image[:] = np.rint(fill).astype(np.uint8)
    inside = example.image[max(top, 0) : height - max(bottom, 0), max(left, 0) : width - max(right, 0)]
    down, along = max(-top, 0), max(-left, 0)
    image[down : down + inside.shape[0], along : along + inside.shape[1]] = inside
    boxes = clip(moved(example.boxes, -left, -top), sides[1], sides[0])
    stays = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Example(image, boxes[stays], example.labels[stays])


def coloured(image: NDArray[np.uint8], settings: Jitter, random: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB: hue shifted, saturation and value multiplied, both cut to 255."""
    shift = random.uniform(-settings.hue, settings.hue) * HUES
    factors = [_factor(largest, random) for largest in (settings.saturation, settings.exposure)]
    if shift == 0 and factors == [1, 1]:
        return image
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(shift)) % HUES
    hsv[..., 1], hsv[..., 2] = (tone(hsv[..., channel], factor, 0) for channel, factor in enumerate(factors, 1))
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _factor(largest: float, random: np.random.Generator) -> float:
    """Uniform in 1 to `largest`, or the inverse of such a number: a coin decides."""
    drawn = float(random.uniform(1, largest))
    return drawn if random.random() < 0.5 else 1 / drawn
