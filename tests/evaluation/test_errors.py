"""The kinds of errors, one hand-made box for each rule and each precedence, and the gain from fixing them."""

import numpy as np
import pytest

from lib.evaluation import errors
from lib.evaluation.average_precision import evaluate, mean
from lib.evaluation.errors import BG, CORRECT, IGNORE, LOC, OTH, SIM, classify, effects, missed_rows, shares
from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import match
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables

SQUARE = (0, 0, 100, 100)
CLASSES = ["cat", "dog", "car"]
ANIMALS = [["cat", "dog"]]


def at(iou: float) -> tuple[float, float, float, float]:
    """A box as high as SQUARE that shares this IoU with it: a strip inside it."""
    return 0, 0, 100 * iou, 100


def make(objects, detections, images=("i",)):
    return Inputs.of(images_table(*images), objects_table(*objects), detections_table(*detections), CLASSES)


def kinds(objects, *detections, groups=ANIMALS):
    """Kinds of detections of class "cat" (or (class, box)), scored 0.9, 0.8 ... in this order."""
    rows = [("i", *(d if isinstance(d[0], str) else ("cat", d)), 0.9 - 0.1 * n) for n, d in enumerate(detections)]
    inputs = make([("i", *o) for o in objects], rows)
    classified = classify(inputs, groups)
    return inputs.detections.in_table_order(classified.kind).tolist()


def test_one_rule_each():
    assert kinds([("cat", SQUARE)], SQUARE) == [CORRECT]
    assert kinds([("cat", SQUARE, "difficult")], SQUARE, SQUARE) == [IGNORE, IGNORE]
    assert kinds([("cat", SQUARE)], at(0.3)) == [LOC]
    assert kinds([("cat", SQUARE)], SQUARE, SQUARE) == [CORRECT, LOC]  # a duplicate
    assert kinds([("dog", SQUARE)], SQUARE) == [SIM]
    assert kinds([("car", SQUARE)], SQUARE) == [OTH]
    assert kinds([("cat", SQUARE)], (200, 200, 300, 300)) == [BG]
    assert kinds([], SQUARE) == [BG]


def test_thresholds_are_reached_by_equality():
    assert kinds([("cat", SQUARE)], at(0.5)) == [CORRECT]
    assert kinds([("cat", SQUARE)], at(0.49)) == [LOC]
    assert kinds([("cat", SQUARE)], at(0.1)) == [LOC]
    assert kinds([("cat", SQUARE)], at(0.09)) == [BG]
    assert kinds([("car", SQUARE)], at(0.1)) == [OTH]
    assert kinds([("car", SQUARE)], at(0.09)) == [BG]


def test_own_class_comes_before_any_other():
    # IoU 0.2 with its own class, 1 with a similar and another class.
    assert kinds([("cat", at(0.2)), ("dog", SQUARE)], SQUARE) == [LOC]
    assert kinds([("cat", at(0.2)), ("car", SQUARE)], SQUARE) == [LOC]
    assert kinds([("cat", SQUARE), ("dog", SQUARE)], SQUARE) == [CORRECT]
    # A duplicate that also lies on a dog is a duplicate.
    assert kinds([("cat", SQUARE), ("dog", SQUARE)], SQUARE, SQUARE) == [CORRECT, LOC]


def test_the_other_class_of_largest_overlap_decides():
    assert kinds([("dog", at(0.2)), ("car", at(0.4))], SQUARE) == [OTH]
    assert kinds([("dog", at(0.4)), ("car", at(0.2))], SQUARE) == [SIM]


def test_a_loose_box_on_a_difficult_object_is_loc():
    assert kinds([("cat", SQUARE, "difficult")], at(0.3)) == [LOC]


def test_crowd_regions_are_nobodys_rival_and_excuse_what_lies_in_them():
    assert kinds([("car", SQUARE, "crowd")], SQUARE) == [BG]
    assert kinds([("cat", SQUARE, "crowd")], SQUARE) == [IGNORE]


