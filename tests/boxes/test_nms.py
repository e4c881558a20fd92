"""Suppression against an exact brute-force twin on integer boxes, and case by case."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lib.boxes.nms import greedy, nms, nms_per_class, overlaps, survivors
from lib.stage.errors import InputError


def twin(boxes: list[list[int]], scores: list[float], threshold: Fraction) -> list[int]:
    """Greedy suppression in whole numbers."""

    def overlap(a: list[int], b: list[int]) -> Fraction:
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        inter = max(wide, 0) * max(high, 0)
        area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return Fraction(inter, area - inter)

    solid = [row for row, (x1, y1, x2, y2) in enumerate(boxes) if x2 > x1 and y2 > y1]
    order = sorted(solid, key=lambda row: (-scores[row], row))
    kept: list[int] = []
    for row in order:
        if all(overlap(boxes[row], boxes[other]) <= threshold for other in kept):
            kept.append(row)
    return kept


corner = st.integers(0, 12)
integer_boxes = st.lists(st.tuples(corner, corner, st.integers(0, 8), st.integers(0, 8)), max_size=25)


@settings(max_examples=300, deadline=None)
@given(integer_boxes, st.randoms(use_true_random=False), st.integers(0, 10))
def test_equals_the_twin(sides: list[tuple[int, ...]], random: object, tenths: int) -> None:
    """Few score values, so that most are tied; small whole sides, so that overlaps meet the threshold."""
    boxes = [[x, y, x + w, y + h] for x, y, w, h in sides]
    scores = [random.choice([0.1, 0.2, 0.5]) for _ in boxes]  # type: ignore[attr-defined]
    kept = nms(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), tenths / 10)
    assert kept.tolist() == twin(boxes, scores, Fraction(tenths, 10))


@pytest.mark.parametrize("tenths", range(1, 10))
def test_an_overlap_of_exactly_the_threshold_stays(tenths: int) -> None:
    """A box of 10 x 1 and its first `tenths` columns."""
    boxes = np.float32([[0, 0, 10, 1], [0, 0, tenths, 1]])
    scores = np.float32([0.9, 0.8])
    assert nms(boxes, scores, tenths / 10).tolist() == [0, 1]
    assert nms(boxes, scores, tenths / 10 - 1e-6).tolist() == [0]


def test_greedy_chain() -> None:
    """The middle box is suppressed by the first, so it cannot suppress the third."""
    boxes = np.float32([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(boxes, np.float32([0.9, 0.8, 0.7]), 0.3).tolist() == [0, 2]
    assert nms(boxes, np.float32([0.8, 0.9, 0.7]), 0.3).tolist() == [1]


def test_equal_scores_keep_the_earlier_row() -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    assert nms(boxes, np.float32([0.5, 0.5, 0.5]), 0.3).tolist() == [0, 2]
    assert nms(boxes[::-1].copy(), np.float32([0.5, 0.5, 0.5]), 0.3).tolist() == [0, 1]


def test_hundreds_of_ties_stay_in_order() -> None:
    boxes = np.float32([[20 * i, 0, 20 * i + 10, 10] for i in range(500)])
    scores = np.where(np.arange(500) % 3 == 0, 0.7, 0.2).astype(np.float32)
    expected = [*range(0, 500, 3), *(i for i in range(500) if i % 3)]
    assert nms(boxes, scores, 0.3).tolist() == expected


def test_scores_closer_than_their_float32() -> None:
    """float64 scores keep their order although float32 would tie them."""
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10]])
    assert nms(boxes, np.array([0.5, 0.5 + 1e-12]), 0.3).tolist() == [1]


def test_boxes_without_area_go_and_suppress_nobody() -> None:
    boxes = np.float32([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 0, 10], [9, 0, 3, 4], [0, 0, 10, 10]])
    assert nms(boxes, np.float32([0.9, 0.9, 0.8, 0.7, 0.1]), 0.3).tolist() == [4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_boxes_are_dropped(value: float) -> None:
    boxes = np.float32([[0, 0, value, 10], [0, value, 10, 10], [0, 0, 10, 10]])
    assert nms(boxes, np.float32([0.9, 0.8, 0.1]), 0.3).tolist() == [2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_are_refused(value: float) -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    with pytest.raises(InputError, match=r"score of row 1: it is .*(nan|inf)") as caught:
        nms(boxes, np.float32([0.9, value, 0.8, value]), 0.3)
    assert len(caught.value.faults) == 2


def test_integer_boxes_are_taken() -> None:
    assert nms(np.array([[0, 0, 10, 10], [0, 0, 10, 9]]), np.array([1, 2]), 0.3).tolist() == [1]


def test_nothing() -> None:
    none: NDArray[np.float32] = np.empty((0, 4), np.float32)
    kept = nms(none, np.empty(0, np.float32), 0.3)
    assert kept.dtype == np.int64
    assert kept.shape == (0,)
    assert nms_per_class(none, np.empty(0, np.float32), np.empty(0, np.int64), 0.3).shape == (0,)


def test_classes_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 30, (200, 2))
    boxes = np.hstack([corner, corner + rng.integers(1, 20, (200, 2))]).astype(np.float32)
    scores, labels = rng.integers(0, 9, 200) / np.float32(8), rng.integers(0, 4, 200)
    kept = nms_per_class(boxes, scores, labels, 0.3)
    for label in range(4):
        rows = np.flatnonzero(labels == label)
        alone = twin(boxes[rows].astype(int).tolist(), scores[rows].tolist(), Fraction(3, 10))
        assert kept[labels[kept] == label].tolist() == rows[alone].tolist()
    assert kept.tolist() == sorted(kept.tolist(), key=lambda row: (-scores[row], row))


def old_first_survivors(boxes, threshold, most):
    """What `faster/rpn.py` did with boxes sorted best first."""
    ranks = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
    seen = 4 * most
    while True:
        kept = torchvision.ops.nms(boxes[:seen], ranks[:seen], float(np.float32(threshold)))
        if len(kept) >= most or seen >= len(boxes):
            return kept[:most]
        seen *= 2


def old_nms(boxes, threshold):
    """What `nms` did with boxes sorted best first."""
    ranks = torch.arange(len(boxes), 0, -1, dtype=torch.float32)
    return torchvision.ops.nms(boxes, ranks, float(np.float32(threshold)))


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.integers(1, 20))
def test_survivors_are_those_of_both_old_ways(seed, count, threshold, most):
    random = np.random.default_rng(seed)
    corners = random.integers(0, 8, (count, 2)) * 5
    boxes = torch.from_numpy(np.hstack([corners, corners + random.integers(1, 5, (count, 2)) * 5]).astype(np.float32))
    assert torch.equal(survivors(boxes, threshold), old_nms(boxes, threshold))
    assert torch.equal(survivors(boxes, threshold, most), old_first_survivors(boxes, threshold, most))
    assert torch.equal(survivors(boxes, threshold, most), old_nms(boxes, threshold)[:most])
    bits = overlaps(boxes, threshold).numpy()
    assert greedy(bits, count, most).tolist() == survivors(boxes, threshold, most).tolist()
    some = count // 2
    assert greedy(bits, some, count).tolist() == survivors(boxes[:some], threshold).tolist()


def test_overlaps_of_many_boxes_are_made_in_pieces(monkeypatch):
    random = np.random.default_rng(0)
    corners = random.uniform(0, 90, (500, 2))
    boxes = torch.from_numpy(np.hstack([corners, corners + random.uniform(5, 40, (500, 2))]).astype(np.float32))
    whole = overlaps(boxes, 0.4)
    monkeypatch.setattr("lib.boxes.nms.ROWS", 64)
    assert torch.equal(overlaps(boxes, 0.4), whole)
    assert greedy(whole.numpy(), 500, 500).tolist() == survivors(boxes, 0.4).tolist()
    assert overlaps(boxes[:0], 0.4).shape == (0, 0)
    assert greedy(overlaps(boxes[:0], 0.4).numpy(), 0, 9).tolist() == []


def test_survivors_of_many_boxes_are_torchvisions():
    """Of sides that are no whole numbers, where the last bit of an IoU decides now and then."""
    random = np.random.default_rng(0)
    for threshold in (0.3, 0.5, 0.7):
        corners = random.uniform(0, 300, (6000, 2))
        boxes = torch.from_numpy(np.hstack([corners, corners + random.uniform(9, 120, (6000, 2))]).astype(np.float32))
        expected = old_nms(boxes, threshold)
        assert torch.equal(survivors(boxes, threshold), expected)
        assert torch.equal(survivors(boxes, threshold, 300), expected[:300])


def test_survivors_of_equal_boxes_and_of_none():
    same = torch.tensor([[0.0, 0, 10, 10]] * 90 + [[50.0, 0, 60, 10]] * 10)
    assert survivors(same, 0.5, 2).tolist() == [0, 90]
    assert survivors(torch.zeros(0, 4), 0.5).tolist() == []
