"""The compiled loops of `pooling`; shapes and rules are in the docstrings there.

N images, R regions, C channels, H W cells of a map, g cells a side of the grid.
"""

import numpy as np

from lib.compiled import kernel


@kernel
def _cell(value, scale):  # type: ignore[no-untyped-def]
    """A coordinate in cells, rounded as C's round does: half away from zero, in float32 throughout."""
    scaled = value * scale
    whole = np.trunc(scaled)
    if abs(scaled - whole) >= np.float32(0.5):
        whole += np.sign(scaled)
    return np.int64(whole)


@kernel
def _edge(start, size, grid, part, limit):  # type: ignore[no-untyped-def]
    """First and end cell of one part of the grid along one axis, cut at the map."""
    width = np.float32(size) / np.float32(grid)
    first = np.int64(np.floor(np.float32(part) * width)) + start
    end = np.int64(np.ceil(np.float32(part + 1) * width)) + start
    return min(max(first, 0), limit), min(max(end, 0), limit)


@kernel
def _region(roi, scale):  # type: ignore[no-untyped-def]
    """First column and row of a region (image, x1 y1 x2 y2) in cells, and how many it has, at least one."""
    last = np.float32(1)  # the last pixel lies one before the half-open end
    x1, y1 = _cell(roi[1], scale), _cell(roi[2], scale)
    across = max(_cell(roi[3] - last, scale) - x1 + 1, 1)
    down = max(_cell(roi[4] - last, scale) - y1 + 1, 1)
    return x1, y1, across, down


@kernel
def grid_max(maps, rois, scale, pooled):  # type: ignore[no-untyped-def]
    _, height, width, channels = maps.shape
    grid = pooled.shape[1]
    for r in range(len(rois)):
        image = np.int64(rois[r, 0])
        x1, y1, across, down = _region(rois[r], scale)
        for i in range(grid):
            top, bottom = _edge(y1, down, grid, i, height)
            for j in range(grid):
                left, right = _edge(x1, across, grid, j, width)
                best = pooled[r, i, j]
                if bottom <= top or right <= left:
                    best[:] = 0
                    continue
                best[:] = maps[image, top, left]
                for y in range(top, bottom):
                    for x in range(left, right):
                        values = maps[image, y, x]
                        for c in range(channels):
                            best[c] = values[c] if values[c] > best[c] else best[c]


@kernel
def grid_argmax(maps, rois, scale, pooled, winners):  # type: ignore[no-untyped-def]
    """As `grid_max`, with the cell (row-major, -1: none) that each value came from; ties go to the first."""
    _, height, width, channels = maps.shape
    grid = pooled.shape[1]
    for r in range(len(rois)):
        image = np.int64(rois[r, 0])
        x1, y1, across, down = _region(rois[r], scale)
        for i in range(grid):
            top, bottom = _edge(y1, down, grid, i, height)
            for j in range(grid):
                left, right = _edge(x1, across, grid, j, width)
                best, winner = pooled[r, i, j], winners[r, i, j]
                if bottom <= top or right <= left:
                    best[:] = 0
                    winner[:] = -1
                    continue
                best[:] = maps[image, top, left]
                winner[:] = top * width + left
                for y in range(top, bottom):
                    for x in range(left, right):
                        values, cell = maps[image, y, x], np.int32(y * width + x)
                        for c in range(channels):
                            better = values[c] > best[c]
                            best[c] = values[c] if better else best[c]
                            winner[c] = cell if better else winner[c]


