"""`stages.compare` on two revisions that are folders here: what it writes, and that a bad image loses nothing else."""

import json
import runpy
import sys

import pandas as pd
import pytest

from lib.report import revisions
from lib.stage import params
from lib.storage import tables
from tests.images_on_disk import write

OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command line on revisions A, which finds the first object of each image, and B, which finds none."""
    write(tmp_path, OBJECTS, test=3)
    rows = [(f"images/test{number}.png", "cat", *boxes[0], 0.9) for number, boxes in enumerate(OBJECTS) if boxes]
    for name, kept in (("A", rows), ("B", [])):
        detections = pd.DataFrame(kept, columns=tables.DETECTIONS.names)
        tables.write(tmp_path / f"{name}/data/detections/fast.parquet", detections, tables.DETECTIONS)
    values = params.load()
    values["data"]["root"] = str(tmp_path)
    monkeypatch.setattr(params, "load", lambda: values)

    def fetch(revision, path, folder):
        return tmp_path / "tables" if path == "data/tables" else tmp_path / revision / path

    monkeypatch.setattr(revisions, "fetch", fetch)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["compare", "A", "B", "--method", "fast", *map(str, words)])
        runpy.run_module("stages.compare", run_name="__main__")

    return command


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_picture_of_each_changed_image(run, tmp_path, capsys):
    run("--out", tmp_path / "out")
    assert files(tmp_path / "out") == ["0000.png", "0001.png", "changes.json"]
    summary = json.loads((tmp_path / "out/changes.json").read_text())
    assert (summary["lost"], summary["gained"]) == (2, 0)
    assert [(entry["image_id"], entry["picture"], entry["changes"]) for entry in summary["images"]] == [
        ("images/test0.png", "0000.png", ["lost cat at 10 10 60 60"]),
        ("images/test2.png", "0001.png", ["lost cat at 50 20 110 90"]),
    ]
    assert "images/test2.png (0001.png): lost cat at 50 20 110 90" in capsys.readouterr().out


def test_a_bad_image_is_named_and_the_rest_is_written(run, tmp_path):
    (tmp_path / "images/test0.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match="ERROR: images/test0.png: is not the file that prepare read"):
        run("--out", tmp_path / "out")
    assert files(tmp_path / "out") == ["0001.png", "changes.json"]


def test_the_folder_is_tried_before_the_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(revisions, "fetch", lambda *_: pytest.fail("the work has begun"))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="--out: .*file: is a file"):
        run("--out", tmp_path / "file")