def test_similarity_is_a_matter_of_groups():
    assert kinds([("dog", SQUARE)], SQUARE, groups=[]) == [OTH]
    assert kinds([("dog", SQUARE)], SQUARE, groups=[["dog", "car"], ["cat", "lynx"]]) == [OTH]
    assert kinds([("dog", SQUARE)], SQUARE, groups=[["dog", "car"], ["cat", "dog"]]) == [SIM]
    similar = errors.similar_classes(["a", "b", "c", "d"], [["a", "b"], ["b", "c", "none"]])
    assert similar.tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_with_one_class_nothing_is_confused():
    images, objects, detections = random_tables(3, images=20, classes=("a",))
    classified = classify(Inputs.of(images, objects, detections, ["a"]), [["a"]])
    assert not np.isin(classified.kind, [SIM, OTH]).any()
    assert {LOC, BG, CORRECT} <= set(classified.kind.tolist())


def test_kinds_agree_with_the_average_on_what_is_right():
    images, objects, detections = random_tables(5, images=30)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    classified = classify(inputs)
    for label, result in enumerate(evaluate(inputs)):
        kind = classified.kind[inputs.detections.label == label]
        assert (kind == IGNORE).sum() == result.ignored
        assert (kind == CORRECT).sum() / result.objects == pytest.approx(result.recall.max(initial=0))


def test_objects_used_as_detections_have_no_errors():
    images, objects, _ = random_tables(6, images=20)
    objects = objects.drop_duplicates(["image_id", "class", "x1", "y1", "x2", "y2"])
    objects = objects[~objects["crowd"]]
    detections = objects.assign(score=0.5)[["image_id", "class", "x1", "y1", "x2", "y2", "score"]]
    classified = classify(Inputs.of(images, objects, detections, ["a", "b", "c"]))
    assert set(classified.kind.tolist()) <= {CORRECT, IGNORE}
    assert set(classified.fate.tolist()) <= {errors.FOUND, -1}
    assert all(row["gain"] == 0 and row["count"] == 0 for row in effects(classified))


def test_fate_of_objects():
    far = (300, 0, 400, 100)
    inputs = make(
        [("i", "cat", SQUARE), ("i", "cat", far), ("j", "cat", SQUARE), ("k", "cat", SQUARE),
         ("k", "dog", far, "difficult")],
        [("i", "cat", SQUARE, 0.9), ("i", "cat", (300, 0, 330, 100), 0.8), ("j", "dog", SQUARE, 0.7)],
        images=("i", "j", "k"),
    )
    classified = classify(inputs, ANIMALS)
    cats = missed_rows(classified)[0]
    assert cats == {"class": "cat", "objects": 4, "found": 1, "loose": 1, "confused": 1, "unseen": 1}
    assert missed_rows(classified)[-1]["objects"] == 4  # the difficult dog need not be classified


def test_gain_from_fixing_each_kind():
    # One class, 4 objects. By score: BG, right, duplicate, loose on the second, right on the third; the fourth missed.
    boxes = [(x, 0, x + 100, 100) for x in (0, 200, 400, 600)]
    rows = [(0, 300, 50, 350), boxes[0], (5, 0, 105, 100), (200, 0, 230, 100), boxes[2]]
    detections = [("i", "cat", box, 0.9 - 0.1 * n) for n, box in enumerate(rows)]
    inputs = make([("i", "cat", box) for box in boxes], detections)
    classified = classify(inputs)
    assert classified.kind.tolist() == [BG, CORRECT, LOC, LOC, CORRECT]
    assert classified.duplicate.tolist() == [False, False, True, False, False]
    before = (1 / 2 + 2 / 5) / 4
    cat = {row["kind"]: row for row in effects(classified) if row["class"] == "cat"}
    assert {kind: row["count"] for kind, row in cat.items()} == {"Loc": 2, "Sim": 0, "Oth": 0, "BG": 1, "missed": 2}
    assert all(row["ap"] == pytest.approx(before) for row in cat.values())
    # Loc: the duplicate goes, the loose one is right: wrong right right right, ceilings 3/4 everywhere.
    assert cat["Loc"]["ap_fixed"] == pytest.approx(3 / 4 * 3 / 4)
    # BG: right wrong wrong right.
    assert cat["BG"]["ap_fixed"] == pytest.approx((1 + 2 / 4) / 4)
    # missed: two objects are left to find.
    assert cat["missed"]["ap_fixed"] == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert cat["Sim"]["gain"] == 0
    total = {row["kind"]: row for row in effects(classified) if row["class"] == "all classes"}
    assert total["BG"]["gain"] == pytest.approx(cat["BG"]["gain"])  # dogs and cars have no objects


