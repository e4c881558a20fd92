"""Selective search once more, as plainly as it can be said: dictionaries and double loops instead of kernels.

Takes the same 8-bit planes and the same edge weights as the real one, and from there on shares no code with it.
"""

import itertools

import numpy as np

STEPS = {0: (0, 1), 1: (1, 0), 2: (1, 1), 3: (1, -1)}  # dy, dx of each direction of an edge
F = np.float32


def sorted_edges(keys):
    """(key, (y, x), (y, x)) by key, then row, direction, column."""
    directions, height, width = keys.shape
    edges = [
        (int(keys[d, y, x]), (y, x), (y + STEPS[d][0], x + STEPS[d][1]))
        for y, d, x in itertools.product(range(height), range(directions), range(width))
        if y + STEPS[d][0] < height and 0 <= x + STEPS[d][1] < width
    ]
    return sorted(edges, key=lambda edge: edge[0])


def position(y, x, width):
    """Tiles of 4 x 4 from left to right and downwards, and so are the pixels in them."""
    tile = y // 4 * -(-width // 4) + x // 4
    return 16 * tile + y % 4 * 4 + x % 4


def weight(key):
    """Undoes the 16-bit key by hand: 11 bits of mantissa, exponent from -22."""
    return 2.0 ** (key // 2048 - 22) * (1 + key % 2048 / 2048)


def segment(keys, k, min_size):
    """Labels, in the order of first pixels, by sets of pixels that are merged."""
    _, height, width = keys.shape
    pixels = list(itertools.product(range(height), range(width)))
    component = {pixel: frozenset([pixel]) for pixel in pixels}
    inner = {component[pixel]: 0.0 for pixel in pixels}
    edges = sorted_edges(keys)

    def join(a, b, heaviest):
        union = a | b
        inner[union] = heaviest
        for pixel in union:
            component[pixel] = union

    for key, u, v in edges:
        a, b = component[u], component[v]
        tolerated = [F(inner[c]) + F(k) / F(len(c)) for c in (a, b)]
        if a is not b and F(weight(key)) <= min(tolerated):
            join(a, b, weight(key))
    for _, u, v in edges:
        a, b = component[u], component[v]
        if a is not b and min(len(a), len(b)) < min_size:
            join(a, b, 0.0)
    names = {}
    return np.array([names.setdefault(component[pixel], len(names)) for pixel in pixels]).reshape(height, width)


def touching(labels, connectivity):
    """The pairs of labels that neighbouring pixels have."""
    height, width = labels.shape
    pairs = set()
    for y, x, d in itertools.product(range(height), range(width), range(connectivity // 2)):
        v, u = y + STEPS[d][0], x + STEPS[d][1]
        if v < height and 0 <= u < width and labels[y, x] != labels[v, u]:
            pairs.add(tuple(sorted((int(labels[y, x]), int(labels[v, u])))))
    return pairs


def directed_bins(planes, bins, reach):
    """(channel, direction, H, W) bins of the eight directions, from the two-dimensional filter written out."""
    smooth, slope = np.array([1, 4, 6, 4, 1]), np.array([-1, -2, 0, 2, 1])
    out = []
    for plane in planes:
        padded = np.pad(plane.astype(int), 2, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
        across = (windows * np.outer(smooth, slope)).sum((2, 3))
        down = (windows * np.outer(slope, smooth)).sum((2, 3))
        full = 3 * 255 * 16 * reach
        slanted = full * 2**0.5
        for value, unit in ((across, full), (down, full), (across + down, slanted), (across - down, slanted)):
            scale = np.float32(bins / unit)
            for sign in (1, -1):
                out.append(np.clip(np.float32(sign) * value.astype(np.float32) * scale, 0, bins - 1).astype(int))
    return np.array(out).reshape(len(planes), 8, *planes.shape[1:])


def histograms(planes, mask, colour_bins, texture_bins, reach):
    """Counts of a region: colours of each channel, then eight directions of each channel."""
    colour = [np.bincount(plane[mask].astype(int) * colour_bins // 256, minlength=colour_bins) for plane in planes]
    directed = directed_bins(planes, texture_bins, reach)
    texture = [
        np.bincount(directed[c, d][mask], minlength=texture_bins) for c in range(len(planes)) for d in range(8)
    ]
    return np.concatenate(colour), np.concatenate(texture)


def similarity(a, b, strategy, channels, area):
    """a, b: (colour counts, texture counts, size, box); whole-number shares and float32 sums."""
    total = F(0)
    for measure, part, count in (("C", 0, channels), ("T", 1, 8 * channels)):
        if measure in strategy:
            shares = [(r[part].astype(np.float32) * (F(32767) / F(r[2]))).astype(np.int64) for r in (a, b)]
            total += F(np.minimum(*shares).sum()) * (F(1) / F(count * 32767))
    if "S" in strategy:
        total += F(1) - F(a[2] + b[2]) / F(area)
    if "F" in strategy:
        x1, y1, x2, y2 = joined_box(a[3], b[3])
        total += F(1) - (F((x2 - x1) * (y2 - y1)) - F(a[2] + b[2])) / F(area)
    return total


def joined_box(a, b):
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def group(labels, planes, strategy, connectivity, colour_bins, texture_bins, reach):
    """Boxes of the hierarchy in the order of joining, looking at every pair of neighbours at every step."""
    regions, area = [], labels.size
    for label in range(labels.max() + 1):
        mask = labels == label
        ys, xs = np.nonzero(mask)
        box = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
        regions.append((*histograms(planes, mask, colour_bins, texture_bins, reach), int(mask.sum()), box))
    pairs = touching(labels, connectivity)
    while pairs:
        best = max(
            sorted(pairs, key=lambda pair: pair[::-1]),
            key=lambda pair: similarity(regions[pair[0]], regions[pair[1]], strategy, len(planes), area),
        )
        a, b = (regions[i] for i in best)
        new = len(regions)
        regions.append((a[0] + b[0], a[1] + b[1], a[2] + b[2], joined_box(a[3], b[3])))
        moved = [tuple(new if i in best else i for i in pair) for pair in pairs]
        pairs = {tuple(sorted(pair)) for pair in moved if pair[0] != pair[1]}
    return [region[3] for region in regions]
