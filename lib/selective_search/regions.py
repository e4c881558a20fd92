"""What grouping knows of a region: its pixels, its box and its histograms (IJCV 2013, section 3.2).

R regions, H W pixels, C channels, P = 5 C planes of bins from `texture.bins`, B texture bins, K colour bins.
A region's histogram has C K + 8 C B counts: K of each channel's colours, then B of each of the eight directions of
each channel, where a pixel whose derivative points the other way counts in the first bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel
from lib.selective_search.scratch import Scratch


@dataclass(frozen=True)
class Regions:
    """R regions of one image.

    sizes    : int32 (R,) pixels
    boxes    : int32 (R, 4) x1 y1 x2 y2, half-open
    counts   : int32 (R, C K + 8 C B), colours first
    colour   : how many of the counts are of colours, C K
    channels : C
    """

    sizes: NDArray[np.int32]
    boxes: NDArray[np.int32]
    counts: NDArray[np.int32]
    colour: int
    channels: int


def describe(
    labellings: Sequence[NDArray[np.int32]],
    bins: NDArray[np.uint8],
    textured: NDArray[np.bool_],
    colour_bins: int,
    texture_bins: int,
    scratch: Scratch | None = None,
) -> list[Regions]:
    """The regions of several segmentations of one image.

    Pixels are counted once, by cell: the pixels with the same labels in all segmentations. A region is a sum of cells.

    labellings : int32 (H, W) each, labels from 0, none missing
    bins       : uint8 (5 C, H, W), and
    textured   : bool (H, W), from `texture.bins`
    """
    channels = bins.shape[0] // 5
    colour, derivative = channels * colour_bins, 2 * texture_bins - 1
    starts = np.concatenate([np.arange(channels) * colour_bins, colour + np.arange(4 * channels) * derivative])
    scratch = scratch or Scratch()
    cells = scratch.take("cells", labellings[0].shape, np.int32)
    owners = _cells(np.stack(labellings), cells)
    boxes = np.empty((len(owners), 4), np.int32)
    boxes[:] = cells.shape[1], cells.shape[0], 0, 0
    counts = scratch.take("counts", (len(owners), colour + 4 * channels * derivative), np.uint32)
    counts[:] = 0
    sizes = np.zeros(len(owners), np.int32)
    _count(cells, bins, textured, starts.astype(np.uint64), sizes, boxes, counts.reshape(-1))
    regions = []
    for owner in owners.T:
        pixels, box, histograms = _sum(owner, sizes, boxes, counts, colour, 4 * channels, texture_bins)
        regions.append(Regions(pixels, box, histograms, colour, channels))
    return regions


@kernel
def _cells(labellings, cells):  # type: ignore[no-untyped-def]
    """Numbers the combinations of labels; returns int32 (cells, S): the label of each in each segmentation.

    A combination is looked up, in a hash table, only where it changes along a row.
    """
    segmentations, height, width = labellings.shape
    changed = np.zeros((height, width), np.uint8)
    for y in range(height):
        changed[y, 0] = 1
        for s in range(segmentations):
            line = labellings[s, y]
            for x in range(1, width):
                changed[y, x] |= line[x] != line[x - 1]
    runs = changed.sum()
    capacity = 64
    while capacity < 2 * runs:
        capacity *= 2
    table = np.full(capacity, -1, np.int32)
    owners = np.empty((runs, segmentations), np.int32)
    labels = np.empty(segmentations, np.int32)
    count, cell = 0, np.int32(0)
    for y in range(height):
        for x in range(width):
            if changed[y, x]:
                for s in range(segmentations):
                    labels[s] = labellings[s, y, x]
                slot = _slot(labels, owners, table)
                if table[slot] < 0:
                    table[slot] = count
                    owners[count] = labels
                    count += 1
                cell = table[slot]
            cells[y, x] = cell
    return owners[:count].copy()


@kernel
def _slot(labels, owners, table):  # type: ignore[no-untyped-def]
    """The slot of these labels in the hash table, or the free slot where they belong."""
    mix = np.uint64(0)
    for s in range(labels.shape[0]):
        mix = (mix ^ np.uint64(labels[s])) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(mix >> np.uint64(32)) & (table.shape[0] - 1)
    while table[slot] >= 0:
        same = True
        for s in range(labels.shape[0]):
            same &= owners[table[slot], s] == labels[s]
        if same:
            break
        slot = (slot + 1) & (table.shape[0] - 1)
    return slot


@kernel
def _count(cells, bins, textured, starts, sizes, boxes, counts):  # type: ignore[no-untyped-def]
    """Adds the pixels up, a run of one cell after another. Indices are unsigned: no check for negative ones.

    Derivatives in the bin of zero are not counted where a pixel has no other; `_sum` finds their number from the rest.
    """
    planes, height, width = bins.shape
    dims = counts.shape[0] // sizes.shape[0]
    for y in range(height):
        x = 0
        while x < width:
            cell, first = cells[y, x], x
            base = np.uint64(cell * dims)
            while x < width and cells[y, x] == cell:
                for p in range(planes if textured[y, x] else planes // 5):
                    counts[base + starts[p] + np.uint64(bins[p, y, x])] += np.uint32(1)
                x += 1
            sizes[cell] += x - first
            box = boxes[cell]
            box[0], box[1] = min(box[0], first), min(box[1], y)
            box[2], box[3] = max(box[2], x), max(box[3], y + 1)


@kernel
def _sum(owner, sizes, boxes, counts, colour, derivatives, texture_bins):  # type: ignore[no-untyped-def]
    """Sums cells to regions, and splits each derivative's signed bins into its two directions."""
    regions = owner.max() + 1
    signed = np.zeros((regions, counts.shape[1]), np.int32)
    total = np.zeros(regions, np.int32)
    box = np.empty((regions, 4), np.int32)
    box[:, :2] = 0x7FFFFFFF
    box[:, 2:] = 0
    for i in range(owner.shape[0]):
        region = owner[i]
        total[region] += sizes[i]
        for d in range(counts.shape[1]):
            signed[region, d] += np.int32(counts[i, d])
        for d in range(2):
            box[region, d] = min(box[region, d], boxes[i, d])
            box[region, d + 2] = max(box[region, d + 2], boxes[i, d + 2])
    split = np.empty((regions, colour + 2 * derivatives * texture_bins), np.int32)
    for region in range(regions):
        split[region, :colour] = signed[region, :colour]
        for d in range(derivatives):
            zero = colour + d * (2 * texture_bins - 1) + texture_bins - 1
            for side in range(2):
                first = colour + (2 * d + side) * texture_bins
                rest = total[region]
                for b in range(1, texture_bins):
                    value = signed[region, zero + b] if side == 0 else signed[region, zero - b]
                    split[region, first + b] = value
                    rest -= value
                split[region, first] = rest
    return total, box, split
