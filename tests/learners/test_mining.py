"""Hard-negative mining: each rule alone, a twin written from the description, few positives, resuming."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.core.errors import InputError
from lib.learners import svm
from lib.learners.svm import LOG_COLUMNS, Miner, SvmSettings, class_overlaps, fit

Rows = NDArray[np.float32]
Image = tuple[Rows, Rows]


@pytest.fixture
def score_is_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training yields w = 1, b = 0, so with one feature the score of a box is that feature."""
    monkeypatch.setattr(svm, "fit", lambda p, n, s: (np.ones(p.shape[1], np.float32), np.float32(0), 1))


def column(values: list[float]) -> Rows:
    return np.float32(values)[:, None]


def log(miner: Miner, name: str) -> list[int]:
    return miner.log[:, LOG_COLUMNS.index(name)].tolist()


def one_class(**settings: float) -> Miner:
    return Miner(["a"], {"a": column([1])}, SvmSettings(**settings))  # type: ignore[arg-type]


@pytest.mark.usefixtures("score_is_feature")
def test_first_image_gives_all_negatives_and_trains() -> None:
    miner = one_class(evict_threshold=-np.inf)
    miner.add_image(4, column([-9, -1, 0, 5]), column([0, 0.29, 0.2, 0.1]))
    assert miner.pool.keys(0).tolist() == [[4, 0], [4, 1], [4, 2], [4, 3]]
    assert miner.log.tolist() == [[4, 0, 4, 4, 0, 0, 1]]
    assert miner.trained.all()


@pytest.mark.usefixtures("score_is_feature")
def test_an_overlap_of_0_3_or_more_is_ignored() -> None:
    """Exactly 3 of 10 pixels is not below 0.3, computed as overlap here and given in double precision."""
    box = np.float32([[0, 0, 10, 1], [0, 0, 3, 1], [0, 0, 2, 1]])
    overlaps = class_overlaps(box, box[:1], np.array([0]), classes=1)
    for given in (overlaps, overlaps.astype(np.float64), np.array([[1], [3 / 10], [0.2]])):
        miner = one_class()
        miner.add_image(0, column([0, 0, 0]), given)
        miner.add_image(1, column([0, 0, 0]), given)
        assert miner.pool.keys(0).tolist() == [[0, 2], [1, 2]]


@pytest.mark.usefixtures("score_is_feature")
def test_later_images_give_only_boxes_above_the_hard_threshold() -> None:
    miner = one_class()
    miner.add_image(0, column([0]), column([0]))
    edge = np.float32(-1.0001)
    miner.add_image(1, column([edge, np.nextafter(edge, np.float32(0)), -1, -1.1, 3]), column([0] * 5))
    assert miner.pool.keys(0).tolist() == [[0, 0], [1, 1], [1, 2], [1, 4]]


@pytest.mark.usefixtures("score_is_feature")
def test_retrains_after_more_than_2000() -> None:
    miner = one_class()
    miner.add_image(0, column([0]), column([0]))
    miner.add_image(1, column([0] * 1500), column([0] * 1500))
    miner.add_image(2, column([0] * 500), column([0] * 500))
    assert log(miner, "image") == [0], "2000 are not more than 2000"
    miner.add_image(3, column([0]), column([0]))
    assert log(miner, "image") == [0, 3]
    assert log(miner, "added") == [1, 2001]
    assert log(miner, "negatives") == [1, 2002], "the whole cache, not only what is new"
    miner.add_image(4, column([0] * 2000), column([0] * 2000))
    assert log(miner, "image") == [0, 3], "the count starts again"


@pytest.mark.usefixtures("score_is_feature")
def test_last_image_always_trains() -> None:
    miner = one_class()
    miner.add_image(0, column([0]), column([0]))
    miner.add_image(1, column([-5]), column([0]), last=True)
    assert log(miner, "image") == [0, 1]
    assert log(miner, "added") == [1, 0]
    single = one_class()
    single.add_image(0, column([0]), column([0]), last=True)
    assert log(single, "image") == [0]


@pytest.mark.usefixtures("score_is_feature")
def test_eviction_is_strictly_below() -> None:
    edge = np.float32(-1.2)
    miner = one_class()
    miner.add_image(0, column([edge, np.nextafter(edge, np.float32(-9)), -7, 0]), column([0] * 4))
    assert miner.pool.keys(0).tolist() == [[0, 0], [0, 3]]
    assert log(miner, "evicted") == [2]
    assert len(miner.pool.rows) == 2, "rows that no class holds are forgotten"


