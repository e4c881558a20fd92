"""The loops of the descriptors, compiled: votes of gradients into cells, and their normalisation.

A weight that falls off with the distance to a cell's centre is a product of one along x and one along y. So each row of
pixels is summed along x first, into the cells that see it, and the few numbers that are left of it then along y.

H, W sides of the image in pixels, n cells a side of a block, B bins.
"""

import numpy as np

from lib.compiled import kernel

NORMS = ("none", "l1", "l1sqrt", "l2", "l2hys")


@kernel
def _gradients(planes, y, dx, dy, squared):  # type: ignore[no-untyped-def]
    """Centred differences in row y, in each pixel of the channel where they are largest; ties go to the first.

    Beyond its border the image goes on mirrored, the outermost pixel not repeated: the difference across it is 0.
    """
    channels, height, width = planes.shape
    above, below = abs(y - 1), y + 1 if y + 1 < height else height - 2
    squared[:] = -1
    for c in range(channels):
        row, up, down = planes[c, y], planes[c, above], planes[c, below]
        for x in range(1, width - 1):
            across = np.float32(row[x + 1]) - np.float32(row[x - 1])
            along = np.float32(down[x]) - np.float32(up[x])
            length = across * across + along * along
            better = length > squared[x]
            dx[x] = across if better else dx[x]
            dy[x] = along if better else dy[x]
            squared[x] = length if better else squared[x]
        for x in (0, width - 1):
            along = np.float32(down[x]) - np.float32(up[x])
            if along * along > squared[x]:
                dx[x], dy[x], squared[x] = np.float32(0), along, along * along


@kernel
def _angles(dx, dy, signed, angles):  # type: ignore[no-untyped-def]
    """Direction of each gradient in radians, in [0, pi), or [0, 2 pi) where signed (Abramowitz & Stegun 4.4.49)."""
    half = np.float32(np.pi / 2)
    for i in range(len(dx)):
        x, y = abs(dx[i]), abs(dy[i])
        larger = max(x, y)
        q = min(x, y) / (larger if larger > 0 else np.float32(1))
        s = q * q
        a = np.float32(0.0028662257)
        a = a * s - np.float32(0.0161657367)
        a = a * s + np.float32(0.0429096138)
        a = a * s - np.float32(0.0752896400)
        a = a * s + np.float32(0.1065626393)
        a = a * s - np.float32(0.1420889944)
        a = a * s + np.float32(0.1999355085)
        a = a * s - np.float32(0.3333314528)
        a = (a * s + np.float32(1)) * q
        a = half - a if y > x else a
        opposite = (dx[i] < 0) != (dy[i] < 0)  # second or fourth quadrant
        a = np.float32(2) * half - a if opposite and y > 0 else a
        lower = dy[i] < 0 or (dy[i] == 0 and dx[i] < 0)
        a = a + np.float32(2) * half if signed and lower else a
        angles[i] = a


