"""What grouping knows of a region: its pixels, its box and its histograms (IJCV 2013, section 3.2).

R regions, H W pixels, C channels, P = 5 C planes of bins from `texture.bins`, B texture bins, K colour bins.
A region's histogram has C K + 8 C B counts: K of each channel's colours, then B of each of the eight directions of
each channel, where a pixel whose derivative points the other way counts in the first bin.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.proposals.compiled import kernel


@dataclass(frozen=True)
class Regions:
    """R regions of one image.

    sizes  : int32 (R,) pixels
    boxes  : int32 (R, 4) x1 y1 x2 y2, half-open
    counts : int32 (R, C K + 8 C B), colours first
    colour : how many of the counts are of colours
    channels : C
    """

    sizes: NDArray[np.int32]
    boxes: NDArray[np.int32]
    counts: NDArray[np.int32]
    colour: int
    channels: int


def describe(
    labels: NDArray[np.int32], count: int, bins: NDArray[np.uint8], colour_bins: int, texture_bins: int
) -> Regions:
    """The regions of a segmentation.

    labels : int32 (H, W), 0 to count-1, none missing
    bins   : uint8 (5 C, H, W)
    """
    channels = bins.shape[0] // 5
    colour = channels * colour_bins
    boxes = np.empty((count, 4), np.int32)
    _boxes(labels, boxes)
    starts = np.concatenate(
        [np.arange(channels) * colour_bins, colour + np.arange(4 * channels) * (2 * texture_bins - 1)]
    ).astype(np.int32)
    signed = np.zeros((count, colour + 4 * channels * (2 * texture_bins - 1)), np.int32)
    sizes = np.zeros(count, np.int32)
    _count(labels, bins, starts, sizes, signed)
    counts = np.empty((count, colour + 8 * channels * texture_bins), np.int32)
    counts[:, :colour] = signed[:, :colour]
    both = signed[:, colour:].reshape(count, 4 * channels, 2 * texture_bins - 1)
    halves = counts[:, colour:].reshape(count, 4 * channels, 2, texture_bins)
    halves[:, :, 0, 1:] = both[:, :, texture_bins:]
    halves[:, :, 1, 1:] = both[:, :, texture_bins - 2 :: -1] if texture_bins > 1 else 0
    halves[..., 0] = sizes[:, None, None] - halves[..., 1:].sum(-1)
    return Regions(sizes, boxes, counts, colour, channels)


@kernel
def _boxes(labels, boxes):  # type: ignore[no-untyped-def]
    height, width = labels.shape
    for i in range(boxes.shape[0]):
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = width, height, 0, 0
    for y in range(height):
        for x in range(width):
            box = boxes[labels[y, x]]
            box[0] = min(box[0], x)
            box[1] = min(box[1], y)
            box[2] = max(box[2], x + 1)
            box[3] = max(box[3], y + 1)


@kernel
def _count(labels, bins, starts, sizes, counts):  # type: ignore[no-untyped-def]
    planes, height, width = bins.shape
    for y in range(height):
        for x in range(width):
            row = counts[labels[y, x]]
            sizes[labels[y, x]] += 1
            for p in range(planes):
                row[starts[p] + bins[p, y, x]] += 1
