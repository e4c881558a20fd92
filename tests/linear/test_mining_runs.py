"""Hard-negative mining over whole sets: a twin written from the description, few positives, resuming."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.linear.mining import LOG_COLUMNS, Miner
from lib.linear.svm import SvmSettings, fit

Rows = NDArray[np.float32]
Image = tuple[Rows, Rows]


def scenes(count: int = 30, features: int = 12, classes: int = 3) -> tuple[dict[str, Rows], list[Image]]:
    """Objects lean to their class's direction; proposals around them lean a little less; image 5 is empty."""
    rng = np.random.default_rng(0)
    directions = np.abs(rng.normal(0, 1, (classes, features)))
    positives: dict[str, list[Rows]] = {name: [] for name in "abc"[:classes]}
    images = []
    for number in range(count):
        rows = 0 if number == 5 else int(rng.integers(20, 60))
        overlaps = np.where(rng.random((rows, classes)) < 0.2, rng.random((rows, classes)), 0).astype(np.float32)
        values = overlaps @ directions * 3 + np.abs(rng.normal(0, 1.5, (rows, features)))
        values = values.astype(np.float32)
        if rows:
            label = int(rng.integers(0, classes))
            overlaps[0], values[0] = 0, directions[label] * 3 + np.abs(rng.normal(0, 1, features))
            overlaps[0, label] = 1
            positives["abc"[label]].append(values[0])
        images.append((values, overlaps))
    return {name: np.array(rows) for name, rows in positives.items()}, images


def mine(miner: Miner, images: list[Image], start: int = 0) -> Miner:
    for number in range(start, len(images)):
        miner.add_image(number, *images[number], last=number == len(images) - 1)
    return miner


QUICK = SvmSettings(C=0.01, retrain_after=60, evict_threshold=-1.1)


def twin(
    positives: Rows, images: list[Image], label: int, s: SvmSettings
) -> tuple[Rows, float, dict[tuple, Rows]]:
    """One class by the book: a cache by key, a count, trainings, evictions."""
    cache: dict[tuple[int, int], Rows] = {}
    w, b = np.zeros(positives.shape[1], np.float32), np.float32(0)
    added = 0
    for number, (features, overlaps) in enumerate(images):
        for row in range(len(features)):
            hard = number == 0 or features[row] @ w + b > s.hard_threshold
            negative = overlaps[row, label] < s.negative_iou or overlaps[row, label] == 0
            if hard and negative and (number, row) not in cache:
                cache[number, row] = features[row]
                added += 1
        if cache and (number == 0 or added > s.retrain_after or number == len(images) - 1):
            w, b, _ = fit(positives, np.array(list(cache.values())), s)
            cache = {key: row for key, row in cache.items() if row @ w + b >= s.evict_threshold}
            added = 0
    return w, b, cache


def test_equals_the_twin() -> None:
    positives, images = scenes()
    miner = mine(Miner(list("abc"), positives, QUICK), images)
    for label, name in enumerate("abc"):
        w, b, cache = twin(positives[name], images, label, QUICK)
        np.testing.assert_array_equal(miner.weights[label], w)
        assert miner.bias[label] == b
        assert [tuple(key) for key in miner.cache.keys(label)] == list(cache)
    assert len(miner.log) > 9, "several trainings a class, or the test shows little"
    assert miner.log[:, LOG_COLUMNS.index("evicted")].sum() > 0


def test_mined_negatives_are_logged_and_fall() -> None:
    """After the first trainings fewer boxes of an image are hard."""
    positives, images = scenes(count=60)
    miner = Miner(list("abc"), positives, SvmSettings(C=1.0, retrain_after=1, hard_threshold=-0.5))
    mine(miner, images)
    early = [row for row in miner.log.tolist() if 0 < row[0] <= 15]
    late = [row for row in miner.log.tolist() if row[0] >= 45]
    share = [sum(row[3] for row in part) for part in (early, late)]
    assert 0 < share[1] < 0.8 * share[0]


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 6, 17, 29])
def test_resuming_gives_the_same_bytes(cut: int) -> None:
    positives, images = scenes()
    whole = mine(Miner(list("abc"), positives, QUICK), images)
    first = Miner(list("abc"), positives, QUICK)
    for number in range(cut):
        first.add_image(number, *images[number])
    second = Miner(list("abc"), positives, QUICK)
    second.load_state_dict(first.state_dict())
    mine(second, images, start=cut)
    expected, got = whole.state_dict(), second.state_dict()
    assert expected.keys() == got.keys()
    for name in expected:
        assert expected[name].tobytes() == got[name].tobytes(), name


def test_a_state_does_not_change_afterwards() -> None:
    positives, images = scenes()
    miner = Miner(list("abc"), positives, QUICK)
    miner.add_image(0, *images[0])
    state = miner.state_dict()
    before = {name: array.tobytes() for name, array in state.items()}
    mine(miner, images, start=1)
    assert before == {name: array.tobytes() for name, array in state.items()}


def test_a_state_of_other_classes_is_refused() -> None:
    positive = np.ones((1, 1), np.float32)
    state = Miner(["a", "b"], {"a": positive}, QUICK).state_dict()
    with pytest.raises(ValueError, match="expected"):
        Miner(["a"], {"a": positive}, QUICK).load_state_dict(state)


@pytest.mark.parametrize("absent", [True, False])
def test_a_class_without_objects_is_skipped(absent: bool) -> None:
    positives, images = scenes()
    without = [(features, overlaps[:, [0, 2]]) for features, overlaps in images]
    alone = mine(Miner(["a", "c"], {name: positives[name] for name in "ac"}, QUICK), without)
    few = {**positives, "b": positives["b"][:0]}
    if absent:
        del few["b"]
    miner = mine(Miner(list("abc"), few, QUICK), images)
    np.testing.assert_array_equal(miner.trained, [True, False, True])
    np.testing.assert_array_equal(miner.weights[[0, 2]], alone.weights)
    np.testing.assert_array_equal(miner.weights[1], np.zeros(12))
    assert len(miner.cache.keys(1)) == 0
    assert (miner.scores(images[0][0])[:, 1] == -np.inf).all()
    assert np.isfinite(miner.scores(images[0][0])[:, [0, 2]]).all()
    assert miner.notes == ["b: no object to learn from, so it has no SVM and no scores."]


@pytest.mark.parametrize(("count", "flagged"), [(1, True), (2, False)])
def test_one_object_is_trained_and_flagged(count: int, flagged: bool) -> None:
    positives, images = scenes()
    positives["b"] = positives["b"][:count]
    miner = mine(Miner(list("abc"), positives, QUICK), images)
    assert miner.trained.all()
    assert miner.positives[1] == count
    assert miner.notes == (["b: its SVM rests on one object."] if flagged else [])


def test_identical_boxes_do_not_fail() -> None:
    same = np.ones((30, 4), np.float32)
    miner = Miner(["a"], {"a": same[:3]}, SvmSettings())
    mine(miner, [(same, np.zeros((30, 1), np.float32))] * 3)
    assert miner.trained.all()
    assert np.isfinite(miner.scores(same)).all()


def test_trainings_that_do_not_converge_are_noted() -> None:
    positives, images = scenes()
    miner = mine(Miner(list("abc"), positives, SvmSettings(C=1.0, tol=1e-9, max_iter=1)), images)
    assert miner.notes[0] == "a: 2 trainings did not converge (max_iter 1)."
