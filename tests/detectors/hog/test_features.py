"""The descriptors: by hand, against a slow twin, and numbers of OpenCV 5.0.0, scikit-image 0.26 and voc-dpm."""

import numpy as np
import pytest
from pydantic import ValidationError

from lib.detectors.hog import kernels
from lib.detectors.hog.features import DalalTriggs, Felzenszwalb, Layout, profile

PAPER = {
    "name": "dalal_triggs", "cell": 8, "colour": "rgb", "gamma": "none", "smoothing": 0.0, "block": 2, "bins": 9,
    "signed": False, "votes": "soft", "window": 0.5, "norm": "l2hys", "clip": 0.2, "epsilon": 3.6,
}
DPM = {"name": "felzenszwalb", "cell": 8, "colour": "rgb", "gamma": "none", "smoothing": 0.0, "clip": 0.2}
OPENCV = Layout(profile(8, 2, True, (4.0, 8.0)), (0.0, 0.0), (3.6, 0.001))  # sigma 4, half a pixel off the centre


def paper(**others):
    return DalalTriggs(**{**PAPER, **others})


def scikit_image(block=2):
    """Hard votes without a window; its cells are means over 64 pixels, so its epsilon is as much smaller."""
    layout = Layout(profile(8, block, False, None), ((64 * 1e-5) ** 2, 1e-10), (0.0, 0.0))
    return paper(votes="hard", window=None, block=block), layout


def grey(array):
    return np.repeat(np.asarray(array, np.uint8)[:, :, None], 3, axis=2)


def step(rows, columns, side=16, value=100):
    """Grey, 0 but for what lies below and right of these lines."""
    image = np.zeros((side, side), np.uint8)
    image[rows:, columns:] = value
    return grey(image)


def noise(height, width, seed=0):
    """Colour, of neighbouring pixels that depend on each other a little."""
    values = np.random.default_rng(seed).integers(0, 256, (height + 2, width + 2, 3)).astype(float)
    mean = sum(values[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return mean.astype(np.uint8)


def twin(image, s, layout=None):
    """Block by block, pixel by pixel, by the formulas of the paper."""
    layout = layout or s.layout
    values = image.astype(float)
    values = np.sqrt(values) if s.gamma == "sqrt" else values
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), "reflect")
    dx, dy = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    channel = (dx**2 + dy**2).argmax(axis=2)[:, :, None]
    dx, dy = (np.take_along_axis(part, channel, 2)[:, :, 0] for part in (dx, dy))
    size, turn = np.hypot(dx, dy), 360 if s.signed else 180
    place = np.degrees(np.arctan2(dy, dx)) % turn * s.bins / turn
    lower = np.floor(place - 0.5) if s.votes == "soft" else np.floor(place)
    share = place - 0.5 - lower if s.votes == "soft" else np.zeros_like(place)
    rows, columns = image.shape[0] // s.cell - s.block + 1, image.shape[1] // s.cell - s.block + 1
    blocks = np.zeros((rows, columns, s.block, s.block, s.bins))
    for row, column in np.ndindex(rows, columns):
        for i, j in np.ndindex(s.block * s.cell, s.block * s.cell):
            y, x = row * s.cell + i, column * s.cell + j
            for a, b in np.ndindex(s.block, s.block):
                vote = size[y, x] * layout.profile[a, i] * layout.profile[b, j]
                first = int(lower[y, x]) % s.bins
                blocks[row, column, a, b, first] += vote * (1 - share[y, x])
                blocks[row, column, a, b, (first + 1) % s.bins] += vote * share[y, x]
    blocks = blocks.reshape(rows, columns, -1)
    if s.norm in ("l1", "l1sqrt"):
        blocks = blocks / (blocks.sum(axis=2, keepdims=True) + layout.outside[0])
        return np.sqrt(blocks) if s.norm == "l1sqrt" else blocks
    for k in range({"none": 0, "l2": 1, "l2hys": 2}[s.norm]):
        length = np.sqrt((blocks**2).sum(axis=2, keepdims=True) + layout.inside[k]) + layout.outside[k]
        blocks = np.minimum(blocks / length, s.clip) if s.norm == "l2hys" and k == 0 else blocks / length
    return blocks


@pytest.mark.parametrize(
    "others",
    [
        {}, {"gamma": "sqrt"}, {"signed": True, "bins": 18}, {"block": 3}, {"block": 1}, {"votes": "hard"}, {"bins": 6},
        {"window": None}, {"cell": 6}, {"cell": 5, "block": 3}, {"norm": "l1"}, {"norm": "l1sqrt"}, {"norm": "l2"},
    ],
    ids=str,
)
def test_equals_the_twin(others):
    s = paper(**others)
    image = noise(4 * s.cell, 5 * s.cell)
    np.testing.assert_allclose(s(image), twin(image, s), atol=2e-6)


def test_without_a_norm_the_votes_are_the_gradients_themselves():
    s = paper(norm="none", window=None, block=1, votes="hard")
    image = noise(32, 40)
    np.testing.assert_allclose(s(image), twin(image, s), rtol=1e-5)


