"""What `predict` writes: each file by itself, so that one that cannot be made loses no other."""

import json
import os
import signal

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.boxes.selection import Scored, Selection
from lib.detectors.fast import detector as fast
from lib.detectors.faster import detector as faster
from lib.detectors.hog import detector as hog
from lib.detectors.rcnn import detector as rcnn
from lib.detectors.spp import detector as spp
from lib.report import drawing, page_trace
from lib.report.predictions import Predictions, check_drawn, drawn_from
from lib.stage.errors import InputError
from lib.stage.interrupt import HeldBack
from lib.storage import tables

IDS = ["a.jpg", "b/a.jpg", "none.png"]
ROWS = [("a.jpg", "cat", 2, 3, 30, 20, 0.9), ("b/a.jpg", "dog", 0, 0, 40, 25, 0.5), ("a.jpg", "dog", 1, 1, 9, 9, 0.2)]
DETECTIONS = tables.to_arrow(pd.DataFrame(ROWS, columns=tables.DETECTIONS.names), tables.DETECTIONS, "").to_pandas()
SELECTION = Selection(per_image=10, per_set=None, floor=None, nms=0.3, nms_before=None, most=None)


def image(image_id):
    return np.full((25, 40, 3), len(image_id), np.uint8)


def write(results, ids=IDS, read=image):
    results.tables(ids, ["cat", "dog"], DETECTIONS[DETECTIONS["image_id"].isin(ids)])
    with HeldBack() as interrupt:
        results.pictures(ids, read, DETECTIONS, 8, float("-inf"), interrupt)
    return results.exit_code()


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


EVERYTHING = ["detections.json", "detections.parquet", "images.json", "pictures/a.jpg.png", "pictures/b/a.jpg.png",
              "pictures/none.png.png"]


def test_all_files(tmp_path, capsys):
    assert write(Predictions(tmp_path)) == 0
    assert files(tmp_path) == EVERYTHING
    pd.testing.assert_frame_equal(tables.read(tmp_path / "detections.parquet", tables.DETECTIONS), DETECTIONS)
    assert len(json.loads((tmp_path / "detections.json").read_text())) == 3
    names = [entry["file_name"] for entry in json.loads((tmp_path / "images.json").read_text())["images"]]
    assert names == IDS
    assert np.array_equal(cv2.imread(str(tmp_path / "pictures/none.png.png")), image("none.png"))
    assert not np.array_equal(cv2.imread(str(tmp_path / "pictures/a.jpg.png")), image("a.jpg"))
    assert capsys.readouterr().err == ""


def test_no_image_at_all(tmp_path):
    assert write(Predictions(tmp_path), ids=[]) == 0
    assert len(tables.read(tmp_path / "detections.parquet", tables.DETECTIONS)) == 0
    assert json.loads((tmp_path / "detections.json").read_text()) == []


@pytest.mark.parametrize("fails", ["detections.parquet", "detections.json", "images.json", "pictures/b/a.jpg.png"])
def test_one_that_cannot_be_written_loses_no_other(tmp_path, monkeypatch, capsys, fails):
    """A disk that is full for a moment."""
    whole = tables.write_atomic

    def full(path, fill):
        if str(path) == str(tmp_path / fails):
            raise OSError(28, "No space left on device")
        whole(path, fill)

    monkeypatch.setattr(tables, "write_atomic", full)
    monkeypatch.setattr(drawing, "write_atomic", full)
    assert write(Predictions(tmp_path)) == 1
    lost = {fails} | ({"detections.json"} if fails == "images.json" else set())
    assert set(EVERYTHING) - set(files(tmp_path)) == lost
    text = capsys.readouterr().err
    assert "No space left on device" in text
    assert text.count("OSError") == 1


def test_ctrl_c_among_the_pictures(tmp_path, capsys):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process in the background does not get
    def read(image_id):
        if image_id == "b/a.jpg":
            os.kill(os.getpid(), signal.SIGINT)
        return image(image_id)

    assert write(Predictions(tmp_path), read=read) == 130
    assert files(tmp_path) == EVERYTHING[:-1]
    assert "0 images and 1 pictures are missing" in capsys.readouterr().err


def test_failures_and_missing_images_decide_the_exit_code(tmp_path, capsys):
    results = Predictions(tmp_path)
    with results.failures("a.jpg", "Leave it out"):
        raise RuntimeError("not enough memory")
    assert results.exit_code() == 1
    assert capsys.readouterr().err == "ERROR: a.jpg: RuntimeError: not enough memory. Leave it out.\n"
    results.missing = 2
    assert results.exit_code() == 130
    assert "2 images and 0 pictures are missing" in capsys.readouterr().err


