"""Hierarchical grouping (Uijlings et al., IJCV 2013, algorithm 1): join the most similar neighbours until one is left.

R first regions, A = 2 R - 1 regions in the whole hierarchy, D counts of a histogram. Similarities of colour and of
texture are the overlaps of normalised histograms; those of size and of fill favour small regions and ones that fit
into each other (section 3.2). Each lies in [0, 1]; the similarity of a strategy is the sum of its own.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel
from lib.selective_search.regions import Regions
from lib.selective_search.scratch import Scratch

MEASURES = "CTSF"  # colour, texture, size, fill

# Shares of a histogram are whole numbers out of this, so that a sum of minima is exact in any order and can be
# vectorised without fastmath.
_WHOLE = 32767


def group(
    regions: Regions,
    pairs: NDArray[np.int32],
    strategies: Iterable[str],
    area: int,
    scratch: Scratch | None = None,
) -> list[NDArray[np.int32]]:
    """The boxes of every region that grouping passes through, one hierarchy for each strategy.

    pairs      : int32 (P, 2) first regions that touch, each pair once, the lower number first
    strategies : which of `MEASURES` to add, for example "CTSF" or "TSF"
    area       : pixels of the image
    returns    : for each strategy int32 (A, 4) x1 y1 x2 y2, half-open: the first regions, then the joined ones in the
                 order of joining; the last is the whole image if the regions are connected. Ties between pairs go
                 to the one whose later region comes first, then to the one whose other region does.
    """
    scratch = scratch or Scratch()
    count, dims = regions.counts.shape
    total = 2 * count - 1
    sizes, boxes = np.empty(total, np.int32), np.empty((total, 4), np.int32)
    sizes[:count], boxes[:count] = regions.sizes, regions.boxes
    counts = scratch.take("group_counts", (total, dims), np.int32)
    shares = scratch.take("group_shares", (total, dims), np.int16)
    _share(regions.counts, sizes, counts, shares)
    hierarchies = []
    for strategy in strategies:
        use = np.array([measure in strategy for measure in MEASURES])
        reached = _group(
            count, sizes, boxes, counts, shares, regions.colour, regions.channels, pairs, use, np.float32(area)
        )
        hierarchies.append(boxes[:reached].copy())
    return hierarchies


@kernel
def _share(first, sizes, counts, shares):  # type: ignore[no-untyped-def]
    """Copies the first regions' counts, and normalises each of their histograms to `_WHOLE`."""
    for region in range(first.shape[0]):
        scale = np.float32(_WHOLE) / np.float32(sizes[region])
        for i in range(first.shape[1]):
            counts[region, i] = first[region, i]
            shares[region, i] = np.int16(np.float32(first[region, i]) * scale)


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
        total += _overlap(shares, a, b, 0, colour) * (np.float32(1) / np.float32(channels * _WHOLE))
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
def _raise(tree, region, value):  # type: ignore[no-untyped-def]
    """Sets a leaf of a tree in which each node holds the largest of its two children."""
    node = tree.shape[0] // 2 + region
    tree[node] = value
    while node > 1:
        node >>= 1
        tree[node] = max(tree[2 * node], tree[2 * node + 1])


@kernel
def _current(joined, region):  # type: ignore[no-untyped-def]
    while joined[region] != region:
        joined[region] = joined[joined[region]]
        region = joined[region]
    return region


@kernel
def _group(count, sizes, boxes, counts, shares, colour, channels, pairs, use, area):  # type: ignore[no-untyped-def]
    """Fills in the joined regions from row `count` on; returns how many rows there are in the end.

    A pair belongs to its later region. The best pair of each region stands in a tree; it is searched again only if it
    reaches the top after its other region was joined to another. The earlier region keeps no record of the pair.
    """
    total, dims = counts.shape
    joined, met = np.arange(total), np.full(total, -1, np.int32)
    leaves = 1
    while leaves < total:
        leaves *= 2
    tree, partner = np.full(2 * leaves, np.float32(-1)), np.full(total, -1, np.int32)
    # A region's neighbours are a chain of links. Joining two regions joins their chains, so no link is ever added.
    # A link has a similarity in the chain of the pair's later region only, and may name a region since joined.
    head, tail = np.full(total, -1, np.int32), np.full(total, -1, np.int32)
    following, target = np.full(2 * pairs.shape[0], -1, np.int32), np.empty(2 * pairs.shape[0], np.int32)
    similar = np.full(2 * pairs.shape[0], np.float32(-1))
    for i in range(2 * pairs.shape[0]):
        here, target[i] = pairs[i >> 1, i & 1], pairs[i >> 1, 1 - (i & 1)]
        if head[here] < 0:
            head[here] = i
        else:
            following[tail[here]] = i
        tail[here] = i
        if i & 1:
            similar[i] = _similarity(shares, sizes, boxes, target[i], here, colour, channels, use, area)
    for region in range(count):
        _raise(tree, region, _best(region, head, following, target, similar, joined, partner))
    new = count
    while tree[1] >= 0:
        node = 1
        while node < leaves:
            node = 2 * node if tree[2 * node] == tree[node] else 2 * node + 1
        b = node - leaves
        a = partner[b]
        if joined[a] != a:
            _raise(tree, b, _best(b, head, following, target, similar, joined, partner))
            continue
        joined[a] = joined[b] = new
        _raise(tree, a, np.float32(-1))
        _raise(tree, b, np.float32(-1))
        sizes[new] = sizes[a] + sizes[b]
        boxes[new, 0], boxes[new, 1] = min(boxes[a, 0], boxes[b, 0]), min(boxes[a, 1], boxes[b, 1])
        boxes[new, 2], boxes[new, 3] = max(boxes[a, 2], boxes[b, 2]), max(boxes[a, 3], boxes[b, 3])
        scale = np.float32(_WHOLE) / np.float32(sizes[new])
        for i in range(dims):
            counts[new, i] = counts[a, i] + counts[b, i]
            shares[new, i] = np.int16(np.float32(counts[new, i]) * scale)
        following[tail[a]] = head[b]
        link, previous = head[a], -1
        while link >= 0:
            other = _current(joined, target[link])
            if other != new and met[other] != new:
                met[other] = new
                target[link] = other
                similar[link] = _similarity(shares, sizes, boxes, other, new, colour, channels, use, area)
                if previous < 0:
                    head[new] = link
                else:
                    following[previous] = link
                previous = link
            link = following[link]
        if previous >= 0:
            following[previous] = -1
        tail[new] = previous
        _raise(tree, new, _best(new, head, following, target, similar, joined, partner))
        new += 1
    return new


@kernel
def _best(region, head, following, target, similar, joined, partner):  # type: ignore[no-untyped-def]
    """The largest similarity among the region's own pairs, its other region noted in `partner`; -1 if there is none."""
    best = np.float32(-1)
    link = head[region]
    while link >= 0:
        other = target[link]
        if joined[other] == other and similar[link] >= 0 and (
            similar[link] > best or (similar[link] == best and other < partner[region])
        ):
            best, partner[region] = similar[link], other
        link = following[link]
    return best