@pytest.mark.parametrize(
    ("degrees", "votes"),
    [
        (0, {8: 0.5, 0: 0.5}), (10, {0: 1}), (20, {0: 0.5, 1: 0.5}), (45, {1: 0.25, 2: 0.75}), (90, {4: 1}),
        (135, {6: 0.75, 7: 0.25}), (179, {8: 0.55, 0: 0.45}), (225, {1: 0.25, 2: 0.75}),
    ],
)
def test_votes_of_an_angle(degrees, votes):
    """A plane of this slope, in floats, all of whose gradients but those at the border are one."""
    y, x = np.mgrid[:24, :24].astype(np.float32)
    plane = np.cos(np.radians(degrees)) * x + np.sin(np.radians(degrees)) * y
    slots, weights = Layout(profile(8, 1, False, None), (0, 0), (0, 0)).slots
    cells = np.zeros((3, 3, 9), np.float32)
    none, one = np.zeros(2, np.float32), np.float32(1)
    kernels.blocks(plane[None].astype(np.float32), 8, 9, False, True, slots, weights, 0, one, none, none, cells)
    expected = np.zeros(9)
    expected[list(votes)] = list(votes.values())
    np.testing.assert_allclose(cells[1, 1] / 128, expected, atol=2e-5)


def test_opencv_by_its_numbers():
    """Left and right, top and bottom, a corner: HOGDescriptor of OpenCV 5.0.0, which goes on column by column."""
    halves = paper()(step(0, 8), OPENCV).reshape(4, 9)
    np.testing.assert_allclose(halves[:, [0, 8]], 0.35294, atol=2e-4)
    assert not halves[:, 1:8].any()
    np.testing.assert_allclose(paper()(step(8, 0), OPENCV).reshape(4, 9)[:, 4], 0.49875, atol=2e-4)
    corner = [
        [.1085, .0197, .0591, 0, .2169, 0, 0, 0, .1085], [.1010, .0254, .0759, 0, .3735, 0, 0, 0, .1010],
        [.3735, .0254, .0759, 0, .2021, 0, 0, 0, .3735], [.3735, .0326, .0976, 0, .3735, 0, 0, 0, .3735],
    ]  # x0 y0, x1 y0, x0 y1, x1 y1
    np.testing.assert_allclose(paper()(step(8, 8), OPENCV).reshape(4, 9), corner, atol=2e-4)
    with_gamma = paper(gamma="sqrt")(step(8, 8), OPENCV).reshape(4, 9)
    np.testing.assert_allclose(with_gamma[0], [.1040, .0189, .0566, 0, .2081, 0, 0, 0, .1040], atol=2e-4)
    np.testing.assert_allclose(with_gamma[3], [.3764, .0313, .0936, 0, .3764, 0, 0, 0, .3764], atol=2e-4)


