"""`stages.predict`: what it writes with a detector that needs no training, and that it agrees with itself; with Fast
R-CNN of random weights, that no image, file or Ctrl-C loses the work on the others."""

import argparse
import json
import os
import runpy
import signal
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.backbones.device import Precision
from lib.boxes.selection import Scored, Selection
from lib.detection import rows
from lib.report.drawing import draw_best
from lib.stage import pipeline
from lib.stage.errors import InputError
from lib.storage import tables
from stages import predict
from tests.detectors.fast import models_on_disk

MOST = 3  # proposals of an image that the detector gets


class Detect(Selection):
    precision: Precision = "auto"


class Detector:
    """Scores a region by its share of the image; its own regions are two fixed boxes."""

    def __init__(self, wants_proposals):
        self.classes, self.wants_proposals = ["big", "small"], wants_proposals

    def prepare(self, image, boxes):
        assert (boxes is None) != self.wants_proposals
        assert boxes is None or len(boxes) == MOST
        return image, np.float32([[0, 0, 20, 20], [5, 5, 30, 25]]) if boxes is None else boxes

    def __call__(self, prepared):
        image, boxes = prepared
        share = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / image[..., 0].size).astype(np.float32)
        return Scored(boxes, np.stack([share, 1 - share], axis=1))


@pytest.fixture(params=["a table of proposals", "its own regions"])
def method(request, monkeypatch):
    block = {"per_image": 100, "per_set": 40, "floor": None, "nms": 0.3, "nms_before": None, "most": None}
    values = predict.params.load()
    values["fake"] = {"detect": block}
    row = SimpleNamespace(
        settings="fake.detect", reads=lambda: {"fake.detect": Detect}, most=lambda values: MOST,
        detector=lambda files, params, device, clock: Detector(request.param == "a table of proposals"),
        roles={"detector": "fake"},
    )
    monkeypatch.setattr(predict.params, "load", lambda: values)
    monkeypatch.setattr(pipeline, "entries", dict)
    monkeypatch.setattr(rows, "row", lambda name, entries: (row, {}))


def options(images, out, trace=False, min_score=0.0):
    return argparse.Namespace(images=images, method="m", out=out, boxes=3, min_score=min_score, trace=trace)


def make_images(folder):
    for number, name in enumerate(("a.png", "sub/b.png")):
        pixels = np.full((60, 90, 3), 40 * number, np.uint8)
        pixels[10:30, 20:60] = 250 - 60 * number
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), pixels)


def test_a_folder(method, tmp_path, capsys):
    make_images(tmp_path / "in")
    predict.predict(options([str(tmp_path / "in")], tmp_path / "out"))
    out = tmp_path / "out"
    detections = tables.read(out / "detections.parquet", tables.DETECTIONS)
    assert sorted(set(detections["image_id"])) == ["a.png", "sub/b.png"]
    assert set(detections["class"]) == {"big", "small"}
    truth = json.loads((out / "images.json").read_text())
    assert [image["file_name"] for image in truth["images"]] == ["a.png", "sub/b.png"]
    results = json.loads((out / "detections.json").read_text())
    assert len(results) == len(detections)
    classes = {category["id"]: category["name"] for category in truth["categories"]}
    names = [image["file_name"] for image in truth["images"]]
    keys = ["image_id", "class", "score", "width"]
    read_back = pd.DataFrame(
        [(names[row["image_id"] - 1], classes[row["category_id"]], row["score"], row["bbox"][2]) for row in results],
        columns=keys,
    )
    expected = detections.assign(width=detections["x2"] - detections["x1"])
    assert np.allclose(read_back.sort_values(keys)[["score", "width"]], expected.sort_values(keys)[["score", "width"]])
    for name in ("a.png", "sub/b.png"):
        picture = cv2.imread(str(out / f"pictures/{name}.png"))
        assert picture.shape == (60, 90, 3)
        assert not np.array_equal(picture, cv2.imread(str(tmp_path / "in" / name)))  # boxes are on it
    assert not (out / "trace.html").exists()
    assert "2 images" in capsys.readouterr().out


