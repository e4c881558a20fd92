import numpy as np
import pytest

from lib.detectors.yolo import targets
from tests.images_on_disk import image_set


def test_the_label_of_the_facts():
    """§12: VOC's box (48, 240, 195, 371) on 353 x 500; there the centre is shifted by a pixel (voc_label.py)."""
    cell, coded = targets.centres(np.float32([[47, 239, 194, 370]]), (353, 500), 7)
    assert cell.tolist() == [4 * 7 + 2]
    shares = (coded[0, :2] + [2, 4]) / 7
    assert shares.tolist() == pytest.approx([0.3413598, 0.609], abs=1e-6)
    assert coded[0, 2:].tolist() == pytest.approx([0.4164306, 0.262], abs=1e-6)


def test_case_137_the_cell_is_the_floor():
    """Not ceil - 1: a centre of 0 is in the first cell, one on a border in the cell that begins there."""
    cell, coded = targets.centres(np.float32([[0, 0, 0, 0]]), (100, 100), 7)
    assert (cell.tolist(), coded.tolist()) == ([0], [[0, 0, 0, 0]])
    cell, coded = targets.centres(np.float32([[40, 40, 60, 60]]), (100, 100), 2)
    assert cell.tolist() == [3]
    assert coded[0].tolist() == pytest.approx([0, 0, 0.2, 0.2])


def test_a_centre_on_the_last_border_is_in_the_last_cell():
    """Facts §11, 5: there would be a cell S."""
    cell, coded = targets.centres(np.float32([[100, 80, 100, 80]]), (100, 80), 7)
    assert cell.tolist() == [48]
    assert coded[0, :2].tolist() == [1, 1]


def test_rows_and_columns_are_not_exchanged():
    cell, coded = targets.centres(np.float32([[300, 10, 380, 50]]), (400, 100), 4)
    assert cell.tolist() == [1 * 4 + 3]
    assert coded[0].tolist() == pytest.approx([0.4, 0.2, 0.2, 0.4])


def slow_twin(boxes, labels, size, cells, least, order):
    """data.c, box by box: the first to claim a cell has it."""
    claimed = {}
    for row in order:
        x1, y1, x2, y2 = (float(value) for value in boxes[row])
        width, height = (x2 - x1) / size[0], (y2 - y1) / size[1]
        if width < least or height < least:
            continue
        cx, cy = (x1 + x2) / 2 / size[0], (y1 + y2) / 2 / size[1]
        column, line = min(int(cx * cells), cells - 1), min(int(cy * cells), cells - 1)
        claimed.setdefault((line, column), (labels[row], cx * cells - column, cy * cells - line, width, height))
    return [(line * cells + column, *values) for (line, column), values in sorted(claimed.items())]


@pytest.mark.parametrize("cells", [1, 3, 7])
def test_equals_the_slow_twin(cells):
    for seed in range(20):
        random = np.random.default_rng(seed)
        corners = random.integers(0, 80, (int(random.integers(0, 12)), 2))
        boxes = np.hstack([corners, corners + random.integers(1, 40, corners.shape)]).clip(max=100).astype(np.float32)
        labels = random.integers(0, 3, len(boxes))
        made = targets.of_cells(boxes, labels, (120, 100), cells, 0.05, np.random.default_rng(seed))
        order = np.random.default_rng(seed).permutation(len(boxes))
        expected = slow_twin(boxes, labels, (120, 100), cells, 0.05, order)
        assert [int(cell) for cell in made.cell] == [row[0] for row in expected]
        assert made.labels.tolist() == [row[1] for row in expected]
        np.testing.assert_allclose(made.boxes, np.array([row[2:] for row in expected]).reshape(-1, 4), atol=1e-5)


TWO = np.float32([[10, 10, 30, 30], [12, 12, 28, 40]])


def test_case_138_of_two_objects_in_a_cell_one_is_learnt_whole():
    """Its own box with its own class, not the last one's box with both classes; which, the generator decides."""
    seen = set()
    for seed in range(20):
        made = targets.of_cells(TWO, np.array([3, 7]), (200, 200), 4, 0.005, np.random.default_rng(seed))
        assert len(made.cell) == 1
        row = [3, 7].index(made.labels[0])
        sides = (TWO[row, 2:] - TWO[row, :2]) / 200
        assert made.boxes[0, 2:].tolist() == pytest.approx(sides.tolist())
        seen.add(row)
    assert seen == {0, 1}


def test_objects_that_share_a_cell_are_counted_and_named(tmp_path):
    """And those that are too small; with more cells there are none."""
    images = image_set(tmp_path, [[(10, 10, 30, 30), (12, 12, 28, 40)], [(80, 30, 140, 100)], []])
    (said,) = targets.cautions(images, 2, 0.005, "yolo")
    assert said == (
        "1 of 3 objects have their centre in a cell where another has its own, first dog [12, 12, 28, 40] of "
        "images/train0.png. A cell learns one of its objects at a time and finds one class. Raise yolo.grid.cells, "
        "2 now."
    )
    assert targets.cautions(images, 24, 0.005, "yolo") == []
    (said,) = targets.cautions(images, 24, 0.2, "yolo")
    assert said.startswith("2 of 3 objects are narrower or lower than 0.2 of the image and are left out, first cat")
    assert said.endswith("Lower yolo.train.least.")
