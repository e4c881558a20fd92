"""`stages.evaluate` by hand, on tables anywhere, written by anybody."""

import json
import sys
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.evaluation import inputs, scores
from lib.stage.errors import InputError
from lib.storage import tables
from stages import evaluate
from tests.evaluation.eval_tables import detections_table, objects_table


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cat and a dog, each with a right detection; a third detection says cat on the dog."""
    monkeypatch.chdir(tmp_path)
    objects = objects_table(("i.jpg", "cat", [0, 0, 10, 10]), ("i.jpg", "dog", [50, 50, 60, 60]))
    detections = detections_table(
        ("i.jpg", "cat", [0, 0, 10, 10], 0.5), ("i.jpg", "cat", [50, 50, 60, 60], 0.9),
        ("i.jpg", "dog", [50, 50, 60, 60], 0.5),
    )
    image = {"image_id": "i.jpg", "split": "test", "width": 99, "height": 99, "transpose": False, "content": "0" * 32}
    tables.write(tmp_path / "images.parquet", pd.DataFrame([image]), tables.IMAGES)
    tables.write(tmp_path / "own.parquet", objects, tables.OBJECTS)
    tables.write(tmp_path / "detections.parquet", detections, tables.DETECTIONS)
    tables.write_json(tmp_path / "classes.json", ["cat", "dog"])
    return tmp_path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--detections", "detections.parquet", *words])
    evaluate.by_hand()
    text = capsys.readouterr().out
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")], text


def test_the_table_of_objects_may_have_any_name(folder, monkeypatch, capsys):
    rows, text = run(monkeypatch, capsys, "--objects", "own.parquet")
    kinds = {(row["class"], row["kind"]): row["count"] for row in rows if "kind" in row}
    assert kinds["cat", "Oth"] == 1
    assert kinds["cat", "Sim"] == 0
    assert '"voc10_map": 0.75' in text  # cat: 1/2, dog: 1
    with pytest.raises(SystemExit, match="none.parquet: the file is not there"):
        run(monkeypatch, capsys, "--objects", "none.parquet")


def test_the_settings_are_those_of_params_yaml(folder, monkeypatch, capsys):
    block = {
        "iou": 0.5, "max_detections": 100, "background": 0.1, "similar": [["cat", "dog"]], "top": [25],
        "curve_points": 200,
    }
    (folder / "params.yaml").write_text(json.dumps({"evaluate": block}))
    rows, _ = run(monkeypatch, capsys, "--objects", "own.parquet")
    assert {(row["class"], row["kind"]): row["count"] for row in rows if "kind" in row}["cat", "Sim"] == 1


def test_levels_of_the_eleven_points(folder, monkeypatch, capsys):
    boxes = [[8 * n, 0, 8 * n + 4, 10] for n in range(10)]
    objects = objects_table(*[("i.jpg", "cat", box) for box in boxes])
    detections = detections_table(*[("i.jpg", "cat", box, 0.5) for box in boxes[:3]])
    tables.write(folder / "own.parquet", objects, tables.OBJECTS)
    tables.write(folder / "detections.parquet", detections, tables.DETECTIONS)
    for levels, reached in (("exact", 4), ("numpy", 3)):
        (folder / "params.yaml").write_text(json.dumps({"evaluate": {"levels": levels}}))
        rows, _ = run(monkeypatch, capsys, "--objects", "own.parquet")
        assert next(row["voc07_ap"] for row in rows if "voc07_ap" in row) == pytest.approx(reached / 11)


def test_all_that_is_missing_at_once(folder, monkeypatch, capsys):
    for name in ("images.parquet", "classes.json", "detections.parquet"):
        (folder / name).unlink()
    with pytest.raises(SystemExit) as error:
        run(monkeypatch, capsys, "--objects", "own.parquet")
    for name in ("images.parquet", "classes.json", "detections.parquet"):
        assert name in str(error.value)


def test_an_unknown_split(folder, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--objects", "own.parquet", "--split", "tset")
    assert "invalid choice: 'tset'" in capsys.readouterr().err


def tables_of(folder, objects, detections, images=None, classes=("cat", "dog")):
    """The four files of an evaluation; images of 200 x 200 pixels."""
    names = images or list(dict.fromkeys(chain(objects["image_id"], detections["image_id"])))
    rows = [(name, "test", 200, 200, False, "0" * 32) for name in names]
    tables.write(folder / "images.parquet", pd.DataFrame(rows, columns=tables.IMAGES.names), tables.IMAGES)
    objects.to_parquet(folder / "own.parquet")
    detections.to_parquet(folder / "detections.parquet")
    tables.write_json(folder / "classes.json", list(classes))


def metrics(monkeypatch, capsys, *words):
    """The metrics of the command line, read as strict JSON."""
    def refuse(text):
        raise ValueError(text)

    _, text = run(monkeypatch, capsys, "--objects", "own.parquet", *words)
    return json.loads(text[text.rindex("\n{\n") :], parse_constant=refuse)


BOX = (10, 10, 30, 30)


def test_cases_53_and_54_a_class_without_objects_is_null_and_no_mean_of_nothing_is_a_number(
    folder, monkeypatch, capsys
):
    detections = detections_table(("a", "cat", BOX, 0.5), ("a", "dog", BOX, 0.9))
    tables_of(folder, objects_table(("a", "cat", BOX)), detections)
    rows, text = run(monkeypatch, capsys, "--objects", "own.parquet")
    dog, = [row for row in rows if row["class"] == "dog" and "kind" not in row]
    assert {name for name, value in dog.items() if value is None} >= {"voc10_ap", "voc07_ap"}
    assert "NaN" not in text
    values = metrics(monkeypatch, capsys)
    assert (values["voc10_map"], values["coco_map"]) == (1.0, 1.0)
    assert "the others have 1 detections, which are not counted" in text
    tables_of(folder, objects_table(("a", "cat", BOX, "difficult")), detections_table(("a", "cat", BOX, 0.5)))
    values = metrics(monkeypatch, capsys)
    assert (values["voc07_map"], values["voc10_map"], values["coco_map"]) == (None, None, None)


def test_case_55_difficult_objects(folder, monkeypatch, capsys):
    objects = objects_table(("a", "cat", BOX), ("a", "cat", (60, 60, 80, 80), "difficult"))
    right = [("a", "cat", (60, 60, 80, 80), 0.9), ("a", "cat", BOX, 0.8)]
    tables_of(folder, objects, detections_table(*right))
    assert metrics(monkeypatch, capsys)["voc10_map"] == 1.0
    tables_of(folder, objects, detections_table(("a", "cat", (60, 60, 80, 81), 0.95), *right))
    assert metrics(monkeypatch, capsys)["voc10_map"] == 1.0
    tables_of(folder, objects[:1], detections_table(*right), images=["a"])
    assert metrics(monkeypatch, capsys)["voc10_map"] == 0.5


def test_case_56_duplicates_shuffled_rows_and_the_highest_score(folder, monkeypatch, capsys):
    second = (100, 100, 130, 130)
    objects = objects_table(("a", "cat", BOX), ("a", "cat", second))
    detections = detections_table(("a", "cat", BOX, 0.9), ("a", "cat", BOX, 0.8), ("a", "cat", second, 0.7))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        tables_of(folder, objects, detections.iloc[order])
        values = metrics(monkeypatch, capsys)
        assert values["voc10_map"] == pytest.approx(5 / 6)
        assert values["voc07_map"] == pytest.approx((6 + 5 * 2 / 3) / 11)
        assert values["coco_map50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    ties = detections_table(("a", "cat", BOX, 1.0), ("b", "cat", BOX, 1.0))
    results = []
    for order in ([0, 1], [1, 0]):
        tables_of(folder, objects[:1], ties.iloc[order], images=["b", "a"])
        results.append(metrics(monkeypatch, capsys))
    assert results[0] == results[1]
    close = detections_table(("a", "cat", (10, 10, 30, 24), 0.92), ("a", "cat", (10, 10, 30, 28), 0.91))
    tables_of(folder, objects[:1], close)
    assert metrics(monkeypatch, capsys)["voc10_map"] == 1.0  # the second is the duplicate, though its IoU is higher


def test_case_56a_limits_and_empties(folder, monkeypatch, capsys):
    objects = objects_table(("a", "cat", BOX))
    tables_of(folder, objects, detections_table())
    with pytest.warns(UserWarning, match="there are no detections"):
        assert metrics(monkeypatch, capsys)["voc10_map"] == 0
    tables_of(folder, objects, detections_table(("gone", "cat", BOX, 0.5)), images=["a"])
    with pytest.raises(SystemExit, match="image 'gone' .* is not in the split that is scored"):
        run(monkeypatch, capsys, "--objects", "own.parquet")
    wrong = [("a", "cat", (100, 100, 110, 110 + number % 50), 0.9 - number / 1000) for number in range(1, 101)]
    tables_of(folder, objects, detections_table(*wrong, ("a", "cat", BOX, 0.1)))
    values = metrics(monkeypatch, capsys)
    assert values["coco_map"] == 0
    assert values["voc10_map"] == pytest.approx(1 / 101)
    assert "at most 100 detections per image and class" in run(monkeypatch, capsys, "--objects", "own.parquet")[1]


def test_case_56c_nothing_is_remembered_between_two_runs(folder, monkeypatch, capsys):
    detections = detections_table(("a", "cat", BOX, 0.5))
    for box, expected in ((BOX, 1.0), ((100, 100, 120, 120), 0.0), (BOX, 1.0)):
        tables_of(folder, objects_table(("a", "cat", box)), detections)
        assert metrics(monkeypatch, capsys)["voc10_map"] == expected
    tables_of(folder, objects_table(("a", "cat", BOX)), detections, classes=["feline"])
    with pytest.raises(SystemExit, match="class 'cat' .* is not in the class list"):
        run(monkeypatch, capsys, "--objects", "own.parquet")


@pytest.mark.parametrize("data", [b'["cat", "do', b"", b'["c\xff"]', b'["cat" "dog"]', None])
def test_case_112_classes_that_are_no_whole_json(folder, monkeypatch, capsys, data):
    (folder / "classes.json").unlink()
    if data is None:
        (folder / "classes.json").mkdir()
    else:
        (folder / "classes.json").write_bytes(data)
    (folder / "detections.parquet").write_bytes(b"PAR1")
    with pytest.raises(SystemExit, match=r"classes.json: .*\. Allowed: .*\. [A-Z]") as error:
        run(monkeypatch, capsys, "--objects", "own.parquet")
    assert "detections.parquet: is not a whole Parquet file" in str(error.value)  # all faults at once


def test_case_112_classes_with_a_byte_order_mark(folder, monkeypatch, capsys):
    """They are read, or refused with a message that says what is wrong."""
    (folder / "classes.json").write_bytes(b"\xef\xbb\xbf" + (folder / "classes.json").read_bytes())
    try:
        _, text = run(monkeypatch, capsys, "--objects", "own.parquet")
    except SystemExit as error:
        text = str(error)
    assert '"voc10_map": 0.75' in text or "BOM" in text


@pytest.mark.parametrize("text", ['{"cat": 1}', "[1, 2]", '"cat"', "null"])
def test_classes_that_are_no_list_of_names(folder, monkeypatch, capsys, text):
    (folder / "classes.json").write_text(text)
    with pytest.raises(SystemExit, match=r'classes.json: holds .* Allowed: the list .* Write it as \["cat", "dog"\]'):
        run(monkeypatch, capsys, "--objects", "own.parquet")


def test_case_110_boxes_of_another_size_of_the_images(folder, monkeypatch, capsys):
    """The images of the fixture have 99 x 99 pixels."""
    tables.write(folder / "detections.parquet", detections_table(("i.jpg", "cat", (90, 90, 101, 99), 1)),
                 tables.DETECTIONS)
    with pytest.raises(SystemExit, match=r"detections, row 0 \(image i.jpg\): box 90 90 101 99 leaves its image, 99"):
        run(monkeypatch, capsys, "--objects", "own.parquet")
    tables.write(folder / "own.parquet", objects_table(("i.jpg", "cat", (50, 50, 20, 20))), tables.OBJECTS)
    with pytest.raises(SystemExit, match=r"objects, row 0 \(image i.jpg\): box 50 50 20 20 is inverted"):
        run(monkeypatch, capsys, "--objects", "own.parquet")


def test_a_split_without_images(folder, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"images.parquet: holds no image of the split val. Allowed: test"):
        run(monkeypatch, capsys, "--objects", "own.parquet", "--split", "val")


def test_the_files_of_coco_are_tried_first_and_the_figures_are_said_before_they_are_written(
    folder, monkeypatch, capsys
):
    with pytest.raises(SystemExit, match="--coco: .*own.parquet: is a file"):
        run(monkeypatch, capsys, "--objects", "own.parquet", "--coco", "own.parquet")
    assert capsys.readouterr().out == ""
    run(monkeypatch, capsys, "--objects", "own.parquet", "--coco", "c/d")
    assert sorted(path.name for path in (folder / "c/d").iterdir()) == ["detections.json", "objects.json"]
    monkeypatch.setattr(evaluate.coco_results, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(SystemExit, match="ERROR: c/d: OSError: .*disk full"):
        run(monkeypatch, capsys, "--objects", "own.parquet", "--coco", "c/d")
    assert '"voc10_map": 0.75' in capsys.readouterr().out


# Foreign tables. A change is harmless, and the metrics are those of the plain table, or the message names its place.


def replaced(name, value):
    def change(frame):
        values = frame[name].astype(object)
        values.iloc[1] = value
        return frame.assign(**{name: values})
    return change


BOXES = dict.fromkeys(tables.BOX, "float64")
HARMLESS = {
    "float64": lambda frame: frame.astype({**BOXES, "score": "float64"}),
    "float16": lambda frame: frame.astype({"score": "float16"}),
    "int boxes": lambda frame: frame.astype(dict.fromkeys(tables.BOX, "int16")),
    "categories": lambda frame: frame.astype({"class": "category", "image_id": "category"}),
    "objects of Python": lambda frame: frame.astype({"class": object, "image_id": object}),
    "large strings": lambda frame: frame.astype({"class": "large_string[pyarrow]"}),
    "extra columns": lambda frame: frame.assign(note=[[1.0]] * len(frame), empty=None),
    "columns in another order": lambda frame: frame[frame.columns[::-1]],
    "rows in another order": lambda frame: frame.iloc[::-1],
}
INDEXES = {
    "an index of an image": lambda frame: frame.set_index("image_id"),
    "two levels": lambda frame: frame.set_index(["image_id", "class"]),
    "an index of numbers": lambda frame: frame.set_axis(pd.RangeIndex(5, 5 + len(frame), name="row")),
}
HARMFUL = {
    "ids of classes": (lambda frame: frame.assign(**{"class": 1}), "column class: holds int64. Allowed: string"),
    "ids of images": (lambda frame: frame.assign(image_id=np.arange(len(frame))), "column image_id: holds int64"),
    "dates as images": (lambda frame: frame.assign(image_id=pd.Timestamp("2020-01-01")), "image_id: holds timestamp"),
    "nulls": (lambda frame: frame.assign(score=None), "column score, row 0: None"),
    "no names": (lambda frame: frame.assign(**{"class": None}), "column class, row 0: None"),
    "text": (lambda frame: frame.assign(score=frame["score"].astype(str)), "column score: holds"),
    "dates": (lambda frame: frame.assign(x1=pd.Timestamp("2020-01-01")), "column x1: holds timestamp"),
    "lists": (lambda frame: frame.assign(x1=[[1.0]] * len(frame)), "column x1: holds list"),
    "truth": (lambda frame: frame.assign(y2=True), "column y2: holds bool"),
    "huge": (lambda frame: replaced("x2", 1e300)(frame).astype({"x2": float}), "column x2, row 1: inf"),
    "NaN": (lambda frame: replaced("score", np.nan)(frame).astype({"score": float}), "column score, row 1: "),
    "a column less": (lambda frame: frame.drop(columns="y1"), "there is no column y1"),
    "beyond the right": (lambda frame: replaced("x2", 201)(frame).astype({"x2": float}), "row 1 (image"),
    "beyond the top": (lambda frame: replaced("y1", -1)(frame).astype({"y1": float}), "row 1 (image"),
    "inverted": (lambda frame: replaced("x2", 0)(frame).astype({"x2": float}), "row 1 (image"),
    "another image": (replaced("image_id", "gone"), "image 'gone' (1 rows)"),
    "another class": (replaced("class", "cow"), "class 'cow' (1 rows)"),
}


@pytest.mark.parametrize("name", [*HARMLESS, *INDEXES, *HARMFUL])
def test_every_change_by_itself(folder, name):
    harmless, index, harmful = ([name] if name in kind else [] for kind in (HARMLESS, INDEXES, HARMFUL))
    check_foreign(folder, harmless, *index or [None], *harmful or [None], 0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(HARMLESS)), max_size=4, unique=True),
       st.none() | st.sampled_from(sorted(INDEXES)), st.none() | st.sampled_from(sorted(HARMFUL)), st.integers(0, 9))
def test_a_foreign_table_gives_the_metrics_of_the_plain_one_or_a_message_with_column_or_row(
    folder, harmless, index, harmful, seed
):
    check_foreign(folder, harmless, index, harmful, seed)


def check_foreign(folder, harmless, index, harmful, seed):
    random = np.random.default_rng(seed)
    corners = random.integers(1, 100, (8, 2))
    boxes = np.hstack([corners, corners + random.integers(5, 90, (8, 2))]).astype(float)
    names, places = random.choice(["cat", "dog"], 8).tolist(), random.choice(["a", "b", "c"], 8).tolist()
    near = np.clip(boxes + random.integers(-2, 3, (8, 4)), 0, 200)
    detections = detections_table(*zip(places, names, near, random.integers(0, 8, 8) / 8, strict=True))
    tables_of(folder, objects_table(*zip(places, names, boxes, strict=True)), detections, images=["a", "b", "c"])
    expected = figures(folder)
    changed = detections
    if harmful:
        changed = HARMFUL[harmful][0](changed)
        # These would move the row that the message names, or fail in pandas on what is in a column.
        harmless = [name for name in harmless if name in ("extra columns", "columns in another order", "categories")]
    for name in harmless:
        changed = HARMLESS[name](changed)
    changed = INDEXES[index](changed) if index else changed
    changed.to_parquet(folder / "detections.parquet")
    if harmful is None:
        assert figures(folder) == expected
        return
    with pytest.raises(InputError) as error:
        figures(folder)
    assert HARMFUL[harmful][1] in str(error.value)


def figures(folder):
    scored = inputs.read(folder / "detections.parquet", folder / "own.parquet", ["test"])
    return scores.metrics(scores.score_inputs(scored))