def test_the_outputs_are_tried_before_the_work(tmp_path):
    for name in ("in/a.jpg", "in/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 1000)
    Predictions(tmp_path / "out").check(tmp_path / "in", ["a.jpg", "b.png"], traced=False)
    with pytest.raises(InputError, match="was given 2 images"):
        Predictions(tmp_path / "out").check(tmp_path / "in", ["a.jpg", "b.png"], traced=True)
    with pytest.raises(InputError, match=r"--out: .*in/a.jpg: is a file"):
        Predictions(tmp_path / "in/a.jpg").check(tmp_path / "in", ["b.png"], traced=True)
    (tmp_path / "in/pictures").mkdir()
    (tmp_path / "in/pictures/b.png.png").touch()
    with pytest.raises(InputError, match="b.png.png: is read and would be written too"):
        Predictions(tmp_path / "in").check(tmp_path / "in", ["b.png", "pictures/b.png.png"], traced=False)
    (tmp_path / "out/trace.html").mkdir(parents=True)
    Predictions(tmp_path / "out").check(tmp_path / "in", ["a.jpg"], traced=False)
    with pytest.raises(InputError, match="trace.html: is a folder"):
        Predictions(tmp_path / "out").check(tmp_path / "in", ["a.jpg"], traced=True)


def test_jpeg_files_say_how_much_disk_is_needed_at_least(tmp_path, monkeypatch):
    for name, size in (("a.JPG", 3), ("b.png", 100), ("c.jpeg", 4)):
        (tmp_path / name).write_bytes(b"\0" * size)
    asked = []
    monkeypatch.setattr("lib.report.predictions.outputs.check", lambda *arguments: asked.append(arguments))
    Predictions(tmp_path / "out").check(tmp_path, ["a.JPG", "b.png", "c.jpeg"], traced=False)
    assert asked[0][-1] == 7


@pytest.mark.parametrize(("origin", "expected"), [({}, [0, 0, 20, 20]), ({"level": np.array([1])}, [5, 0, 25, 20])])
def test_a_trace_looks_at_regions_and_of_places_in_the_network_at_their_detections(tmp_path, origin, expected):
    """An anchor is no region: it is found by the box that it became."""
    scored = Scored(np.float32([[0, 0, 20, 20]]), np.float32([[0.5, -np.inf]]), lambda *_: np.float32([[5, 0, 25, 20]]),
                    origin)
    seen = []
    look = lambda pixels, box, label: seen.append((box.tolist(), label)) or {}  # noqa: E731
    Predictions(tmp_path).trace("", lambda: image("a.jpg"), lambda pixels: scored, SELECTION, ["cat", "dog"], look)
    assert seen == [(expected, 0)]


def test_a_trace_that_fails_is_a_failure_like_any_other(tmp_path, monkeypatch, capsys):
    def score(pixels):
        return Scored(np.float32([[0, 0, 20, 20]]), np.float32([[0.5, 0.1]]))

    results = Predictions(tmp_path)
    results.trace("a title", lambda: image("a.jpg"), score, SELECTION, ["cat", "dog"])
    assert results.exit_code() == 0
    assert "a title" in (tmp_path / "trace.html").read_text()
    monkeypatch.setattr(page_trace, "page", lambda *_: 1 / 0)
    results.trace("a title", lambda: image("a.jpg"), score, SELECTION, ["cat", "dog"])
    assert results.exit_code() == 1
    assert "trace.html: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("most", "min_score", "wrong"),
    [(-1, -2.0, ["--boxes"]), (8, float("nan"), ["--min-score"]), (-8, float("nan"), ["--boxes", "--min-score"])],
)
def test_what_cannot_be_drawn(most, min_score, wrong):
    with pytest.raises(InputError) as caught:
        check_drawn(most, min_score)
    assert [fault.where for fault in caught.value.faults] == wrong


@pytest.mark.parametrize(("most", "min_score"), [(8, None), (0, 0.5), (3, float("-inf")), (3, float("inf")), (1, -2.0)])
def test_what_can_be_drawn(most, min_score):
    check_drawn(most, min_score)


@pytest.mark.parametrize(("detect", "scores", "expected"), [
    (rcnn.Detect, "svm", -0.2), (rcnn.Detect, "softmax", 0.5), (spp.Detect, "svm", -0.2), (fast.Detect, "svm", -0.2),
    (fast.Detect, "softmax", 0.5), (faster.Detect, None, 0.5), (hog.Detect, None, -0.2),
])
def test_a_score_from_which_boxes_are_drawn_suits_what_scores(detect, scores, expected):
    values = dict.fromkeys(("per_set", "floor", "nms_before", "most")) | {"per_image": 9, "nms": 0.3}
    values |= {"regress": True, "batch": 1, "precision": "float32"} | ({"scores": scores} if scores else {})
    values = {key: value for key, value in values.items() if key in detect.model_fields}
    assert drawn_from(detect(**values)) == expected
