import numpy as np
import pytest
from pydantic import ValidationError

from lib.boxes.anchors import AnchorMaps, Anchors, at_first_cell, inside, on_map

PAPER = Anchors(scales=[128.0, 256.0, 512.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
# What the authors' Python returns, 0-based and inclusive; the table in its comment is one larger everywhere.
AUTHORS = [
    (-84, -40, 99, 55), (-176, -88, 191, 103), (-360, -184, 375, 199), (-56, -56, 71, 71), (-120, -120, 135, 135),
    (-248, -248, 263, 263), (-36, -80, 51, 95), (-80, -168, 95, 183), (-168, -344, 183, 359),
]


def all_of(width, height):
    return AnchorMaps(PAPER, 16).of_image(width, height)


def test_the_authors_nine_anchors():
    np.testing.assert_array_equal(at_first_cell(PAPER) - [0, 0, 1, 1], AUTHORS)
    assert PAPER.count == 9


def test_cells_row_by_row_and_anchors_innermost():
    first = at_first_cell(PAPER)
    anchors = on_map(first, 3, 5, 16)
    for y in range(3):
        for x in range(5):
            for a in range(9):
                np.testing.assert_array_equal(anchors[(y * 5 + x) * 9 + a], first[a] + [16 * x, 16 * y, 16 * x, 16 * y])


@pytest.mark.parametrize(
    ("size", "total", "counts"),
    [
        ((1000, 600), 21546, 8151),
        ((800, 600), 17100, [1216, 728, 56, 1260, 748, 108, 1188, 640, 0]),
        ((400, 300), 4275, [169, 21, 0, 187, 27, 0, 152, 0, 0]),
        ((128, 128), 576, 0),
        ((300, 100), 1197, 0),
    ],
)
def test_anchors_inside_as_counted_with_the_authors_code(size, total, counts):
    anchors = all_of(*size)
    assert len(anchors) == total
    rows = inside(anchors, *size)
    if isinstance(counts, list):
        assert np.bincount(rows % 9, minlength=9).tolist() == counts
    else:
        assert len(rows) == counts


def test_an_anchor_that_ends_with_the_image_is_inside():
    edge = np.float32([[0, 0, 32, 16], [0, 0, 32.5, 16], [-0.5, 0, 31, 16], [0, 0, 32, 16.5]])
    assert inside(edge, 32, 16).tolist() == [0]


def test_maps_are_kept_by_size_and_protected():
    maps = AnchorMaps(PAPER, 16)
    first = maps(3, 4)
    assert maps(3, 4) is first
    assert maps(4, 3) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for height in range(5, 5 + maps.kept):
        maps(height, 1)
    np.testing.assert_array_equal(maps(3, 4), first)


def test_nonsense_is_refused():
    for bad in ({"scales": []}, {"ratios": []}, {"base": 0.0}):
        with pytest.raises(ValidationError):
            Anchors(**{**PAPER.model_dump(), **bad})
