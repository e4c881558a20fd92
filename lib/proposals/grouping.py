"""Hierarchical grouping (Uijlings et al., IJCV 2013, algorithm 1): join the two most similar neighbours until one is left.

R first regions, A = 2 R - 1 regions in the whole hierarchy, D counts of a histogram. Similarities of colour and of
texture are the overlaps of normalised histograms; those of size and of fill favour small regions and ones that fit
into each other (section 3.2). Each lies in [0, 1] and the chosen ones are added.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lib.proposals.compiled import kernel
from lib.proposals.regions import Regions

MEASURES = "CTSF"  # colour, texture, size, fill

# Shares of a histogram are whole numbers out of this, so that a sum of minima is exact in any order and can be
# vectorised without fastmath.
_WHOLE = 32767


def group(regions: Regions, pairs: NDArray[np.int32], strategies: Iterable[str], area: int) -> list[NDArray[np.int32]]:
    """The boxes of every region that grouping passes through, one hierarchy for each strategy.

    pairs      : int32 (P, 2) first regions that touch, each pair once
    strategies : which of `MEASURES` to add, for example "CTSF" or "TSF"
    area       : pixels of the image
    returns    : for each strategy int32 (A, 4) x1 y1 x2 y2, half-open: the first regions, then the joined ones in the
                 order of joining; the last is the whole image if the regions are connected. A equal similarity goes
                 to the pair with the lower numbers.
    """
    hierarchies = []
    for strategy in strategies:
        use = np.array([measure in strategy for measure in MEASURES])
        hierarchies.append(
            _group(regions.sizes, regions.boxes, regions.counts, regions.colour, regions.channels, pairs, use, np.float32(area))
        )
    return hierarchies


@kernel
def _overlap(shares, a, b, first, last):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for i in range(first, last):
        total += min(shares[a, i], shares[b, i])
    return np.float32(total)


@kernel
def _similarity(shares, sizes, boxes, a, b, colour, channels, use, area):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    if use[0]:
        unit = np.float32(1) / np.float32(channels * _WHOLE)
        total += _overlap(shares, a, b, 0, colour) * unit
    if use[1]:
        unit = np.float32(1) / np.float32(8 * channels * _WHOLE)
        total += _overlap(shares, a, b, colour, shares.shape[1]) * unit
    both = np.float32(sizes[a] + sizes[b])
    if use[2]:
        total += np.float32(1) - both / area
    if use[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        total += np.float32(1) - (np.float32(width * height) - both) / area
    return total


@kernel
def _before(heap_value, heap_pair, i, j):  # type: ignore[no-untyped-def]
    if heap_value[i] != heap_value[j]:
        return heap_value[i] > heap_value[j]
    return heap_pair[i] < heap_pair[j]


@kernel
def _swap(heap_value, heap_pair, i, j):  # type: ignore[no-untyped-def]
    heap_value[i], heap_value[j] = heap_value[j], heap_value[i]
    heap_pair[i], heap_pair[j] = heap_pair[j], heap_pair[i]


@kernel
def _push(heap_value, heap_pair, count, value, a, b):  # type: ignore[no-untyped-def]
    heap_value[count] = value
    heap_pair[count] = (np.int64(a) << 32) + b
    i = count
    while i > 0 and _before(heap_value, heap_pair, i, (i - 1) >> 1):
        _swap(heap_value, heap_pair, i, (i - 1) >> 1)
        i = (i - 1) >> 1


@kernel
def _sink(heap_value, heap_pair, count, i):  # type: ignore[no-untyped-def]
    while True:
        child = 2 * i + 1
        if child >= count:
            return
        if child + 1 < count and _before(heap_value, heap_pair, child + 1, child):
            child += 1
        if _before(heap_value, heap_pair, i, child):
            return
        _swap(heap_value, heap_pair, i, child)
        i = child


@kernel
def _current(joined, region):  # type: ignore[no-untyped-def]
    while joined[region] != region:
        joined[region] = joined[joined[region]]
        region = joined[region]
    return region


@kernel
def _group(first_sizes, first_boxes, first_counts, colour, channels, pairs, use, area):  # type: ignore[no-untyped-def]
    regions, dims = first_counts.shape
    total = 2 * regions - 1
    sizes, boxes = np.empty(total, np.int32), np.empty((total, 4), np.int32)
    counts, shares = np.empty((total, dims), np.int32), np.empty((total, dims), np.int16)
    sizes[:regions], boxes[:regions], counts[:regions] = first_sizes, first_boxes, first_counts
    joined = np.arange(total)
    met = np.full(total, -1, np.int32)
    # A region's neighbours: a chain of links, two for each pair. Joining two regions joins their chains.
    head, tail = np.full(total, -1, np.int32), np.full(total, -1, np.int32)
    link, target = np.full(2 * pairs.shape[0], -1, np.int32), np.empty(2 * pairs.shape[0], np.int32)
    capacity = 4 * pairs.shape[0] + 64
    heap_value, heap_pair, waiting = np.empty(capacity, np.float32), np.empty(capacity, np.int64), 0
    for region in range(regions):
        scale = np.float32(_WHOLE) / np.float32(sizes[region])
        for i in range(dims):
            shares[region, i] = np.int16(np.float32(counts[region, i]) * scale)
    for i in range(pairs.shape[0]):
        a, b = pairs[i, 0], pairs[i, 1]
        for end in range(2):
            here, there = (a, b) if end == 0 else (b, a)
            node = 2 * i + end
            target[node] = there
            if head[here] < 0:
                head[here] = node
            else:
                link[tail[here]] = node
            tail[here] = node
        value = _similarity(shares, sizes, boxes, a, b, colour, channels, use, area)
        _push(heap_value, heap_pair, waiting, value, a, b)
        waiting += 1
    new = regions
    while waiting > 0:
        a, b = np.int32(heap_pair[0] >> 32), np.int32(heap_pair[0] & 0x7FFFFFFF)
        waiting -= 1
        heap_value[0], heap_pair[0] = heap_value[waiting], heap_pair[waiting]
        _sink(heap_value, heap_pair, waiting, 0)
        if joined[a] != a or joined[b] != b:
            continue
        joined[a] = joined[b] = new
        sizes[new] = sizes[a] + sizes[b]
        boxes[new, 0], boxes[new, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
        boxes[new, 2], boxes[new, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])
        scale = np.float32(_WHOLE) / np.float32(sizes[new])
        for i in range(dims):
            counts[new, i] = counts[a, i] + counts[b, i]
            shares[new, i] = np.int16(np.float32(counts[new, i]) * scale)
        link[tail[a]] = head[b]
        node, kept = head[a], -1
        while node >= 0:
            other = _current(joined, target[node])
            if other != new and met[other] != new:
                met[other] = new
                target[node] = other
                if kept < 0:
                    head[new] = node
                else:
                    link[kept] = node
                kept = node
                if waiting == capacity:
                    waiting = _prune(heap_value, heap_pair, waiting, joined)
                    if waiting > capacity // 2:
                        capacity *= 2
                        heap_value = np.concatenate((heap_value, np.empty(capacity // 2, np.float32)))
                        heap_pair = np.concatenate((heap_pair, np.empty(capacity // 2, np.int64)))
                value = _similarity(shares, sizes, boxes, other, new, colour, channels, use, area)
                _push(heap_value, heap_pair, waiting, value, other, new)
                waiting += 1
            node = link[node]
        if kept >= 0:
            link[kept] = -1
        tail[new] = kept
        new += 1
    return boxes[:new]


@kernel
def _prune(heap_value, heap_pair, count, joined):  # type: ignore[no-untyped-def]
    """Drops pairs of which one region has been joined, so that memory does not grow with the number of joins."""
    kept = 0
    for i in range(count):
        a, b = heap_pair[i] >> 32, heap_pair[i] & 0x7FFFFFFF
        if joined[a] == a and joined[b] == b:
            heap_value[kept], heap_pair[kept] = heap_value[i], heap_pair[i]
            kept += 1
    for i in range(kept // 2 - 1, -1, -1):
        _sink(heap_value, heap_pair, kept, i)
    return kept
