"""Tables as arrays: one order whatever the rows' order, names of any text type, and the files of `prepare`."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.inputs import Inputs, read
from lib.stage.errors import InputError
from lib.storage import tables
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables, shuffled

BOX = (10, 10, 30, 30)
IMAGES = images_table("a.jpg", "b.jpg")
OBJECTS = objects_table(("a.jpg", "cat", BOX))


def test_the_order_of_the_rows_changes_nothing():
    images, objects, detections = random_tables(1, images=10)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    other = Inputs.of(shuffled(images, 1), shuffled(objects, 2), shuffled(detections, 3), ["a", "b", "c"])
    assert inputs.images == other.images
    for name in ("image", "label", "boxes", "difficult", "crowd"):
        assert np.array_equal(getattr(inputs.objects, name), getattr(other.objects, name)), name
    for name in ("image", "label", "boxes", "scores"):
        assert np.array_equal(getattr(inputs.detections, name), getattr(other.detections, name)), name


def test_objects_without_area_are_left_out():
    objects = objects_table(("a.jpg", "cat", BOX), ("a.jpg", "cat", (10, 10, 10, 30)))
    assert Inputs.of(IMAGES, objects, detections_table(), ["cat"]).objects.boxes.tolist() == [list(BOX)]


@pytest.mark.parametrize("kind", ["category", "str", object])
def test_names_of_any_text_type_and_wide_numbers(kind):
    detections = detections_table(("b.jpg", "dog", BOX, 0.25), ("a.jpg", "cat", BOX, 0.5))
    detections = detections.astype({"image_id": kind, "class": kind, "x1": np.float64, "score": np.float64})
    inputs = Inputs.of(IMAGES, OBJECTS, detections, ["cat", "dog"])
    assert inputs.detections.label.tolist() == [0, 1]
    assert inputs.detections.image.tolist() == [0, 1]
    assert inputs.detections.row.tolist() == [1, 0]
    assert inputs.detections.in_table_order(inputs.detections.scores).tolist() == [0.25, 0.5]


def test_tables_without_rows():
    inputs = Inputs.of(images_table(), objects_table(), detections_table(), [])
    assert (len(inputs.objects), len(inputs.detections), inputs.images) == (0, 0, [])
    assert inputs.objects.boxes.shape == (0, 4)


def test_only_images_of_the_splits_are_read(tmp_path):
    size = {"width": 99, "height": 99, "transpose": False, "content": "0" * 32}
    splits = {"a.jpg": "test", "b.jpg": "train"}
    images = pd.DataFrame([{"image_id": image_id, "split": split, **size} for image_id, split in splits.items()])
    paths = {name: tmp_path / f"{name}.parquet" for name in ("images", "objects", "detections")}
    tables.write(paths["images"], images, tables.IMAGES)
    tables.write(paths["objects"], objects_table(("a.jpg", "cat", BOX), ("b.jpg", "cat", BOX)), tables.OBJECTS)
    tables.write(paths["detections"], detections_table(("a.jpg", "cat", BOX, 0.5)), tables.DETECTIONS)
    with pytest.raises(InputError, match=r"classes\.json: the file is not there"):
        read(paths["detections"], paths["objects"], ["test"])
    tables.write_json(tmp_path / "classes.json", ["cat"])
    inputs = read(paths["detections"], paths["objects"], ["test"])
    assert (inputs.images, len(inputs.objects), len(inputs.detections)) == (["a.jpg"], 1, 1)
    with pytest.raises(InputError, match="image 'a.jpg' .* is not in the split"):
        read(paths["detections"], paths["objects"], ["train"])