@pytest.mark.parametrize("min_score", [None, 0.0, 0.99, 1.01])
def test_noise_is_not_drawn_and_stays_in_the_tables(method, tmp_path, capsys, min_score):
    """Of two classes with the scores share and 1 - share of the image, one has at least 0.5."""
    make_images(tmp_path / "in")
    predict.predict(options([str(tmp_path / "in")], tmp_path / "all", min_score=float("-inf")))
    predict.predict(options([str(tmp_path / "in")], tmp_path / "out", min_score=min_score))
    tables_of = [tables.read(tmp_path / f"{out}/detections.parquet", tables.DETECTIONS) for out in ("all", "out")]
    pd.testing.assert_frame_equal(*tables_of)
    for name in ("a.png", "sub/b.png"):
        image = predict.read_image("", str(tmp_path / "in" / name), transpose=True)
        rows_of = tables_of[0][tables_of[0]["image_id"] == name]
        least = 0.5 if min_score is None else min_score
        best = rows_of.nlargest(3, "score", keep="first")
        expected = draw_best(image, best[best["score"] >= least], 3, float("-inf"))
        picture = cv2.cvtColor(cv2.imread(str(tmp_path / f"out/pictures/{name}.png")), cv2.COLOR_BGR2RGB)
        assert np.array_equal(picture, expected)
        assert (picture != image).any() == (best["score"] >= least).any()
    assert f"drawn from {least:g};" in capsys.readouterr().out


def test_a_trace_shows_the_detections(method, tmp_path):
    make_images(tmp_path / "in")
    predict.predict(options([str(tmp_path / "in/a.png")], tmp_path / "out", trace=True))
    page = (tmp_path / "out/trace.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    detections = tables.read(tmp_path / "out/detections.parquet", tables.DETECTIONS)
    assert (data["width"], data["height"]) == (90, 60)
    assert data["counts"]["nms"] == len(detections)
    best = detections.nlargest(1, "score").iloc[0]
    assert data["detections"][0]["class"] == best["class"]
    assert data["detections"][0]["score"] == pytest.approx(best["score"])


def test_one_image_for_a_trace(method, tmp_path):
    make_images(tmp_path / "in")
    with pytest.raises(InputError, match="was given 2 images"):
        predict.predict(options([str(tmp_path / "in")], tmp_path / "out", trace=True))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    models_on_disk.write(folder)
    return folder / "one.pt"


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """Runs the command line with Fast R-CNN of random weights; returns the exit code."""
    roles = dict.fromkeys(("model", "scores", "boxes"), str(model))
    roles |= {"detector": "fast", "settings": "fast.detect", "proposing": "fast.proposals_max", "regions": "p.parquet"}
    values = predict.params.load()
    values["compute"]["workers"] = 2
    values["data"]["max_pixels"] = 10_000
    values["fast"]["detect"] |= {"per_set": 10, "precision": "float32"}
    monkeypatch.setattr(predict.params, "load", lambda: values)
    monkeypatch.setattr(pipeline, "entries", lambda: {"detect@m": SimpleNamespace(roles=roles)})

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["predict", "--method", "m", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            runpy.run_module("stages.predict", run_name="__main__")
        return end.value.code

    return command


GOOD = ("a.jpg", "a.png", "sub/a.jpg", "z.png")


def draw_images(folder, names=GOOD):
    random = np.random.default_rng(0)
    for name in names:
        pixels = random.integers(0, 90, (60, 80, 3), np.uint8)
        left, top = random.integers(0, 40, 2).tolist()
        pixels[top : top + 20, left : left + 30] = random.integers(120, 255, 3)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), pixels)


def spoil(folder):
    """Bad images by what the message says of them; `0.jpg` comes first, and the first image is run twice."""
    draw_images(folder, ["0.jpg", "cut.png"])
    for name in ("0.jpg", "cut.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:700])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no image")
    cv2.imwrite(str(folder / "large.png"), np.zeros((101, 100, 3), np.uint8))
    return {"0.jpg": "cannot be decoded", "cut.png": "cannot be decoded", "empty.png": "the file is empty",
            "text.jpg": "no image that can be read", "large.png": "10,100 pixels"}


def outcome(out, names):
    """Rows of the images by name, scores and boxes; and that the files agree on what was worked on."""
    detections = tables.read(out / "detections.parquet", tables.DETECTIONS)
    assert [image["file_name"] for image in json.loads((out / "images.json").read_text())["images"]] == sorted(names)
    assert len(json.loads((out / "detections.json").read_text())) == len(detections)
    pictures = [path.relative_to(out / "pictures").as_posix() for path in (out / "pictures").rglob("*.png")]
    assert sorted(pictures) == sorted(f"{name}.png" for name in names)
    return detections


def test_images_that_fail_are_named_and_the_others_are_as_if_alone(run, tmp_path, capsys):
    """The limit per set is that of the images worked on; a.jpg, a.png and sub/a.jpg do not meet in one picture."""
    draw_images(tmp_path / "in")
    assert run(*(tmp_path / "in" / name for name in GOOD), "--out", tmp_path / "good") == 0
    assert capsys.readouterr().err.count("ERROR") == 0
    faults = spoil(tmp_path / "in")
    assert run(tmp_path / "in", "--out", tmp_path / "all") == 1
    text = capsys.readouterr().err
    lines = [line.removeprefix("ERROR: ") for line in text[text.index("ERROR") :].splitlines()]
    assert len(lines) == len(faults)
    for name, problem in faults.items():
        line, = [line for line in lines if line.startswith(f"{tmp_path}/in/{name}: ")]
        assert problem in line
        assert " Allowed: " in line
    alone, among = outcome(tmp_path / "good", GOOD), outcome(tmp_path / "all", GOOD)
    assert set(alone["image_id"]) == set(GOOD)
    assert alone[["image_id", "class"]].equals(among[["image_id", "class"]])
    np.testing.assert_allclose(alone.iloc[:, 2:], among.iloc[:, 2:], atol=1e-3)
    for name in GOOD:
        same = [(tmp_path / out / f"pictures/{name}.png").read_bytes() for out in ("good", "all")]
        assert same[0] == same[1]


