"""The colour spaces of selective search (Uijlings et al., IJCV 2013, section 3.2), as 8-bit planes.

Eight bits, because the segmentation of Felzenszwalb and Huttenlocher that the authors call takes 8-bit images. Every
space fills the range 0 to 255. C channels (3, or 1 for hue and intensity), H W pixels.
"""

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel

SPACES = ("hsv", "lab", "rgi", "hue", "intensity")

_CURVE = 8192  # entries of the table of Lab's cube root: off by at most half an 8-bit level


def convert(image: NDArray[np.uint8], space: str) -> NDArray[np.uint8]:
    """An RGB image in one of `SPACES`.

    image   : uint8 (H, W, 3) RGB, contiguous
    space   : "hsv" (all three scaled to 255), "lab" (CIE L*a*b*, D65: L * 2.55, a + 128, b + 128), "rgi" (red and
              green over the sum, and intensity), "hue" (the first channel of hsv), "intensity" (luma, Rec. 601)
    returns : uint8 (C, H, W)
    """
    height, width, _ = image.shape
    planes = np.empty((1 if space in ("hue", "intensity") else 3, height, width), np.uint8)
    if space in ("hsv", "hue"):
        _hsv(image, planes)
    elif space == "lab":
        _lab(image, planes, _LINEAR, _ROOT)
    elif space == "rgi":
        _rgi(image, planes)
    elif space == "intensity":
        _intensity(image, planes)
    else:
        raise ValueError(f"colour space {space!r} is not one of {SPACES}")
    return planes


def _lab_tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """sRGB's linear light of each 8-bit value, and f(t) of CIE L*a*b* for t = i / _CURVE."""
    value = np.arange(256) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = np.arange(_CURVE + 1) / _CURVE
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return linear.astype(np.float32), root.astype(np.float32)


_LINEAR, _ROOT = _lab_tables()


@kernel
def _hsv(image, planes):  # type: ignore[no-untyped-def]
    height, width, _ = image.shape
    full = planes.shape[0] == 3
    for y in range(height):
        for x in range(width):
            red = np.int32(image[y, x, 0])
            green = np.int32(image[y, x, 1])
            blue = np.int32(image[y, x, 2])
            value, low = max(red, green, blue), min(red, green, blue)
            span = value - low
            if value == red:
                sextant, difference = np.int32(0), green - blue
            elif value == green:
                sextant, difference = np.int32(2), blue - red
            else:
                sextant, difference = np.int32(4), red - green
            sixths = np.float32(sextant) + np.float32(difference) / np.float32(max(span, 1))
            sixths = sixths + np.float32(6) if sixths < 0 else sixths
            planes[0, y, x] = np.int32(sixths * np.float32(42.5) + np.float32(0.5))
            if full:
                saturation = np.float32(span) / np.float32(max(value, 1))
                planes[1, y, x] = np.int32(saturation * np.float32(255) + np.float32(0.5))
                planes[2, y, x] = value


@kernel
def _lab(image, planes, linear, root):  # type: ignore[no-untyped-def]
    height, width, _ = image.shape
    steps = np.float32(root.shape[0] - 1)
    half = np.float32(0.5)
    for y in range(height):
        for x in range(width):
            red = linear[image[y, x, 0]]
            green = linear[image[y, x, 1]]
            blue = linear[image[y, x, 2]]
            # sRGB to XYZ over the white point of D65, so that white is (1, 1, 1).
            cx = np.float32(0.433953) * red + np.float32(0.376219) * green + np.float32(0.189828) * blue
            cy = np.float32(0.212671) * red + np.float32(0.715160) * green + np.float32(0.072169) * blue
            cz = np.float32(0.017758) * red + np.float32(0.109477) * green + np.float32(0.872765) * blue
            fx = root[np.int32(min(cx, np.float32(1)) * steps + half)]
            fy = root[np.int32(min(cy, np.float32(1)) * steps + half)]
            fz = root[np.int32(min(cz, np.float32(1)) * steps + half)]
            planes[0, y, x] = np.int32((np.float32(116) * fy - np.float32(16)) * np.float32(2.55) + half)
            planes[1, y, x] = np.int32(np.float32(500) * (fx - fy) + np.float32(128.5))
            planes[2, y, x] = np.int32(np.float32(200) * (fy - fz) + np.float32(128.5))


@kernel
def _rgi(image, planes):  # type: ignore[no-untyped-def]
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            red = np.int32(image[y, x, 0])
            green = np.int32(image[y, x, 1])
            blue = np.int32(image[y, x, 2])
            total = red + green + blue
            scale = np.float32(255) / np.float32(max(total, 1))
            planes[0, y, x] = np.int32(np.float32(red) * scale + np.float32(0.5))
            planes[1, y, x] = np.int32(np.float32(green) * scale + np.float32(0.5))
            planes[2, y, x] = (total + 1) // 3


@kernel
def _intensity(image, planes):  # type: ignore[no-untyped-def]
    height, width, _ = image.shape
    for y in range(height):
        for x in range(width):
            red = np.int32(image[y, x, 0])
            green = np.int32(image[y, x, 1])
            blue = np.int32(image[y, x, 2])
            planes[0, y, x] = (np.int32(299) * red + np.int32(587) * green + np.int32(114) * blue + 500) // 1000