@kernel
def spread(gradients, winners, image, totals):  # type: ignore[no-untyped-def]
    """Adds each output's gradient to the cell that it came from."""
    regions, grid, _, channels = gradients.shape
    width = totals.shape[2]
    for r in range(regions):
        cells = totals[image[r]]
        for i in range(grid):
            for j in range(grid):
                for c in range(channels):
                    winner = winners[r, i, j, c]
                    if winner >= 0:
                        cells[winner // width, winner % width, c] += gradients[r, i, j, c]


@kernel
def _samples(start, size, part, samples, limit, cells, weights):  # type: ignore[no-untyped-def]
    """What the samples of one bin read along one axis: fills cells and their weights, which add up to 1 unless a sample
    lies more than a cell outside, and returns how many. start, size: of the bins, in cells between cell centres."""
    count = 0
    for s in range(samples):
        position = start + (part + (s + 0.5) / samples) * size
        if position < -1 or position > limit:
            continue
        position = min(max(position, 0.0), limit - 1.0)
        low = np.int64(position)
        share = position - low
        for cell, weight in ((low, 1 - share), (low + 1, share)):
            if weight > 0:
                last = count - 1
                if last >= 0 and cells[last] == cell:
                    weights[last] += weight / samples
                elif last >= 1 and cells[last - 1] == cell:
                    weights[last - 1] += weight / samples
                else:
                    cells[count], weights[count] = cell, weight / samples
                    count += 1
    return count


@kernel
def _axis(low, high, grid, samples, limit, cells, weights, counts):  # type: ignore[no-untyped-def]
    """`_samples` of all bins of a region along one axis; low, high: its sides in cells."""
    for part in range(grid):
        counts[part] = _samples(
            low - 0.5, (high - low) / grid, part, samples, limit, cells[part], weights[part]
        )


@kernel
def align(maps, rois, scale, samples, pooled):  # type: ignore[no-untyped-def]
    _, height, width, channels = maps.shape
    grid = pooled.shape[1]
    cells = np.empty((2, grid, 2 * samples), np.int64)
    weights = np.empty((2, grid, 2 * samples), np.float32)
    counts = np.empty((2, grid), np.int64)
    for r in range(len(rois)):
        image = np.int64(rois[r, 0])
        _axis(rois[r, 1] * scale, rois[r, 3] * scale, grid, samples, width, cells[0], weights[0], counts[0])
        _axis(rois[r, 2] * scale, rois[r, 4] * scale, grid, samples, height, cells[1], weights[1], counts[1])
        for i in range(grid):
            for j in range(grid):
                total = pooled[r, i, j]
                total[:] = 0
                for a in range(counts[1, i]):
                    for b in range(counts[0, j]):
                        values = maps[image, cells[1, i, a], cells[0, j, b]]
                        weight = weights[1, i, a] * weights[0, j, b]
                        for c in range(channels):
                            total[c] += weight * values[c]


@kernel
def align_spread(gradients, rois, scale, samples, totals):  # type: ignore[no-untyped-def]
    """Adds each output's gradient to the cells that `align` read, by the same weights."""
    _, height, width, channels = totals.shape
    grid = gradients.shape[1]
    cells = np.empty((2, grid, 2 * samples), np.int64)
    weights = np.empty((2, grid, 2 * samples), np.float32)
    counts = np.empty((2, grid), np.int64)
    for r in range(len(rois)):
        image = np.int64(rois[r, 0])
        _axis(rois[r, 1] * scale, rois[r, 3] * scale, grid, samples, width, cells[0], weights[0], counts[0])
        _axis(rois[r, 2] * scale, rois[r, 4] * scale, grid, samples, height, cells[1], weights[1], counts[1])
        for i in range(grid):
            for j in range(grid):
                gradient = gradients[r, i, j]
                for a in range(counts[1, i]):
                    for b in range(counts[0, j]):
                        total = totals[image, cells[1, i, a], cells[0, j, b]]
                        weight = weights[1, i, a] * weights[0, j, b]
                        for c in range(channels):
                            total[c] += weight * gradient[c]


@kernel
def pyramid(cells, windows, levels, pooled):  # type: ignore[no-untyped-def]
    channels = cells.shape[2]
    largest = levels.max()
    fine = np.empty((largest * largest, channels), cells.dtype)
    bins = np.empty((largest * largest, channels), cells.dtype)
    for r in range(len(windows)):
        x1, y1 = windows[r, 0], windows[r, 1]
        x2, y2 = windows[r, 2], windows[r, 3]
        _bins(cells, x1, y1, x2, y2, largest, fine)
        start = 0
        for n in levels:
            if n == largest:
                _write(fine, n, pooled[r, start:])
            elif largest % n == 0:
                # A coarse bin is the union of the fine bins inside it: floor(i w / n) = floor(i k w / (n k)).
                times = largest // n
                for i in range(n):
                    for j in range(n):
                        best = bins[i * n + j]
                        best[:] = fine[i * times * largest + j * times]
                        for y in range(i * times, (i + 1) * times):
                            for x in range(j * times, (j + 1) * times):
                                values = fine[y * largest + x]
                                for c in range(channels):
                                    best[c] = values[c] if values[c] > best[c] else best[c]
                _write(bins, n, pooled[r, start:])
            else:
                _bins(cells, x1, y1, x2, y2, n, bins)
                _write(bins, n, pooled[r, start:])
            start += channels * n * n


@kernel
def _bins(cells, x1, y1, x2, y2, n, bins):  # type: ignore[no-untyped-def]
    """The n x n bins of one window, each with all its channels."""
    channels = cells.shape[2]
    for i in range(n):
        top, bottom = y1 + i * (y2 - y1) // n, y1 - (-(i + 1) * (y2 - y1) // n)
        for j in range(n):
            left, right = x1 + j * (x2 - x1) // n, x1 - (-(j + 1) * (x2 - x1) // n)
            best = bins[i * n + j]
            best[:] = cells[top, left]
            for y in range(top, bottom):
                for x in range(left, right):
                    values = cells[y, x]
                    for c in range(channels):
                        best[c] = values[c] if values[c] > best[c] else best[c]


@kernel
def _write(bins, n, row):  # type: ignore[no-untyped-def]
    """Turns bins of channels into channels of bins."""
    for c in range(bins.shape[1]):
        for b in range(n * n):
            row[c * n * n + b] = bins[b, c]
