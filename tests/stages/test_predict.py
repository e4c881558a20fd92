"""`stages.predict` with a detector that needs no training: what it writes, and that it agrees with itself."""

import argparse
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.backbones.device import Precision
from lib.boxes.selection import Scored, Selection
from lib.detection import rows
from lib.stage import pipeline
from lib.stage.errors import InputError
from lib.storage import tables
from stages import predict


class Detect(Selection):
    precision: Precision = "auto"


class Detector:
    """Scores a region by its share of the image; its own regions are two fixed boxes."""

    def __init__(self, wants_proposals):
        self.classes, self.wants_proposals = ["big", "small"], wants_proposals

    def prepare(self, image, boxes):
        assert (boxes is None) != self.wants_proposals
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
        settings="fake.detect", reads=lambda: {"fake.detect": Detect},
        detector=lambda files, params, device, clock: Detector(request.param == "a table of proposals"),
    )
    monkeypatch.setattr(predict.params, "load", lambda: values)
    monkeypatch.setattr(pipeline, "entries", dict)
    monkeypatch.setattr(rows, "row", lambda name, entries: (row, {}))


def asked(images, out, **more):
    return argparse.Namespace(**{"images": images, "method": "m", "out": out, "boxes": 3, "min_score": 0.0, "trace": False, **more})


def make_images(folder):
    for number, name in enumerate(("a.png", "sub/b.png")):
        picture = np.full((60, 90, 3), 40 * number, np.uint8)
        picture[10:30, 20:60] = 250 - 60 * number
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), picture)


def test_a_folder(method, tmp_path, capsys):
    make_images(tmp_path / "in")
    predict.predict(asked([str(tmp_path / "in")], tmp_path / "out"))
    out = tmp_path / "out"
    found = tables.read(out / "detections.parquet", tables.DETECTIONS)
    assert sorted(set(found["image_id"])) == ["a.png", "sub/b.png"]
    assert set(found["class"]) == {"big", "small"}
    named = json.loads((out / "images.json").read_text())
    assert [image["file_name"] for image in named["images"]] == ["a.png", "sub/b.png"]
    results = json.loads((out / "detections.json").read_text())
    assert len(results) == len(found)
    classes = {one["id"]: one["name"] for one in named["categories"]}
    back = pd.DataFrame([(named["images"][row["image_id"] - 1]["file_name"], classes[row["category_id"]], row["score"], row["bbox"][2])
                         for row in results], columns=["image_id", "class", "score", "width"])
    wanted = found.assign(width=found["x2"] - found["x1"])
    keys = ["image_id", "class", "score", "width"]
    assert np.allclose(back.sort_values(keys)[["score", "width"]], wanted.sort_values(keys)[["score", "width"]])
    for name in ("a.png", "sub/b.png"):
        picture = cv2.imread(str(out / f"pictures/{name}.png"))
        assert picture.shape == (60, 90, 3)
        assert not np.array_equal(picture, cv2.imread(str(tmp_path / "in" / name)))  # boxes are on it
    assert not (out / "trace.html").exists()
    assert "2 images" in capsys.readouterr().out


def test_a_trace_shows_the_detections(method, tmp_path):
    make_images(tmp_path / "in")
    predict.predict(asked([str(tmp_path / "in/a.png")], tmp_path / "out", trace=True))
    page = (tmp_path / "out/trace.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    found = tables.read(tmp_path / "out/detections.parquet", tables.DETECTIONS)
    assert (data["width"], data["height"]) == (90, 60)
    assert data["counts"]["nms"] == len(found)
    best = found.nlargest(1, "score").iloc[0]
    assert data["detections"][0]["class"] == best["class"]
    assert data["detections"][0]["score"] == pytest.approx(best["score"])


def test_one_image_for_a_trace(method, tmp_path):
    make_images(tmp_path / "in")
    with pytest.raises(InputError, match="was given 2 images"):
        predict.predict(asked([str(tmp_path / "in")], tmp_path / "out", trace=True))
    assert not (tmp_path / "out").exists()
