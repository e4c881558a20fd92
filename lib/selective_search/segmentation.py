"""Efficient graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004): the first regions of selective search.

Edges come from the lightest to the heaviest. One joins its two components if it is no heavier than what either
tolerates: the heaviest edge inside it, plus k over its number of pixels. At the end, in the same order, components
smaller than the minimum size are joined to the neighbour across their lightest edge.

E edges, R regions. Components are stored by the positions of their pixels, see `edges`.
"""

import numpy as np
from numpy.typing import NDArray

from lib.compiled import kernel, prefetch
from lib.selective_search import edges
from lib.selective_search.scratch import Scratch

_FAR = 1 << 20  # positions from which on the arrays do not fit the caches, so that prefetching pays


def segment(
    order: NDArray[np.uint32],
    keys: NDArray[np.uint16],
    shape: tuple[int, int],
    k: float,
    min_size: int,
    scratch: Scratch | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Regions of an image, and which of them touch.

    order    : uint32 (E,) edges, and
    keys     : uint16 (E,) their keys, from `edges.ascending`
    shape    : H, W of the image
    k        : grey levels; larger k, larger regions
    min_size : pixels; no region is smaller, unless it is the whole image
    returns  : int32 (H, W) labels 0 to R-1 in the order of their first pixels; int32 (P, 2) pairs of labels that touch
               across an edge, each once, the lower label first
    """
    scratch, positions = scratch or Scratch(), edges.position_count(shape)
    parent = scratch.take("parent", (positions,), np.uint32)
    state = scratch.take("state", (positions, 2), np.float32)
    name = scratch.take("name", (positions,), np.int32)
    rejected = scratch.take("rejected", (order.size, 2), np.uint32)
    far, code = positions > _FAR, np.array([edges.FLOOR, edges.CUT], np.uint32)
    count = _merge(order, keys, edges.steps(shape[1]), code, np.float32(k), far, parent, state, rejected)
    count = _absorb(rejected[:count], np.float32(min_size), far, parent, state, name)
    labels = np.empty(shape, np.int32)
    regions = _number(parent, name, labels)
    return labels, _touching(rejected[:count], parent, name, regions)


@kernel
def _root(parent, node):  # type: ignore[no-untyped-def]
    node = np.uint64(node)
    while True:
        above = np.uint64(parent[node])
        if above == node:
            return node
        node = above


@kernel
def _fetch(order, i, steps, parent):  # type: ignore[no-untyped-def]
    """Prefetches what the next edges will touch: the ends of edge i + 32, the parents of the ends of edge i + 16."""
    last = order.shape[0] - 1
    far, near = np.uint64(order[min(i + 32, last)]), np.uint64(order[min(i + 16, last)])
    position = far >> np.uint64(2)
    prefetch(parent, position)
    prefetch(parent, position + steps[far & np.uint64(63)])
    position = near >> np.uint64(2)
    prefetch(parent, np.uint64(parent[position]))
    prefetch(parent, np.uint64(parent[position + steps[near & np.uint64(63)]]))


@kernel
def _merge(order, keys, steps, code, k, far, parent, state, rejected):  # type: ignore[no-untyped-def]
    """Joins by threshold; returns how many edges were rejected, the roots of their ends in `rejected`.

    Most edges lie inside a component by the time they come. A first loop over a chunk drops those without a branch,
    and so overlaps its cache misses; the rest starts from the ancestors that it found. The weight that a component
    tolerates and its size are stored together at its root.
    """
    for position in range(parent.shape[0]):
        parent[position] = position
        state[position, 0], state[position, 1] = k, np.float32(1)
    states = state.reshape(-1)
    chunk = 256
    left, right = np.empty(chunk, np.uint32), np.empty(chunk, np.uint32)
    open_keys = np.empty(chunk, np.uint16)
    word = np.empty(1, np.uint32)
    weight = word.view(np.float32)
    count = np.uint64(0)
    for start in range(0, order.shape[0], chunk):
        open_edges = np.uint64(0)  # of the chunk: those that may still join two components
        for i in range(start, min(start + chunk, order.shape[0])):
            edge = np.uint64(order[i])
            u = edge >> np.uint64(2)
            v = u + steps[edge & np.uint64(63)]
            if far:
                _fetch(order, i, steps, parent)
            a, b = parent[np.uint64(parent[u])], parent[np.uint64(parent[v])]
            if far:
                prefetch(states, np.uint64(a) << np.uint64(1))
                prefetch(states, np.uint64(b) << np.uint64(1))
            parent[u], parent[v] = a, b
            left[open_edges], right[open_edges] = a, b
            open_keys[open_edges] = keys[i]
            open_edges += np.uint64(a != b)
        for i in range(open_edges):
            a, b = _root(parent, left[np.uint64(i)]), _root(parent, right[np.uint64(i)])
            if a == b:
                continue
            word[0] = np.uint32(open_keys[np.uint64(i)] + code[0]) << code[1]
            if weight[0] <= min(state[a, np.uint64(0)], state[b, np.uint64(0)]):
                size = state[a, np.uint64(1)] + state[b, np.uint64(1)]
                if state[a, np.uint64(1)] < state[b, np.uint64(1)]:
                    a, b = b, a
                parent[b] = np.uint32(a)
                state[a, np.uint64(0)] = weight[0] + k / size
                state[a, np.uint64(1)] = size
            else:
                rejected[count, np.uint64(0)], rejected[count, np.uint64(1)] = a, b
                count += np.uint64(1)
    return np.int64(count)


@kernel
def _absorb(rejected, min_size, far, parent, state, marked):  # type: ignore[no-untyped-def]
    """Joins components below the minimum size; returns how many rejected edges are kept, at the front.

    A component that is large enough stays so: an edge between two of them needs no work here. `marked` receives the
    root of every position, doubled, plus one where the component is too small.
    """
    one = np.uint64(1)
    for position in range(parent.shape[0]):
        root = _root(parent, position)
        parent[position] = np.uint32(root)
        marked[position] = np.int32(root) << 1 | (state[root, one] < min_size)
    small = np.empty(rejected.shape, np.uint32)
    count = kept = np.uint64(0)
    for i in range(rejected.shape[0]):
        if far:
            later = np.uint64(min(i + 16, rejected.shape[0] - 1))
            prefetch(marked, np.uint64(rejected[later, np.uint64(0)]))
            prefetch(marked, np.uint64(rejected[later, one]))
        a, b = marked[np.uint64(rejected[np.uint64(i), np.uint64(0)])], marked[np.uint64(rejected[np.uint64(i), one])]
        apart, too_small = a != b, (a | b) & 1 == 1
        small[count, np.uint64(0)], small[count, one] = a >> 1, b >> 1
        rejected[kept, np.uint64(0)], rejected[kept, one] = a >> 1, b >> 1
        count += np.uint64(apart & too_small)
        kept += np.uint64(apart & (not too_small))
    for i in range(count):
        a, b = _root(parent, small[np.uint64(i), np.uint64(0)]), _root(parent, small[np.uint64(i), one])
        if a == b:
            continue
        size = state[a, one] + state[b, one]
        if min(state[a, one], state[b, one]) < min_size:
            if state[a, one] < state[b, one]:
                a, b = b, a
            parent[b] = np.uint32(a)
            state[a, one] = size
        else:
            rejected[kept, np.uint64(0)], rejected[kept, one] = a, b
            kept += one
    return np.int64(kept)


@kernel
def _number(parent, name, labels):  # type: ignore[no-untyped-def]
    """Labels in the order of first pixels; leaves every root's label in `name`."""
    name[:] = -1
    height, width = labels.shape
    count = 0
    for y in range(height):
        row = (y >> 2) * -(-width // 4) * 16 + (y & 3) * 4
        for x in range(width):
            root = _root(parent, row + ((x >> 2) << 4) + (x & 3))
            if name[root] < 0:
                name[root] = count
                count += 1
            labels[y, x] = name[root]
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
