"""Images and objects as later stages see them: by key, in splits, checked against what `prepare` read."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from lib.images.decode import content_of
from lib.images.image_set import ImageSet, Splits
from lib.stage import params
from lib.stage.errors import InputError
from lib.storage import tables
from lib.storage.by_image import ByImage

SPLITS = {"a.png": "train", "b.png": "val", "c.png": "test", "d.png": "train"}
CLASSES = ["cat", "dog", "person"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of one grey each; a has two objects, b a difficult one, c a crowd, d nothing."""
    rows = []
    for grey, (name, split) in enumerate(SPLITS.items()):
        data = cv2.imencode(".png", np.full((6, 8, 3), 10 * grey, np.uint8))[1].tobytes()
        (tmp_path / name).write_bytes(data)
        rows.append([name, split, 8, 6, False, content_of(data)])
    tables.write(tmp_path / "tables/images.parquet", pd.DataFrame(rows, columns=tables.IMAGES.names), tables.IMAGES)
    flags = {"a1": (False, False), "a2": (False, False), "b1": (True, False), "c1": (False, True)}
    objects = [
        ["a.png", 0, "dog", 1, 1, 4, 4, *flags["a1"]],
        ["a.png", 1, "cat", 2, 2, 5, 5, *flags["a2"]],
        ["b.png", 0, "person", 0, 0, 3, 3, *flags["b1"]],
        ["c.png", 0, "cat", 0, 0, 8, 6, *flags["c1"]],
    ]
    frame = pd.DataFrame(objects, columns=["image_id", "object", "class", *tables.BOX, "difficult", "crowd"])
    frame[tables.BOX] = frame[tables.BOX].astype("float32")
    tables.write(tmp_path / "tables/objects.parquet", frame.assign(truncated=False), tables.OBJECTS)
    tables.write_json(tmp_path / "tables/classes.json", CLASSES)
    return tmp_path


def open_set(folder: Path, *splits: str, **settings: object) -> ImageSet:
    return ImageSet(str(folder), folder / "tables", splits, **settings)  # type: ignore[arg-type]


def test_splits_in_the_order_of_the_table(folder: Path) -> None:
    assert open_set(folder).ids == list(SPLITS)
    assert open_set(folder, "train").ids == ["a.png", "d.png"]
    assert open_set(folder, "val", "train").ids == ["a.png", "b.png", "d.png"]
    with pytest.raises(InputError, match=r"no images in \['tests'\].*train.*val.*test"):
        open_set(folder, "tests")


def test_case_17_labels_are_places_in_the_one_list_of_classes(folder: Path) -> None:
    """From 0, whatever classes a split or an image happens to hold: no label depends on the order of files."""
    boxes, labels = open_set(folder, "train").objects("a.png")
    assert (labels.tolist(), labels.dtype) == ([1, 0], np.int64)
    np.testing.assert_array_equal(boxes, np.float32([[1, 1, 4, 4], [2, 2, 5, 5]]))
    assert open_set(folder, "val").objects("b.png")[1].tolist() == [2]
    assert open_set(folder).classes == CLASSES


def test_case_36_images_without_objects_have_shapes(folder: Path) -> None:
    boxes, labels = open_set(folder).objects("d.png")
    assert (boxes.shape, boxes.dtype, labels.shape, labels.dtype) == ((0, 4), np.float32, (0,), np.int64)
    assert open_set(folder, difficult=False).objects("b.png")[0].shape == (0, 4), "all of its objects are difficult"
    assert len(open_set(folder).objects("b.png")[0]) == 1


def test_case_18_crowd_regions_are_never_learnt_from(folder: Path) -> None:
    assert len(open_set(folder).objects("c.png")[0]) == 0


def test_case_56c_a_changed_image_is_refused(folder: Path) -> None:
    image_set = open_set(folder)
    assert image_set.image("b.png")[0, 0].tolist() == [10, 10, 10]
    (folder / "b.png").write_bytes((folder / "c.png").read_bytes())
    with pytest.raises(InputError, match=r"b.png: is not the file that prepare read. Run: dvc repro"):
        image_set.image("b.png")


def test_the_cache_of_images_is_bounded_and_changes_nothing(folder: Path) -> None:
    image_bytes = 6 * 8 * 3
    cached, plain = open_set(folder, cache_bytes=2 * image_bytes), open_set(folder)
    for name in [*SPLITS, *SPLITS, "d.png"]:
        np.testing.assert_array_equal(cached.image(name), plain.image(name))
        assert cached._cached == image_bytes * len(cached._cache) <= 2 * image_bytes
    (folder / "d.png").unlink()
    cached.image("d.png")
    with pytest.raises(InputError, match=r"d\.png"):
        plain.image("d.png")


def test_case_70_objects_and_proposals_are_joined_by_key(folder: Path) -> None:
    """The rows of the proposals stand in another order than the images; one image has none."""
    corners = {"d.png": [0, 0, 1, 1], "a.png": [0, 0, 2, 2], "b.png": [0, 0, 3, 3]}
    rows = [[name, *box, 1.0] for name, box in corners.items()]
    frame = pd.DataFrame(rows, columns=tables.PROPOSALS.names).astype(dict.fromkeys([*tables.BOX, "score"], "float32"))
    tables.write(folder / "proposals.parquet", frame, tables.PROPOSALS)
    image_set, proposals = open_set(folder), ByImage(folder / "proposals.parquet", tables.PROPOSALS)
    np.testing.assert_array_equal(image_set.regions("a.png", proposals)[:, 2], [4, 5, 2])
    np.testing.assert_array_equal(image_set.regions("d.png", proposals), [[0, 0, 1, 1]])
    remedy = "Run: dvc repro propose"
    proposals.require(["d.png", "a.png"], remedy)
    with pytest.raises(InputError, match=rf"no rows for c.png \(1 of 4 images.*holds 3 images\).*{remedy}"):
        proposals.require(image_set.ids, remedy)


@pytest.mark.parametrize(
    ("box", "problem"),
    [([9, 0, 12, 3], "leaves its image"), ([3, 0, 2, 3], "has no area"),
     ([0, 0, np.nan, 3], r"column x2, row 1: (nan|None) ")],
)
def test_case_110_proposals_of_others_must_be_in_their_images(folder: Path, box: list[float], problem: str) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    frame = pd.DataFrame([[name, 0, 0, 2, 2, 1.0] for name in names], columns=tables.PROPOSALS.names)
    frame.to_parquet(folder / "p.parquet")
    image_set = open_set(folder)
    assert len(image_set.proposals(folder / "p.parquet")["b.png"]) == 1
    frame = frame.astype(dict.fromkeys(tables.BOX, float))
    frame.loc[1, tables.BOX] = box
    frame.to_parquet(folder / "p.parquet")
    with pytest.raises(InputError, match=problem):
        image_set.proposals(folder / "p.parquet")
    frame.iloc[:3].to_parquet(folder / "p.parquet")
    with pytest.raises(InputError, match=r"no rows for d.png"):
        image_set.proposals(folder / "p.parquet")


def test_learning_on_the_test_images_is_refused() -> None:
    overlapping = {"splits": {"train": ["train", "test"], "test": ["test"]}}
    with pytest.raises(InputError, match="without a common split; test is in both"):
        params.validate(overlapping, {"splits": Splits})
    with pytest.raises(InputError, match="Did you mean train"):
        params.validate({"splits": {"train": ["trian"], "test": ["test"]}}, {"splits": Splits})
