"""What pycocotools makes of our export: the same figures as ours, read back from the files."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lib.evaluation import coco, coco_results
from lib.evaluation.inputs import Inputs
from lib.storage import tables
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables


def by_pycocotools(folder):
    """map, map50, map75, small, medium, large as pycocotools prints them, -1 where there is nothing to find."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "objects.json"))
        evaluator = COCOeval(truth, truth.loadRes(str(folder / "detections.json")), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[:6]


@pytest.mark.parametrize("seed", range(4))
def test_pycocotools_gives_the_same_numbers(tmp_path, seed):
    images, objects, detections = random_tables(seed, images=40, size=120)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    assert inputs.objects.difficult.any()
    assert inputs.objects.crowd.any()
    coco_results.write(tmp_path, inputs)
    ours = coco.evaluate(inputs)
    wanted = [ours.map, ours.map50, ours.map75, ours.small, ours.medium, ours.large]
    assert np.allclose(by_pycocotools(tmp_path), [-1 if value is None else value for value in wanted], atol=1e-9)


def test_fields():
    inputs = Inputs.of(
        images_table("b.jpg", "a.jpg"),
        objects_table(("b.jpg", "k", (1, 2, 11, 22)), ("a.jpg", "k", (0, 0, 5, 5), "difficult")),
        detections_table(("b.jpg", "k", (1.5, 2, 11, 22.25), 0.123456789)),
        ["j", "k"],
    )
    data, results = coco_results.truth(inputs), coco_results.results(inputs)
    assert data["images"] == [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    assert data["categories"] == [{"id": 1, "name": "j"}, {"id": 2, "name": "k"}]
    assert [(row["image_id"], row["bbox"], row["difficult"]) for row in data["annotations"]] == [
        (1, [0, 0, 5, 5], 1), (2, [1, 2, 10, 20], 0)]
    assert results == [{"image_id": 2, "category_id": 2, "bbox": [1.5, 2, 9.5, 20.25], "score": 0.123456789}]


def test_no_detections_are_an_empty_list(tmp_path):
    inputs = Inputs.of(images_table("a"), objects_table(("a", "k", (0, 0, 5, 5))), detections_table(), ["k"])
    coco_results.write(tmp_path, inputs, "images.json")
    assert tables.read_json(tmp_path / "detections.json") == []
    assert tables.read_json(tmp_path / "images.json") == coco_results.truth(inputs)
    assert not (tmp_path / "objects.json").exists()
