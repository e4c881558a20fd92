"""The running thresholds against the rules written out with whole lists."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.detection.shortlist import Shortlist


class Twin:
    """One class of the authors' bookkeeping, literally: a list, a count that never falls, a cut."""

    def __init__(self, per_image: int, per_set: int) -> None:
        self.per_image, self.per_set = per_image, per_set
        self.threshold, self.count = -math.inf, 0
        self.best: list[float] = []

    def keep(self, scores: list[float]) -> list[int]:
        rows = [row for row in range(len(scores)) if scores[row] > self.threshold]
        rows = sorted(rows, key=lambda row: (-scores[row], row))[: self.per_image]
        self.count += len(rows)
        self.best = sorted([*self.best, *(scores[row] for row in rows)], reverse=True)
        if self.count > self.per_set:
            self.best = self.best[: self.per_set]
            self.threshold = self.best[-1]
        return rows


def stream(images: int, seed: int) -> list[NDArray[np.float32]]:
    """Scores in 64 levels, so that ties happen at the threshold; some images are empty."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(-40, 24, int(rng.integers(0, 30))) / 16).astype(np.float32) for _ in range(images)]


@pytest.mark.parametrize(("per_image", "per_set"), [(5, 40), (100, 40), (3, 7), (10, 1), (5, 10_000)])
def test_equals_the_twin(per_image: int, per_set: int) -> None:
    shortlist, twin = Shortlist(2, per_image, per_set), Twin(per_image, per_set)
    for scores in stream(80, seed=per_set):
        assert shortlist.keep(1, scores).tolist() == twin.keep(scores.tolist())
        assert shortlist.thresholds[1] == twin.threshold
    assert shortlist.thresholds[0] == -math.inf, "another class moved its threshold"


def test_by_hand() -> None:
    """Three boxes per set: .9 .5 .125 fill it; .75 pushes .125 out; then .5 is not above the threshold."""
    shortlist = Shortlist(1, per_image=100, per_set=3)
    assert shortlist.keep(0, np.float32([0.5, 0.9, 0.125])).tolist() == [1, 0, 2]
    assert shortlist.thresholds[0] == -math.inf, "three are not more than three"
    assert shortlist.keep(0, np.float32([0.75])).tolist() == [0]
    assert shortlist.thresholds[0] == 0.5
    assert shortlist.keep(0, np.float32([0.5, 0.625])).tolist() == [1]
    assert shortlist.thresholds[0] == 0.625
    assert shortlist.survives(0, np.float32([0.5, 0.9, 0.125])).tolist() == [False, True, False]
    assert shortlist.survives(0, np.float32([0.625, 0.75])).tolist() == [True, True], "equal stays at the end"


def test_at_most_a_hundred_of_an_image() -> None:
    scores = np.random.default_rng(0).permutation(500).astype(np.float32)
    rows = Shortlist(1, per_image=100).keep(0, scores)
    np.testing.assert_array_equal(scores[rows], np.arange(499, 399, -1))


def test_equal_scores_keep_the_earlier_rows() -> None:
    scores = np.zeros(300, np.float32)
    scores[250] = 1
    assert Shortlist(1, per_image=4).keep(0, scores).tolist() == [250, 0, 1, 2]


def test_final_count_is_near_the_set_limit() -> None:
    """40 per image: after the last cut as many boxes survive as the limit says, except for ties."""
    rng = np.random.default_rng(1)
    images = [rng.normal(size=577).astype(np.float32) for _ in range(50)]
    shortlist = Shortlist(1, per_image=100, per_set=40 * len(images))
    kept = [scores[shortlist.keep(0, scores)] for scores in images]
    assert sum(len(scores) for scores in kept) > 40 * len(images)
    assert sum(shortlist.survives(0, scores).sum() for scores in kept) == 40 * len(images)


def test_floor_is_strict_and_alone_without_a_set_limit() -> None:
    """SPPnet: above -1.5, and no threshold that moves."""
    shortlist = Shortlist(1, per_image=2, floor=-1.5)
    for _ in range(10):
        assert shortlist.keep(0, np.float32([-1.5, -1.25, 3, -2, 2])).tolist() == [2, 4]
    assert shortlist.thresholds[0] == -1.5
    assert shortlist.keep(0, np.float32([-1.5, -2])).shape == (0,)


def test_a_class_that_was_not_scored_keeps_nothing() -> None:
    shortlist = Shortlist(1, per_set=2)
    for _ in range(5):
        assert shortlist.keep(0, np.full(4, -np.inf, np.float32)).shape == (0,)
    assert shortlist.thresholds[0] == -math.inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_scores_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="class 2"):
        Shortlist(3).keep(2, np.float32([0.1, value]))


@pytest.mark.parametrize("limits", [{"per_image": 0}, {"per_set": 0}])
def test_limits_below_one_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Shortlist(1, **limits)


@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_resuming_goes_on_exactly(cut: int) -> None:
    images = stream(40, seed=9)

    def run(shortlist: Shortlist, part: list[NDArray[np.float32]]) -> list[list[int]]:
        return [shortlist.keep(label, scores).tolist() for scores in part for label in (0, 2)]

    whole = Shortlist(3, per_image=6, per_set=50)
    expected = run(whole, images)
    first = Shortlist(3, per_image=6, per_set=50)
    before = run(first, images[:cut])
    second = Shortlist(3, per_image=6, per_set=50)
    second.load_state_dict(first.state_dict())
    assert before + run(second, images[cut:]) == expected
    for name, array in whole.state_dict().items():
        assert array.tobytes() == second.state_dict()[name].tobytes(), name


def test_a_state_of_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="2 classes, expected 3"):
        Shortlist(3).load_state_dict(Shortlist(2).state_dict())


@pytest.mark.parametrize("per_set", [1, 7, 40])
def test_a_limit_that_is_lowered_at_the_end_is_as_if_it_had_been_the_limit_from_the_start(per_set: int) -> None:
    late, early = Shortlist(1, 10, 200), Shortlist(1, 10, per_set)
    scores = stream(60, seed=per_set)
    kept = [[image[shortlist.keep(0, image)] for image in scores] for shortlist in (late, early)]
    assert late.thresholds < early.thresholds
    late.limit(per_set)
    np.testing.assert_array_equal(late.thresholds, early.thresholds)
    for rows_late, rows_early in zip(*kept, strict=True):
        above = [rows[rows > early.thresholds[0]] for rows in (rows_late, rows_early)]  # ties are a matter of order
        np.testing.assert_array_equal(*above)
    late.limit(10_000)
    np.testing.assert_array_equal(late.thresholds, early.thresholds)