def test_fixing_never_falls_below_the_average_and_match_the_evaluator():
    images, objects, detections = random_tables(8, images=40)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    for row in effects(classify(inputs, [["a", "b"]])):
        assert row["kind"] == "Loc" or row["gain"] >= 0  # a loose box taken first can cost a better one its object
    total = effects(classify(inputs))[-1]
    assert total["ap"] == pytest.approx(mean([result.ap_area for result in evaluate(inputs)]))


def test_effects_of_many_classes_are_those_of_each_alone(monkeypatch):
    """What does not ask for other classes is the same where there are none; and all classes are matched at once."""
    classes = [f"c{number:02d}" for number in range(12)]
    images, objects, detections = random_tables(9, images=60, classes=classes)
    classified = classify(Inputs.of(images, objects, detections, classes), [classes[:5]])
    matchings = []
    monkeypatch.setattr(errors, "match", lambda *arguments: matchings.append(arguments) or match(*arguments))
    together = {(row["class"], row["kind"]): row for row in effects(classified)}
    assert len(matchings) == 1, "the matching of all classes is not repeated for each"
    gains = []
    for name in classes:
        of_class = (table[table["class"] == name] for table in (objects, detections))
        alone = {row["kind"]: row for row in effects(classify(Inputs.of(images, *of_class, [name]))) if row["count"]}
        for kind in ("Loc", "missed"):
            if kind in alone:
                assert together[name, kind] == {**alone[kind], "class": name}
                gains.append(alone[kind]["gain"])
    assert len(gains) > 12
    assert min(gains) != max(gains)


def test_shares_among_the_best_false_positives():
    rows = [((0, 300, 50, 350), 0.9), (SQUARE, 0.8), (SQUARE, 0.7), (SQUARE, 0.6), ((0, 300, 50, 350), 0.5)]
    inputs = make([("i", "cat", SQUARE)], [("i", "cat", box, score) for box, score in rows])
    table = shares(classify(inputs), [1, 3, 100])
    cat = {(row["top"], row["kind"]): row for row in table if row["class"] == "cat"}
    assert (cat[1, "BG"]["count"], cat[1, "BG"]["share"]) == (1, 1.0)
    assert (cat[3, "Loc"]["count"], cat[3, "Loc"]["share"]) == (2, pytest.approx(2 / 3))
    assert (cat[100, "BG"]["count"], cat[100, "BG"]["share"]) == (2, 0.5)
    assert all(row["share"] is None for row in table if row["class"] == "dog")
    everything = {(row["top"], row["kind"]): row["count"] for row in table if row["class"] == "all classes"}
    assert everything[100, "Loc"] == 2


def test_nothing_at_all():
    classified = classify(make([], []))
    assert classified.kind.shape == (0,)
    assert all(row["ap"] is None and row["gain"] is None for row in effects(classified))
    assert missed_rows(classified)[-1] == {
        "class": "all classes", "objects": 0, "found": 0, "loose": 0, "confused": 0, "unseen": 0,
    }


@pytest.mark.parametrize("background", [0, 0.6])
def test_thresholds_out_of_order(background):
    with pytest.raises(ValueError, match="background"):
        classify(make([], []), background=background)