@pytest.mark.usefixtures("score_is_feature")
def test_emptied_cache_keeps_the_model() -> None:
    miner = one_class()
    miner.add_image(0, column([-5, -6]), column([0, 0]))
    miner.add_image(1, column([-5]), column([0]), last=True)
    assert log(miner, "image") == [0]
    assert miner.trained.all()


@pytest.mark.usefixtures("score_is_feature")
def test_a_box_is_not_held_twice_and_may_come_back() -> None:
    miner = one_class()
    miner.add_image(0, column([0, -5]), column([0, 0]))
    assert miner.pool.keys(0).tolist() == [[0, 0]]
    miner.add_image(0, column([0, 2]), column([0, 0]))
    assert miner.pool.keys(0).tolist() == [[0, 0], [0, 1]], "box 1 was evicted and scores higher now"
    miner.add_image(0, column([0, 2]), column([0, 0]), last=True)
    assert log(miner, "negatives") == [2, 2]
    assert log(miner, "added") == [2, 1]


@pytest.mark.usefixtures("score_is_feature")
def test_objects_of_other_classes_are_negatives() -> None:
    """Rows: an object of a, an object of b far off, background."""
    boxes = np.float32([[0, 0, 10, 10], [50, 0, 60, 10], [90, 0, 99, 9]])
    overlaps = class_overlaps(boxes, boxes[:2], np.array([0, 1]), classes=2)
    miner = Miner(["a", "b"], {"a": column([1]), "b": column([1])}, SvmSettings())
    miner.add_image(0, column([0, 0, 0]), overlaps)
    assert miner.pool.keys(0).tolist() == [[0, 1], [0, 2]]
    assert miner.pool.keys(1).tolist() == [[0, 0], [0, 2]]
    assert len(miner.pool.rows) == 3, "a row that two classes hold is stored once"


@pytest.mark.usefixtures("score_is_feature")
def test_classes_train_at_different_images() -> None:
    miner = Miner(["a", "b"], {"a": column([1]), "b": column([1])}, SvmSettings(retrain_after=2))
    miner.add_image(0, column([0]), np.float32([[0, 0]]))
    miner.add_image(1, column([0] * 3), np.float32([[0, 0], [0, 0], [0, 1]]))
    miner.add_image(2, column([0]), np.float32([[0, 0]]))
    assert [tuple(row[:2]) for row in miner.log.tolist()] == [(0, 0), (0, 1), (1, 0), (2, 1)]


def test_no_negative_on_the_first_image() -> None:
    """Class b covers all of image 0; it takes everything from image 1 and trains there."""
    miner = Miner(["a", "b"], {"a": column([1]), "b": column([1])}, SvmSettings())
    miner.add_image(0, column([-3, -4]), np.float32([[0, 1], [0, 0.3]]))
    np.testing.assert_array_equal(miner.trained, [True, False])
    np.testing.assert_array_equal(miner.scores(column([0]))[:, 1], [-np.inf])
    miner.add_image(1, column([-90, -95]), np.float32([[0, 0], [0, 0]]))
    np.testing.assert_array_equal(miner.trained, [True, True])
    assert miner.log[miner.log[:, 1] == 1].tolist()[0][:4] == [1, 1, 2, 2]


def scenes(count: int = 30, features: int = 12, classes: int = 3, seed: int = 0) -> tuple[dict[str, Rows], list[Image]]:
    """Objects lean to their class's direction; proposals around them lean a little less; image 5 is empty."""
    rng = np.random.default_rng(seed)
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
    return {name: np.array(rows, np.float32).reshape(-1, features) for name, rows in positives.items()}, images


def mine(miner: Miner, images: list[Image], start: int = 0) -> Miner:
    for number in range(start, len(images)):
        miner.add_image(number, *images[number], last=number == len(images) - 1)
    return miner


QUICK = SvmSettings(C=0.01, retrain_after=60, evict_threshold=-1.1)


def twin(positives: Rows, images: list[Image], label: int, s: SvmSettings) -> tuple[Rows, float, dict[tuple, Rows]]:
    """One class by the book: a cache by key, a count, trainings, evictions."""
    cache: dict[tuple[int, int], Rows] = {}
    w, b, added = np.zeros(positives.shape[1], np.float32), np.float32(0), 0
    for number, (features, overlaps) in enumerate(images):
        for row in range(len(features)):
            hard = number == 0 or features[row] @ w + b > s.hard_threshold
            if hard and overlaps[row, label] < s.negative_iou and (number, row) not in cache:
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
        assert [tuple(key) for key in miner.pool.keys(label)] == list(cache)
    assert len(miner.log) > 9, "several trainings a class, or the test shows little"
    assert sum(log(miner, "evicted")) > 0


