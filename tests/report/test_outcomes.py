"""What is kept of a run: enough for its average precision, and no more."""

import numpy as np
import pytest

from lib.evaluation.average_precision import evaluate, mean
from lib.evaluation.inputs import Inputs
from lib.report import bootstrap, outcomes
from lib.report.outcomes import OfClass, Outcomes
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables

BOX, AWAY = (0, 0, 10, 10), (50, 50, 60, 60)


def test_by_hand():
    """k: right in b, wrong in a, right in a, wrong in b, which nothing depends on; l: never right."""
    inputs = Inputs.of(
        images_table("a", "b"), objects_table(("a", "k", BOX), ("b", "k", BOX), ("b", "l", BOX)),
        detections_table(("b", "k", BOX, 0.9), ("a", "k", AWAY, 0.8), ("a", "k", BOX, 0.7), ("b", "k", AWAY, 0.6),
                         ("a", "l", BOX, 0.5)), ["k", "l"],
    )
    kept = Outcomes.of(inputs)
    assert kept.classes["k"].image.tolist() == [1, 0, 0]
    assert kept.classes["k"].right.tolist() == [True, False, True]
    assert len(kept.classes["l"].image) == 0
    assert {name: images.tolist() for name, images in kept.objects.items()} == {"k": [0, 1], "l": [1]}
    assert len(Outcomes.of(inputs, 1.0).classes["k"].image) == 3, "an IoU of 1 reaches a threshold of 1"


@pytest.mark.parametrize("measure", ["voc07_map", "voc10_map"])
def test_what_is_left_out_changes_no_average(measure):
    tables = random_tables(4, images=8)
    inputs = Inputs.of(*tables, ["a", "b", "c"])
    value = bootstrap.means(Outcomes.of(inputs), np.ones((1, 8), np.int64), measure)[0]
    results = evaluate(inputs)
    assert value == pytest.approx(mean([r.ap11 if measure == "voc07_map" else r.ap_area for r in results]))
    assert sum(len(kept.image) for kept in Outcomes.of(inputs).classes.values()) < len(inputs.detections)


def test_same_is_strict():
    kept = Outcomes(["a", "b"], {"k": OfClass(np.array([0, 1]), np.array([True, False]))}, {"k": np.array([0])})
    others = ([0, 0], [True, False], "ab"), ([0, 1], [True, True], "ab"), ([0, 1], [True, False], "ac")
    for image, right, images in others:
        other = Outcomes(list(images), {"k": OfClass(np.array(image), np.array(right))}, kept.objects)
        assert not kept.same(other)
        assert other.same(other)


def test_other_images_are_refused():
    one, two = (Outcomes(list(names), {}, {}) for names in ("ab", "ac"))
    assert outcomes.common_images([one, one]) == 2
    with pytest.raises(ValueError, match="different images"):
        outcomes.common_images([one, two])
