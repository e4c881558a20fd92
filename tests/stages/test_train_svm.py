"""The stage that trains SVMs: what it says before it starts, what it refuses, classes without objects."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib.images.image_set import Splits
from lib.stage.errors import InputError
from lib.storage import checkpoint, shards, tables
from stages import train_svm
from tests.life import FakeLife

SVM = {"layer": "fc7", "norm": {"target": 20.0, "images": 10, "boxes": 10}, "checkpoint_every": 2}
COUNT, PROPOSALS, WIDTH = 6, 8, 5
Objects = list[tuple[int, str, bool]]


def life_in(folder: Path, memory_gib: float = 4.0, difficult: bool = True) -> FakeLife:
    """The life of R-CNN's stage in a temporary folder."""
    values = {"seed": 3, "splits": Splits(train=["train"], test=["test"]), "rcnn.difficult": difficult,
              "rcnn.proposals_max": None, "rcnn.svm": train_svm.Svm(**SVM)}
    return FakeLife(folder, "svm@rcnn", values, memory_gib)


def make(folder: Path, objects: Objects, difficult: bool = True) -> None:
    """Six training images with these objects, eight proposals and the random features that `extract` would store."""
    random, ids = np.random.default_rng(0), [f"{i}.jpg" for i in range(COUNT)]
    row = {"split": "train", "width": 100, "height": 100, "transpose": False, "content": ""}
    images = pd.DataFrame([{"image_id": image_id, **row} for image_id in ids])
    tables.write(folder / "tables/images.parquet", images, tables.IMAGES)
    box = {"x1": 10.0, "y1": 10.0, "x2": 30.0, "y2": 30.0, "truncated": False, "crowd": False}
    rows = [
        {"image_id": ids[image], "object": 0, "class": name, "difficult": hard, **box} for image, name, hard in objects
    ]
    empty = tables.OBJECTS.empty_table().to_pandas()
    frame = pd.DataFrame(rows, columns=tables.OBJECTS.names) if rows else empty
    tables.write(folder / "tables/objects.parquet", frame, tables.OBJECTS)
    tables.write_json(folder / "tables/classes.json", ["bike", "cat", "dog"])
    corner = {"x1": 50.0, "y1": 50.0, "x2": 90.0, "y2": 90.0, "score": 1.0}
    proposals = pd.DataFrame([{"image_id": image_id, **corner} for image_id in ids for _ in range(PROPOSALS)])
    tables.write(folder / "proposals/selective_search.parquet", proposals, tables.PROPOSALS)
    boxes = [[(10, 10, 30, 30)] * sum(image == i and (difficult or not hard) for image, _, hard in objects)
             + [(50, 50, 90, 90)] * PROPOSALS for i in range(COUNT)]
    counts = [len(corners) for corners in boxes]
    rows = (shards.Rows({"fc7": np.ones(len(corners), bool)}, shards.digest(np.array(corners))) for corners in boxes)
    index = shards.plan(ids, rows, {"fc7": WIDTH}, 2**20)
    writer = shards.Writer(folder / "features/rcnn", index, {"fc7": WIDTH})
    for count in counts:
        writer.append({"fc7": random.gamma(2, 3, (count, WIDTH))})
    writer.close()


def test_says_the_memory_and_refuses_what_it_may_not_hold(tmp_path: Path) -> None:
    """4 objects, 3 of one class, and 52 rows, all of which may be negatives: worked out by hand."""
    make(tmp_path, [(0, "cat", False), (1, "cat", False), (2, "cat", True), (3, "dog", False)])
    life, need = life_in(tmp_path), 4 * WIDTH * (4 + 52 + 52) + 24 * WIDTH * (3 + 52) + 64 * (3 + 52)
    train_svm.main(life)
    assert life.memory == need
    assert life.said == ["6 images, 3 classes, features fc7, 52 negatives of a class at most"]
    with pytest.raises(InputError, match=r"svm@rcnn: needs 0.00 GiB of memory.*lower svm.max_negatives"):
        train_svm.main(life_in(tmp_path, memory_gib=(need - 1) / 2**30))


def test_a_class_without_objects_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, [(0, "cat", False), (1, "cat", False), (3, "dog", False)])
    train_svm.main(life_in(tmp_path))
    saved = checkpoint.load(tmp_path / "models/rcnn/svm.pt", "trained")
    assert saved["trained"].tolist() == [False, True, True]
    said = capsys.readouterr().out
    assert "bike: no object to learn from" in said
    assert "dog: its SVM rests on one object" in said


@pytest.mark.parametrize("objects", [[], [(0, "cat", True), (4, "dog", True)]], ids=["none", "all difficult"])
def test_a_split_without_any_object_is_refused(tmp_path: Path, objects: Objects) -> None:
    make(tmp_path, objects, difficult=False)
    with pytest.raises(InputError, match=r"training splits: hold no object of any class.*splits.train"):
        train_svm.main(life_in(tmp_path, difficult=False))


@pytest.mark.parametrize("difficult", [True, False])
def test_difficult_objects_teach_where_asked(tmp_path: Path, difficult: bool) -> None:
    make(tmp_path, [(0, "cat", True), (4, "dog", False)], difficult)
    train_svm.main(life_in(tmp_path, difficult=difficult))
    saved = checkpoint.load(tmp_path / "models/rcnn/svm.pt", "trained")
    assert saved["trained"].tolist() == [False, difficult, True]


def test_features_of_other_regions_are_refused_before_any_mining(tmp_path: Path) -> None:
    """Rows are found by a region's number: other proposals, or objects less the difficult ones, are other rows."""
    make(tmp_path, [(0, "cat", False), (1, "dog", True)])
    with pytest.raises(InputError, match=r"holds other rows of 1.jpg than its objects and proposals now.*dvc repro"):
        train_svm.main(life_in(tmp_path, difficult=False))