def test_only_images_that_fail(run, tmp_path, capsys):
    spoil(tmp_path / "in")
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 1
    assert len(outcome(tmp_path / "out", [])) == 0
    assert capsys.readouterr().err.count(f"{tmp_path}/in/") == 5


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("can't allocate 9 GB"), cv2.error("resize")])
def test_an_image_on_which_the_method_fails(run, tmp_path, monkeypatch, capsys, error):
    draw_images(tmp_path / "in")
    search = predict.selective_search.search

    def fails(image, settings):
        if (image == bad).all():
            raise error
        return search(image, settings)

    bad = predict.read_image("", str(tmp_path / "in/a.jpg"), transpose=True)
    monkeypatch.setattr(predict.selective_search, "search", fails)
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 1
    assert set(outcome(tmp_path / "out", GOOD[1:])["image_id"]) == set(GOOD[1:])
    assert f"ERROR: {tmp_path}/in/a.jpg: {type(error).__name__}: " in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done_and_counts_what_is_missing(run, tmp_path, monkeypatch, capsys):
    draw_images(tmp_path / "in", [f"{number}.png" for number in range(12)])
    search, calls = predict.selective_search.search, []

    def interrupted(image, settings):
        calls.append(1)
        if len(calls) == 5:  # the first image is run twice, so this is the fourth one or one beside it
            os.kill(os.getpid(), signal.SIGINT)
        return search(image, settings)

    monkeypatch.setattr(predict.selective_search, "search", interrupted)
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 130
    done = json.loads((tmp_path / "out/images.json").read_text())["images"]
    outcome(tmp_path / "out", [image["file_name"] for image in done])
    assert 1 <= len(done) <= 4
    assert f"Interrupted: {12 - len(done)} images and 0 pictures are missing" in capsys.readouterr().err


def test_ctrl_c_before_anything_is_done(run, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    draw_images(tmp_path / "in")
    monkeypatch.setattr("lib.backbones.device.pick_device", interrupted)
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 130
    assert not (tmp_path / "out").exists()


def test_outputs_are_tried_before_any_image_is_worked_on(run, tmp_path, monkeypatch):
    draw_images(tmp_path / "in")
    monkeypatch.setattr("lib.detection.rows.Row.detector", lambda *_: pytest.fail("a model was loaded"))
    assert "a.jpg: is a file" in run(tmp_path / "in", "--out", tmp_path / "in/a.jpg")
    assert "a.jpg: is a file" in run(tmp_path / "in", "--out", tmp_path / "in/a.jpg/below")
    (tmp_path / "out/images.json").mkdir(parents=True)
    assert "images.json: is a folder" in run(tmp_path / "in", "--out", tmp_path / "out")


def test_a_trace_of_an_image_that_fails(run, tmp_path, capsys):
    faults = spoil(tmp_path / "in")
    for name, problem in faults.items():
        assert run(tmp_path / "in" / name, "--out", tmp_path / name[0], "--trace") == 1
        assert capsys.readouterr().err.count(problem) == 1  # not again by the trace
        assert not (tmp_path / name[0] / "trace.html").exists()


def test_a_trace_that_fails_leaves_the_detections(run, tmp_path, monkeypatch, capsys):
    draw_images(tmp_path / "in")
    monkeypatch.setattr("lib.detection.trace.trace", lambda *_: 1 / 0)
    assert run(tmp_path / "in/a.jpg", "--out", tmp_path / "out", "--trace") == 1
    assert len(outcome(tmp_path / "out", ["a.jpg"]))
    assert "trace.html: ZeroDivisionError" in capsys.readouterr().err


def test_how_many_boxes_and_from_which_score_is_checked_first(tmp_path, monkeypatch):
    words = ["predict", "--method", "m", "x.png", "--out", tmp_path / "out", "--boxes", "-1", "--min-score", "nan"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit, match=r"--boxes: is -1. Allowed: 0 or more. .*\n--min-score: is nan. Allowed: a"):
        runpy.run_module("stages.predict", run_name="__main__")
    assert not (tmp_path / "out").exists()