def test_scikit_image_by_its_numbers():
    s, layout = scikit_image()
    np.testing.assert_allclose(s(step(0, 8), layout).reshape(4, 9)[:, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(s(step(8, 0), layout).reshape(4, 9)[:, 4], 0.5, atol=1e-6)
    corner = np.zeros((4, 9))
    corner[1, 4], corner[2, 0] = .4868, .4868
    corner[3, [0, 2, 4]] = .4868, .2280, .4868
    np.testing.assert_allclose(s(step(8, 8), layout).reshape(4, 9), corner, atol=5e-5)


def test_blocks_go_row_by_row():
    """Only the lowest rows have gradients: the blocks of the upper row are empty, of the lower full."""
    image = step(20, 0, side=24, value=200)
    s, layout = scikit_image()
    np.testing.assert_allclose((s(image, layout) ** 2).sum(axis=2), [[0, 0], [1, 1]], atol=1e-5)
    np.testing.assert_allclose((paper()(image, OPENCV) ** 2).sum(axis=2), [[0, 0], [0.993, 0.993]], atol=2e-3)


def test_voc_dpm_by_its_numbers():
    """Numbers of features from 1, as the authors count: 1 to 18 signed, 19 to 27 unsigned, 28 to 31 texture."""
    features = Felzenszwalb(**DPM)
    edge = np.zeros(32)
    edge[[0, 18]], edge[27:31] = 0.4, 0.0471
    np.testing.assert_allclose(features(step(0, 12, side=24))[0, 0], edge, atol=5e-5)
    corner = np.zeros(32)
    corner[[0, 2, 4, 18, 20, 22]] = [0.4, 0.1790, 0.4] * 2
    corner[27:31] = .1093, .1134, .1134, .1253
    np.testing.assert_allclose(features(step(12, 12, side=24))[0, 0], corner, atol=5e-5)


def test_mirroring_permutes_felzenszwalbs_features():
    """voc-dpm, flipfeat.m, exact where the width is whole cells."""
    order = np.array([*range(10, 0, -1), *range(18, 10, -1), 19, *range(27, 19, -1), 30, 31, 28, 29, 32]) - 1
    ramp = grey(3 * np.arange(48)[None] + noise(40, 48)[:, :, 0] % 3)  # every gradient points right: no ties
    image, features = ramp, Felzenszwalb(**DPM)
    mirrored = features(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_allclose(mirrored, features(image)[:, ::-1][:, :, order], atol=1e-5)


@pytest.mark.parametrize(("value", "expected"), [("l2", (0.6, 0.8)), ("l1", (3 / 7, 4 / 7))])
def test_the_norm_of_three_and_four(value, expected):
    """Case 142: the root of the sum of squares, not the sum."""
    block, none = np.float32([3, 4]), np.zeros(2, np.float32)
    kernels._normalise(block, kernels.NORMS.index(value), np.float32(1), none, none)
    np.testing.assert_allclose(block, expected, rtol=1e-6)


def test_l2hys_clips_and_norms_again():
    """(3, 4) becomes (.6, .8), (.2, .2), and half of the root of 2 each; five values with a leftover of the sums."""
    none = np.zeros(2, np.float32)
    for values in ([3, 4], [3, 0, 0, 0, 4], [0, 0, 3, 4, 0, 0, 0]):
        block = np.float32(values)
        kernels._normalise(block, kernels.NORMS.index("l2hys"), np.float32(0.2), none, none)
        np.testing.assert_allclose(block[block > 0], np.sqrt(0.5), rtol=1e-6)


@pytest.mark.parametrize("name", ["dalal_triggs", "felzenszwalb"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 100), (15, 40), (16, 16), (23, 29), (20, 44)])
def test_images_of_any_size(name, height, width):
    """Half a cell counts as one. What is too small for a block, or for a cell with neighbours, has no places."""
    features = Felzenszwalb(**DPM) if name == "felzenszwalb" else paper()
    rows, columns = ((side + 4) // 8 - (1 if name == "dalal_triggs" else 2) for side in (height, width))
    places = features(noise(height, width))
    assert places.shape == (max(rows, 0), max(columns, 0), features.width)
    assert np.isfinite(places).all()


def by_scikit_image(image):
    """The formulas of scikit-image 0.26 for 2 x 2 cells of 8 pixels, gradients of the whole image before the cells."""
    values = image.astype(float)
    dx, dy = np.zeros_like(values), np.zeros_like(values)
    dy[1:-1], dx[:, 1:-1] = values[2:] - values[:-2], values[:, 2:] - values[:, :-2]
    channel = np.hypot(dx, dy).argmax(axis=2)[:, :, None]
    dx, dy = (np.take_along_axis(part, channel, 2)[:, :, 0] for part in (dx, dy))
    rows, columns = image.shape[0] // 8, image.shape[1] // 8
    cells = np.zeros((rows, columns, 9))
    bins = np.minimum(np.degrees(np.arctan2(dy, dx)) % 180 // 20, 8).astype(int)
    for y, x in np.ndindex(8 * rows, 8 * columns):
        cells[y // 8, x // 8, bins[y, x]] += np.hypot(dx[y, x], dy[y, x]) / 64
    blocks = np.zeros((rows - 1, columns - 1, 36))
    for row, column in np.ndindex(rows - 1, columns - 1):
        block = cells[row : row + 2, column : column + 2].ravel()
        block = np.minimum(block / np.sqrt((block**2).sum() + 1e-10), 0.2)
        blocks[row, column] = block / np.sqrt((block**2).sum() + 1e-10)
    return blocks


@pytest.mark.parametrize(("height", "width"), [(48, 64), (51, 67)])
def test_scikit_images_formula(height, width):
    """Pixels beyond the last cell are neighbours of its gradients, as they are there."""
    s, layout = scikit_image()
    image = noise(height, width)
    np.testing.assert_allclose(s(image, layout), by_scikit_image(image), atol=1e-6)


def test_an_image_that_is_cut_beside_its_cells_has_the_features_of_the_whole():
    """51 x 67 pixels of 56 x 72: the last rows and columns of blocks are those of the larger image."""
    image = noise(56, 72)
    np.testing.assert_array_equal(paper()(np.ascontiguousarray(image[:51, :67])), paper()(image)[:5, :7])


def test_a_flat_image_has_no_features():
    for features in (paper(), Felzenszwalb(**DPM), paper(norm="l1sqrt")):
        assert not features(np.full((40, 48, 3), 77, np.uint8)).any()


def test_an_edge_between_colours_of_one_brightness():
    """Red 114 and green 58 are both grey 34."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:], image[:, :8] = (114, 0, 0), (0, 58, 0)
    assert not paper(colour="grey")(image).any()
    np.testing.assert_allclose(paper()(image), paper()(step(0, 8, value=114)), atol=1e-6)


def test_smoothing_weakens_gradients():
    s = {"norm": "none", "window": None}
    assert paper(**s, smoothing=2.0)(noise(32, 32)).sum() < 0.6 * paper(**s)(noise(32, 32)).sum()


@pytest.mark.parametrize("others", [{"block": 0}, {"bins": 1}, {"clip": 0.0}, {"epsilon": 0.0}, {"norm": "l3"}])
def test_settings_out_of_range_are_refused(others):
    with pytest.raises(ValidationError):
        paper(**others)
