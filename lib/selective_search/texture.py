"""The look of each pixel as small whole numbers: bins of colour and of directed gradients (IJCV 2013, section 3.2).

Texture is the derivative of a Gaussian of standard deviation 1 in eight directions. Opposite directions are the two
signs of one derivative and a diagonal one is a sum of the axes', so two filters serve all eight: the 5 x 5 binomial
derivative (1 4 6 4 1) x (-1 -2 0 2 1), exact in float32, whose smoothing has a variance of 1.

C channels, H W pixels, P = 5 C planes: C of colour, then four derivatives of each channel.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel
from lib.selective_search.scratch import Scratch

_FULL = 3 * 255 * 16  # the filter's response to a step from 0 to 255


def bins(
    planes: NDArray[np.uint8],
    colour_bins: int,
    texture_bins: int,
    texture_range: float,
    scratch: Scratch | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The bin of every pixel in every plane.

    planes        : uint8 (C, H, W)
    colour_bins   : equal bins of 0..255
    texture_bins  : B equal bins of a derivative's size from 0 to `texture_range` times the response to a step from
                    0 to 255 along its direction; what is larger falls into the last
    returns       : uint8 (5 C, H, W); of colour 0..colour_bins-1, of a derivative B-1+b if positive, B-1-b if negative;
                    bool (H, W), whether any derivative of the pixel lies outside bin B-1, as few do in a natural image
    """
    channels, height, width = planes.shape
    scratch = scratch or Scratch()
    out = scratch.take("bins", (5 * channels, height, width), np.uint8)
    textured = scratch.take("textured", (height, width), np.bool_)
    textured[:] = False
    scale = texture_bins / (texture_range * _FULL)
    last, diagonal = np.float32(texture_bins - 1), np.float32(scale / math.sqrt(2))
    _bins(planes, colour_bins, last, np.float32(scale), diagonal, out, textured)
    return out, textured


@kernel
def _bins(planes, colour_bins, last, straight, diagonal, out, textured):  # type: ignore[no-untyped-def]
    channels, height, width = planes.shape
    two = np.float32(2)
    four, six = np.float32(4), np.float32(6)
    # Columns filtered down the image, with two replicated pixels at either end for the filter along the rows.
    blurred, sloped = np.empty(width + 4, np.float32), np.empty(width + 4, np.float32)
    across, down = np.empty(width, np.float32), np.empty(width, np.float32)
    rows = np.empty((5, width), np.float32)
    for c in range(channels):
        for y in range(height):
            for i in range(5):
                source = planes[c, min(max(y + i - 2, 0), height - 1)]
                for x in range(width):
                    rows[i, x] = source[x]
            colour, middle = out[c, y], planes[c, y]
            for x in range(width):
                colour[x] = np.uint16(middle[x] * np.uint16(colour_bins)) >> np.uint16(8)
            r0, r1 = rows[0], rows[1]
            r2 = rows[2]
            r3, r4 = rows[3], rows[4]
            blurred_middle, sloped_middle = blurred[2 : width + 2], sloped[2 : width + 2]
            for x in range(width):
                blurred_middle[x] = (r0[x] + r4[x]) + four * (r1[x] + r3[x]) + six * r2[x]
                sloped_middle[x] = (r4[x] - r0[x]) + two * (r3[x] - r1[x])
            for side in (blurred, sloped):
                side[:2] = side[2]
                side[width + 2 :] = side[width + 1]
            b0, b1 = blurred[:width], blurred[1 : width + 1]
            b3, b4 = blurred[3 : width + 3], blurred[4:]
            s0, s1 = sloped[:width], sloped[1 : width + 1]
            s2 = sloped_middle
            s3, s4 = sloped[3 : width + 3], sloped[4:]
            for x in range(width):
                across[x] = (b4[x] - b0[x]) + two * (b3[x] - b1[x])
                down[x] = (s0[x] + s4[x]) + four * (s1[x] + s3[x]) + six * s2[x]
            first = channels + 4 * c
            o0, o1 = out[first, y], out[first + 1, y]
            o2, o3 = out[first + 2, y], out[first + 3, y]
            for x in range(width):
                o0[x] = _signed_bin(across[x] * straight, last)
                o1[x] = _signed_bin(down[x] * straight, last)
                o2[x] = _signed_bin((across[x] + down[x]) * diagonal, last)
                o3[x] = _signed_bin((across[x] - down[x]) * diagonal, last)
            mark, zero = textured[y], np.uint8(last)
            for x in range(width):
                mark[x] |= (o0[x] != zero) | (o1[x] != zero) | (o2[x] != zero) | (o3[x] != zero)


@kernel
def _signed_bin(value, last):  # type: ignore[no-untyped-def]
    """Cuts towards zero, at the last bin of either sign."""
    whole = np.int32(min(max(value, -last), last))
    return np.uint8(whole + np.int32(last))
