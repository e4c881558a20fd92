"""What the pixels look like, as small whole numbers: bins of colour and of directed gradients (IJCV 2013, section 3.2).

Texture is the derivative of a Gaussian of standard deviation 1 in eight directions. Opposite directions are the two
signs of one derivative and a diagonal one is a sum of the axes', so two filters serve all eight: the 5 x 5 binomial
derivative (1 4 6 4 1) x (-1 -2 0 2 1), exact in 16-bit integers, whose smoothing has a variance of 1.

C channels, H W pixels, P = 5 C planes: C of colour, then four derivatives of each channel.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lib.proposals.compiled import kernel

_FULL = 3 * 255 * 16  # the filter's response to a step from 0 to 255


def bins(
    planes: NDArray[np.uint8], colour_bins: int, texture_bins: int, texture_range: float
) -> NDArray[np.uint8]:
    """The bin of every pixel in every plane.

    planes        : uint8 (C, H, W)
    colour_bins   : equal bins of 0..255
    texture_bins  : B equal bins of a derivative's size from 0 to `texture_range` times the response to a step from
                    0 to 255 along its direction; what is larger falls into the last
    returns       : uint8 (5 C, H, W); of colour 0..colour_bins-1, of a derivative B-1+b if positive, B-1-b if negative
    """
    channels, height, width = planes.shape
    out = np.empty((5 * channels, height, width), np.uint8)
    straight = texture_bins * 65536 / (texture_range * _FULL)
    _bins(planes, colour_bins, texture_bins, np.int32(straight), np.int32(straight / math.sqrt(2)), out)
    return out


@kernel
def _bins(planes, colour_bins, texture_bins, straight, diagonal, out):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    last = np.int32(texture_bins - 1)
    # Columns filtered down the image, with two replicated pixels at either end for the filter along the rows.
    blurred, sloped = np.empty(width + 4, np.int16), np.empty(width + 4, np.int16)
    for c in range(channels):
        for y in range(height):
            r0, r1, r2 = planes[c, max(y - 2, 0)], planes[c, max(y - 1, 0)], planes[c, y]
            r3, r4 = planes[c, min(y + 1, height - 1)], planes[c, min(y + 2, height - 1)]
            colour = out[c, y]
            for x in range(width):
                colour[x] = np.int32(r2[x]) * np.int32(colour_bins) >> 8
                blurred[x + 2] = r0[x] + 4 * r1[x] + 6 * r2[x] + 4 * r3[x] + r4[x]
                sloped[x + 2] = np.int32(r4[x]) + 2 * np.int32(r3[x]) - 2 * np.int32(r1[x]) - np.int32(r0[x])
            for side in (blurred, sloped):
                side[:2] = side[2]
                side[width + 2 :] = side[width + 1]
            for x in range(width):
                across = (np.int32(blurred[x + 4]) + 2 * np.int32(blurred[x + 3])
                          - 2 * np.int32(blurred[x + 1]) - np.int32(blurred[x]))
                down = (np.int32(sloped[x]) + 4 * np.int32(sloped[x + 1]) + 6 * np.int32(sloped[x + 2])
                        + 4 * np.int32(sloped[x + 3]) + np.int32(sloped[x + 4]))
                first = channels + 4 * c
                out[first, y, x] = _signed_bin(across, straight, last)
                out[first + 1, y, x] = _signed_bin(down, straight, last)
                out[first + 2, y, x] = _signed_bin(across + down, diagonal, last)
                out[first + 3, y, x] = _signed_bin(across - down, diagonal, last)


@kernel
def _signed_bin(value, scale, last):  # type: ignore[no-untyped-def]
    size = min(abs(value) * scale >> 16, last)
    return last + size if value > 0 else last - size
