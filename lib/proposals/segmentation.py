"""Efficient graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004): the first regions of selective search.

Edges come from the lightest to the heaviest. One joins its two components if it is no heavier than what either
tolerates: the heaviest edge inside it, plus k over its number of pixels. At the end, in the same order, components
smaller than the minimum size are joined to the neighbour across their lightest edge.

N pixels, E edges, R regions.
"""

import numpy as np
from numpy.typing import NDArray

from lib.proposals import edges
from lib.proposals.compiled import kernel


def segment(
    keys: NDArray[np.uint16], order: NDArray[np.uint32], k: float, min_size: int
) -> tuple[NDArray[np.int32], int, NDArray[np.int32]]:
    """Regions of an image, and which of them touch.

    keys     : uint16 (D, H, W) weights, from `edges.weigh`
    order    : uint32 (E,) from `edges.ascending`
    k        : grey levels; larger k, larger regions
    min_size : pixels; no region is smaller, unless it is the whole image
    returns  : int32 (H, W) labels 0 to R-1 in the order of their first pixels, R, int32 (P, 2) pairs of labels that
               touch across an edge, each once, the lower label first
    """
    _, height, width = keys.shape
    parent = np.arange(height * width, dtype=np.int32)
    size = np.ones(height * width, np.int32)
    limit = np.full(height * width, k, np.float32)
    rejected = np.empty((order.size, 2), np.int32)
    steps = np.array([1, width, width + 1, width - 1], np.int32)
    count = _merge(order, keys.reshape(-1), steps, np.float32(k), parent, size, limit, rejected)
    count = _absorb(rejected[:count], min_size, parent, size)
    labels = np.empty((height, width), np.int32)
    name = size  # the sizes have done their work
    regions = _number(parent, name, labels.reshape(-1))
    return labels, regions, _touching(rejected[:count], parent, name, regions)


@kernel
def _root(parent, node):  # type: ignore[no-untyped-def]
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@kernel
def _merge(order, keys, steps, k, parent, size, limit, rejected):  # type: ignore[no-untyped-def]
    """Joins by threshold; returns how many edges were rejected, their ends in `rejected`."""
    pixels = parent.shape[0]
    word = np.empty(1, np.int32)
    weight = word.view(np.float32)
    count = 0
    for i in range(order.shape[0]):
        edge = order[i]
        u = np.int32(edge >> 2)
        v = u + steps[edge & 3]
        a, b = _root(parent, u), _root(parent, v)
        if a == b:
            continue
        key = np.int32(keys[(edge & 3) * pixels + u])
        word[0] = (key + edges._FLOOR) << edges._CUT if key > 0 else 0
        if weight[0] <= limit[a] and weight[0] <= limit[b]:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
            limit[a] = weight[0] + k / np.float32(size[a])
        else:
            rejected[count, 0] = u
            rejected[count, 1] = v
            count += 1
    return count


@kernel
def _absorb(rejected, min_size, parent, size):  # type: ignore[no-untyped-def]
    """Joins components below the minimum size; returns how many rejected edges are kept, at the front."""
    count = 0
    for i in range(rejected.shape[0]):
        a, b = _root(parent, rejected[i, 0]), _root(parent, rejected[i, 1])
        if a == b:
            continue
        if size[a] < min_size or size[b] < min_size:
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]
        else:
            rejected[count, 0], rejected[count, 1] = a, b
            count += 1
    return count


@kernel
def _number(parent, name, labels):  # type: ignore[no-untyped-def]
    """Labels in the order of first pixels; leaves every root's label in `name`."""
    name[:] = -1
    count = 0
    for pixel in range(parent.shape[0]):
        root = _root(parent, pixel)
        if name[root] < 0:
            name[root] = count
            count += 1
        labels[pixel] = name[root]
    return count


@kernel
def _touching(rejected, parent, name, regions):  # type: ignore[no-untyped-def]
    """The pairs of labels across the edges, each once, in the order in which they are first met."""
    capacity = 64
    while capacity < 16 * regions:
        capacity *= 2
    seen = np.full(capacity, -1, np.int64)
    pairs = np.empty((capacity // 2, 2), np.int32)
    count = 0
    for i in range(rejected.shape[0]):
        a, b = name[_root(parent, rejected[i, 0])], name[_root(parent, rejected[i, 1])]
        if a == b:
            continue
        if a > b:
            a, b = b, a
        code = np.int64(a) * regions + b
        slot = (code * 0x9E3779B1 >> 13) & (capacity - 1)
        while seen[slot] >= 0 and seen[slot] != code:
            slot = (slot + 1) & (capacity - 1)
        if seen[slot] < 0:
            seen[slot] = code
            pairs[count, 0], pairs[count, 1] = a, b
            count += 1
    return pairs[:count].copy()