def test_mined_negatives_are_logged_and_fall() -> None:
    """After the first trainings fewer boxes of an image are hard."""
    positives, images = scenes(count=60)
    miner = Miner(list("abc"), positives, SvmSettings(C=1.0, retrain_after=1, hard_threshold=-0.5))
    mine(miner, images)
    early = [row for row in miner.log.tolist() if 0 < row[0] <= 15]
    late = [row for row in miner.log.tolist() if 45 <= row[0]]
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
    with pytest.raises(ValueError, match="expected"):
        Miner(["a", "b"], {"a": column([1])}, QUICK).load_state_dict(one_class().state_dict())


@pytest.mark.parametrize("absent", [True, False])
def test_a_class_without_objects_is_skipped(absent: bool) -> None:
    positives, images = scenes()
    alone = mine(Miner(["a", "c"], {k: positives[k] for k in "ac"}, QUICK), [(f, o[:, [0, 2]]) for f, o in images])
    few = {**positives, "b": positives["b"][:0]}
    if absent:
        del few["b"]
    miner = mine(Miner(list("abc"), few, QUICK), images)
    np.testing.assert_array_equal(miner.trained, [True, False, True])
    np.testing.assert_array_equal(miner.weights[[0, 2]], alone.weights)
    np.testing.assert_array_equal(miner.weights[1], np.zeros(12))
    assert len(miner.pool.keys(1)) == 0
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


def test_objects_everywhere() -> None:
    """No box of any image is a negative: the class stays untrained and says so."""
    miner = mine(one_class(), [(column([1, 2]), column([1, 0.5]))] * 3)
    assert not miner.trained.any()
    assert miner.notes == ["a: no negative was found, so it has no SVM and no scores."]


def test_images_without_boxes() -> None:
    empty = (np.empty((0, 1), np.float32), np.empty((0, 1), np.float32))
    miner = mine(one_class(), [empty, (column([-3]), column([0])), empty])
    assert miner.trained.all()
    assert log(miner, "image")[0] == 1
    assert miner.scores(empty[0]).shape == (0, 1)


@pytest.mark.usefixtures("score_is_feature")
def test_cap_keeps_the_hardest_and_says_so() -> None:
    miner = one_class(max_negatives=3, retrain_after=2)
    miner.add_image(0, column([0.1, 0.2, 0.3, 0.4, 0.5]), column([0] * 5))
    assert miner.pool.keys(0).tolist() == [[0, 0], [0, 1], [0, 2]], "no model yet: the first ones"
    miner.add_image(1, column([0.15, 0.9, 0.25]), column([0] * 3))
    assert miner.pool.keys(0).tolist() == [[0, 2], [1, 1], [1, 2]]
    assert log(miner, "negatives") == [3, 3]
    assert log(miner, "dropped") == [2, 3]
    assert miner.notes[-1] == "a: the 5 easiest negatives left out (max_negatives 3)."


def test_trainings_that_do_not_converge_are_noted() -> None:
    positives, images = scenes()
    miner = mine(Miner(list("abc"), positives, SvmSettings(C=1.0, tol=1e-9, max_iter=1)), images)
    assert [note for note in miner.notes if note.startswith("a:")] == ["a: 2 trainings did not converge (max_iter 1)."]


def broken_image(miner: Miner) -> None:
    miner.add_image(8, column([0, np.nan]), column([0, 0]))


def broken_positive(_: Miner) -> None:
    Miner(["a"], {"a": column([0, np.inf])}, SvmSettings())


@pytest.mark.parametrize(("act", "where"), [(broken_image, "image 8, row 1"), (broken_positive, "of a, row 1")])
def test_non_finite_features_are_refused(act: Callable[[Miner], None], where: str) -> None:
    with pytest.raises(InputError, match=where):
        act(one_class())


def test_positives_of_unequal_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        Miner(["a", "b"], {"a": column([1]), "b": np.ones((1, 2), np.float32)}, SvmSettings())
    with pytest.raises(ValueError, match="found D in"):
        Miner(["a"], {}, SvmSettings())
