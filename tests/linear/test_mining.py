"""Hard-negative mining, each rule alone."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from lib.boxes.boxes import class_overlaps
from lib.linear import svm
from lib.linear.mining import LOG_COLUMNS, Miner
from lib.linear.svm import SvmSettings
from lib.stage.errors import InputError

Rows = NDArray[np.float32]


@pytest.fixture
def score_is_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training yields w = 1, b = 0, so with one feature the score of a box is that feature."""
    monkeypatch.setattr(svm, "fit", lambda p, n, s, seed: (np.ones(p.shape[1], np.float32), np.float32(0), 1))


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
    assert miner.cache.keys(0).tolist() == [[4, 0], [4, 1], [4, 2], [4, 3]]
    assert miner.log.tolist() == [[4, 0, 4, 4, 0, 0, 1]]
    assert miner.trained.all()


@pytest.mark.usefixtures("score_is_feature")
def test_an_overlap_of_0_3_or_more_is_ignored() -> None:
    """Exactly 3 of 10 pixels is not below 0.3, computed as overlap here and given in double precision."""
    box = np.float32([[0, 0, 10, 1], [0, 0, 3, 1], [0, 0, 2, 1]])
    overlaps = class_overlaps(box, box[:1], np.array([0]), classes=1)
    for same in (overlaps, overlaps.astype(np.float64), np.array([[1], [3 / 10], [0.2]])):
        miner = one_class()
        miner.add_image(0, column([0, 0, 0]), same)
        miner.add_image(1, column([0, 0, 0]), same)
        assert miner.cache.keys(0).tolist() == [[0, 2], [1, 2]]


@pytest.mark.usefixtures("score_is_feature")
def test_a_threshold_of_0_leaves_what_touches_no_object() -> None:
    """R-CNN §2.3 tried 0 as well: boxes without any overlap stay negatives."""
    miner = one_class(negative_iou=0.0)
    miner.add_image(0, column([0, 0, 0]), column([1, 0.001, 0]))
    assert miner.cache.keys(0).tolist() == [[0, 2]]


@pytest.mark.usefixtures("score_is_feature")
def test_later_images_give_only_boxes_above_the_hard_threshold() -> None:
    miner = one_class()
    miner.add_image(0, column([0]), column([0]))
    edge = np.float32(-1.0001)
    miner.add_image(1, column([edge, np.nextafter(edge, np.float32(0)), -1, -1.1, 3]), column([0] * 5))
    assert miner.cache.keys(0).tolist() == [[0, 0], [1, 1], [1, 2], [1, 4]]


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
    assert miner.cache.keys(0).tolist() == [[0, 0], [0, 3]]
    assert log(miner, "evicted") == [2]
    assert len(miner.cache.rows) == 2, "rows that no class holds are forgotten"


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
    assert miner.cache.keys(0).tolist() == [[0, 0]]
    miner.add_image(0, column([0, 2]), column([0, 0]))
    assert miner.cache.keys(0).tolist() == [[0, 0], [0, 1]], "box 1 was evicted and scores higher now"
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
    assert miner.cache.keys(0).tolist() == [[0, 1], [0, 2]]
    assert miner.cache.keys(1).tolist() == [[0, 0], [0, 2]]
    assert len(miner.cache.rows) == 3, "a row that two classes hold is stored once"


@pytest.mark.usefixtures("score_is_feature")
def test_classes_train_at_different_images() -> None:
    miner = Miner(["a", "b"], {"a": column([1]), "b": column([1])}, SvmSettings(retrain_after=2))
    miner.add_image(0, column([0]), np.float32([[0, 0]]))
    miner.add_image(1, column([0] * 3), np.float32([[0, 0], [0, 0], [0, 1]]))
    miner.add_image(2, column([0]), np.float32([[0, 0]]))
    assert [tuple(row[:2]) for row in miner.log.tolist()] == [(0, 0), (0, 1), (1, 0), (2, 1)]
    rows = miner.log_rows()
    assert [(row["image"], row["class"]) for row in rows] == [(0, "a"), (0, "b"), (1, "a"), (2, "b")]
    assert [row["added"] for row in rows] == [1, 1, 3, 3]


def test_no_negative_on_the_first_image() -> None:
    """Class b covers all of image 0; it takes everything from image 1 and trains there."""
    miner = Miner(["a", "b"], {"a": column([1]), "b": column([1])}, SvmSettings())
    miner.add_image(0, column([-3, -4]), np.float32([[0, 1], [0, 0.3]]))
    np.testing.assert_array_equal(miner.trained, [True, False])
    np.testing.assert_array_equal(miner.scores(column([0]))[:, 1], [-np.inf])
    miner.add_image(1, column([-90, -95]), np.float32([[0, 0], [0, 0]]))
    np.testing.assert_array_equal(miner.trained, [True, True])
    assert miner.log[miner.log[:, 1] == 1].tolist()[0][:4] == [1, 1, 2, 2]


def test_objects_everywhere() -> None:
    """No box of any image is a negative: the class stays untrained and says so."""
    miner = one_class()
    for number in range(3):
        miner.add_image(number, column([1, 2]), column([1, 0.5]), last=number == 2)
    assert not miner.trained.any()
    assert miner.notes == ["a: no negative was found, so it has no SVM and no scores."]


def test_images_without_boxes() -> None:
    empty = np.empty((0, 1), np.float32)
    miner = one_class()
    miner.add_image(0, empty, empty)
    miner.add_image(1, column([-3]), column([0]))
    miner.add_image(2, empty, empty, last=True)
    assert miner.trained.all()
    assert log(miner, "image")[0] == 1
    assert miner.scores(empty).shape == (0, 1)


def test_many_views_of_one_object_are_one_object() -> None:
    views = np.ones((6, 1), np.float32)
    for objects, says in ((None, False), ([2], False), ([1], True)):
        miner = Miner(["a"], {"a": views}, SvmSettings(), objects=objects)
        miner.add_image(0, np.float32([[-5]]), np.float32([[0]]), last=True)
        assert any("rests on one object" in note for note in miner.notes) == says


@pytest.mark.usefixtures("score_is_feature")
def test_cap_keeps_the_hardest_and_says_so() -> None:
    miner = one_class(max_negatives=3, retrain_after=2)
    miner.add_image(0, column([0.1, 0.2, 0.3, 0.4, 0.5]), column([0] * 5))
    assert miner.cache.keys(0).tolist() == [[0, 0], [0, 1], [0, 2]], "no model yet: the first ones"
    miner.add_image(1, column([0.15, 0.9, 0.25]), column([0] * 3))
    assert miner.cache.keys(0).tolist() == [[0, 2], [1, 1], [1, 2]]
    assert log(miner, "negatives") == [3, 3]
    assert log(miner, "dropped") == [2, 3]
    assert miner.notes[-1] == ("a: 5 negatives left out (max_negatives 3): the easiest under its SVM until then, "
                               "before its first the last ones.")


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