@kernel
def blocks(planes, cell, bins, signed, soft, slots, weights, norm, clip, inside, outside, out):  # type: ignore[no-untyped-def]
    """Dalal and Triggs' blocks of one level: see `features.Layout`, of which these are the parts.

    planes         : uint8 or float32 (channels, H, W), no smaller than the cells of `out`
    slots, weights : (cell, K) of each pixel of a cell: which of the cells of which blocks see it, cell - n * back for
                     the block that begins `back` cells before, and with what weight
    out            : float32 (block rows, block columns, n n B), filled

    A bin more on each side takes the votes that go round the circle: so the two bins of a pixel are always neighbours.
    The pixels of a row are taken in the order of their place in the cell: those next to each other would wait for each
    other's sums.
    """
    width, down = planes.shape[2], out.shape[0]
    across, length = out.shape[1], out.shape[2]
    n = round(np.sqrt(length // bins))
    lanes = bins + 2
    stride, line = n * lanes, (across + 2 * n - 2) * n * lanes
    dx, dy = np.empty(width, np.float32), np.empty(width, np.float32)
    squared, place = np.empty(width, np.float32), np.empty(width, np.float32)
    lower, first = np.empty(width, np.float32), np.empty(width, np.int32)
    votes = np.empty(line, np.float32)
    sums = np.zeros((n, n, line), np.float32)
    per_radian = np.float32(bins / (2 * np.pi) if signed else bins / np.pi)
    shift = np.float32(0.5 if soft else 1)
    columns = across + n - 1
    for y in range((down + n - 1) * cell):
        _gradients(planes, y, dx, dy, squared)
        _angles(dx, dy, signed, place)
        for x in range(width):
            position = place[x] * per_radian + shift
            size = np.sqrt(squared[x])
            first[x] = np.int32(position)
            place[x] = size * (position - np.float32(first[x])) if soft else np.float32(0)
            lower[x] = size - place[x]
        votes[:] = 0
        for pixel in range(cell):
            for k in range(slots.shape[1]):
                start, weight = (n - 1) * stride + slots[pixel, k] * lanes, weights[pixel, k]
                for column in range(columns):
                    x = column * cell + pixel
                    entry = np.uint64(start + column * stride + first[x])
                    votes[entry] += weight * lower[x]
                    votes[entry + np.uint64(1)] += weight * place[x]
        for k in range(slots.shape[1]):
            slot, weight = slots[y % cell, k], weights[y % cell, k]
            block = y // cell + slot // n
            if weight != 0 and 0 <= block < down:
                target = sums[block % n, slot % n]
                for i in range(line):
                    target[i] += weight * votes[i]
        finished = y // cell - (n - 1)
        if y % cell == cell - 1 and finished >= 0:
            rows = sums[finished % n]
            for column in range(across):
                block_values = out[finished, column]
                first_value = np.uint64(0)
                for a in range(n):
                    for b in range(n):
                        own = np.uint64((column + n - 1) * stride + b * lanes)
                        for i in range(np.uint64(bins)):
                            block_values[first_value + i] = rows[a, own + i + np.uint64(1)]
                        block_values[first_value + np.uint64(bins - 1)] += rows[a, own]
                        block_values[first_value] += rows[a, own + np.uint64(bins + 1)]
                        first_value += np.uint64(bins)
                _normalise(block_values, norm, clip, inside, outside)
            rows[:] = 0


@kernel
def _total(block, power):  # type: ignore[no-untyped-def]
    """Sum of the values, or of their squares, in four parts, which do not wait for each other."""
    first = second = third = fourth = np.float32(0)
    end = len(block) - len(block) % 4
    for i in range(0, end, 4):
        a, b, c, d = block[i], block[i + 1], block[i + 2], block[i + 3]
        first += a * a if power == 2 else a
        second += b * b if power == 2 else b
        third += c * c if power == 2 else c
        fourth += d * d if power == 2 else d
    for i in range(end, len(block)):
        first += block[i] * block[i] if power == 2 else block[i]
    return (first + second) + (third + fourth)


@kernel
def _normalise(block, norm, clip, inside, outside):  # type: ignore[no-untyped-def]
    """One block in place, by the number of its norm in NORMS."""
    one = np.float32(1)
    if norm == 0:
        return
    if norm <= 2:
        factor = one / (_total(block, 1) + outside[0])
        for i in range(len(block)):
            block[i] = np.sqrt(block[i] * factor) if norm == 2 else block[i] * factor
        return
    factor = one / (np.sqrt(_total(block, 2) + inside[0]) + outside[0])
    limit = clip if norm == 4 else np.float32(np.inf)
    for i in range(len(block)):
        block[i] = min(block[i] * factor, limit)
    if norm == 4:
        factor = one / (np.sqrt(_total(block, 2) + inside[1]) + outside[1])
        for i in range(len(block)):
            block[i] *= factor


@kernel
def cells(planes, cell, axes, clip, out):  # type: ignore[no-untyped-def]
    """Felzenszwalb's features of one level (voc-dpm, features.cc): 18 signed, 9 unsigned, 4 of texture.

    planes : uint8 or float32 (channels, H, W);  axes : float32 (9, 2) unit vectors x y at 0, 20 ... 160 degrees
    out    : float32 (cell rows - 2, cell columns - 2, 32), its first 31 filled
    """
    height, width = planes.shape[1], planes.shape[2]
    down, across = out.shape[0] + 2, out.shape[1] + 2
    dx, dy = np.empty(width, np.float32), np.empty(width, np.float32)
    squared, best = np.empty(width, np.float32), np.empty(width, np.float32)
    bins = np.empty(width, np.int64)
    votes = np.empty((across + 2, 18), np.float32)  # a border on each side, for votes that nobody counts
    sums = np.zeros((down + 2, across + 2, 18), np.float32)
    half = np.float32(0.5)
    for y in range(1, down * cell - 1):
        _gradients(planes, min(y, height - 2), dx, dy, squared)
        best[:] = 0
        bins[:] = 0
        for o in range(9):
            for x in range(width):
                dot = axes[o, 0] * dx[x] + axes[o, 1] * dy[x]
                bins[x] = (o if dot > 0 else o + 9) if abs(dot) > best[x] else bins[x]
                best[x] = max(best[x], abs(dot))
        votes[:] = 0
        for x in range(1, across * cell - 1):
            at = min(x, width - 2)
            place = (np.float32(x) + half) / np.float32(cell) + half
            first = np.int64(place)
            share = place - np.float32(first)
            length = np.sqrt(squared[at])
            votes[first, bins[at]] += (np.float32(1) - share) * length
            votes[first + 1, bins[at]] += share * length
        place = (np.float32(y) + half) / np.float32(cell) + half
        first = np.int64(place)
        share = place - np.float32(first)
        sums[first] += (np.float32(1) - share) * votes
        sums[first + 1] += share * votes
    _contrast(sums[1:-1, 1:-1], clip, out)


@kernel
def _contrast(sums, clip, out):  # type: ignore[no-untyped-def]
    """The features of each inner cell, from the votes of all: four normalisations, by the energy of 2 x 2 cells."""
    energy = np.zeros(sums.shape[:2], np.float32)
    for o in range(9):
        unsigned = sums[:, :, o] + sums[:, :, o + 9]
        energy += unsigned * unsigned
    half, scale = np.float32(0.5), np.empty(4, np.float32)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for k in range(4):
                top, left = y + 1 - k % 2, x + 1 - k // 2  # bottom right, top right, bottom left, top left
                total = energy[top, left] + energy[top + 1, left] + energy[top, left + 1] + energy[top + 1, left + 1]
                scale[k] = np.float32(1) / np.sqrt(total + np.float32(1e-4))
            cell, features = sums[y + 1, x + 1], out[y, x]
            features[27:31] = 0
            for o in range(18):
                total = np.float32(0)
                for k in range(4):
                    value = min(cell[o] * scale[k], clip)
                    total += value
                    features[27 + k] += value
                features[o] = half * total
            for o in range(9):
                total = np.float32(0)
                for k in range(4):
                    total += min((cell[o] + cell[o + 9]) * scale[k], clip)
                features[18 + o] = half * total
            for k in range(4):
                features[27 + k] *= np.float32(0.2357)
