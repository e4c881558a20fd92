import numpy as np
import pytest

from lib.visualization.attribution import CENTRE, KINDS
from lib.visualization.work import matched, merged, summary


def test_the_object_that_a_detection_found():
    objects, classes = np.float32([[0, 0, 10, 10], [0, 0, 10, 14], [50, 50, 60, 60]]), np.array([0, 1, 1])
    box = np.float32([0, 0, 10, 12])
    assert matched(box, 1, objects, classes) == 1
    assert matched(box, 0, objects, classes) == 0
    assert matched(box, 2, objects, classes) is None
    assert matched(np.float32([0, 0, 10, 6.9]), 1, objects, classes) is None  # IoU 0.493
    assert matched(box, 1, objects[:0], classes[:0]) is None


def piece(right, points, **numbers):
    given = {"points": points, "energy": 0.5, "empty": points is None, "deletion": None, "insertion": 0.25, **numbers}
    return {"right": right, "numbers": dict.fromkeys((*KINDS, CENTRE), given)}


def test_means_over_what_is_known():
    """Pointing and energy of right boxes alone; an empty map points nowhere and counts as none."""
    right = [piece(True, True, half=0.5), piece(True, False, half=None), piece(True, None)]
    figures = summary([*right, piece(False, True)])
    assert (figures["boxes"], figures["right"]) == (4, 3)
    assert figures["grad_cam"] == {
        "pointing": 0.5, "energy": 0.5, "empty": 0.25, "deletion": None, "insertion": 0.25, "head": None, "half": 0.5,
        "all": None,
    }


def test_no_box_to_explain_is_a_figure_too():
    """Case 151."""
    figures = summary([])
    assert figures["boxes"] == 0
    assert set(figures["centre"].values()) == {None}


def test_the_best_regions_over_all_images():
    pieces = {
        "a": {"tops": [[[4, 3.0, 0], [1, 1.0, -1]], []], "largest": [6.0, 1.0]},
        "b": {"tops": [[[7, 2.0, 1]], [[0, 9.0, 0]]], "largest": [8.0, 9.0]},
    }
    best, largest = merged(pieces, 0, 2)
    assert best == [("a", [4, 3.0, 0]), ("b", [7, 2.0, 1])]
    assert largest == 8
    assert merged(pieces, 1, 2) == ([("b", [0, 9.0, 0])], 9.0)


@pytest.mark.parametrize("kind", [*KINDS, CENTRE])
def test_every_kind_has_its_figures(kind):
    assert "pointing" in summary([piece(True, True)])[kind]
