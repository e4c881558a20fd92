"""`stages.evaluate` by hand, on tables anywhere."""

import json
import sys

import pandas as pd
import pytest

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
    boxes = [[20 * n, 0, 20 * n + 10, 10] for n in range(10)]
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
