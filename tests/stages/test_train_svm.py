"""The stage that trains SVMs: what it says before it starts, what it refuses, classes without objects."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.images.image_set import Splits
from lib.stage import params
from lib.stage.errors import InputError
from lib.storage import checkpoint, shards, tables
from stages import train_svm

SVM = {"layer": "fc7", "norm": {"target": 20.0, "images": 10, "boxes": 10}, "checkpoint_every": 2}
COUNT, PROPOSALS, WIDTH = 6, 8, 5
Objects = list[tuple[int, str, bool]]


class Life(SimpleNamespace):
    """The part of a stage's life that the script uses, in a temporary folder."""

    def __init__(self, folder: Path, memory_gib: float = 4.0, difficult: bool = True) -> None:
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        values = {"seed": 3, "splits": Splits(train=["train"], test=["test"]), "rcnn.difficult": difficult,
                  "rcnn.svm": train_svm.Svm(**SVM), "proposals.table": "proposals.parquet"}
        compute = params.Compute(device="cpu", workers=0, launcher="loky", memory_gib=memory_gib)
        super().__init__(name="svm@rcnn", item="rcnn", params=values, compute=compute, data_root="nowhere",
                         scratch=scratch, said=[], memory=0, folder=folder)

    def dep(self, path: str) -> Path:
        return self.folder / path

    def out(self, path: str) -> Path:
        target = self.folder / "outs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def announce(self, work: str, disk: int = 0, memory: int = 0) -> None:
        self.said.append(work)
        self.memory = memory

    def progress(self, items: list[str], total: int, unit: str, done: int = 0) -> list[str]:
        return items


def make(folder: Path, objects: Objects, difficult: bool = True) -> None:
    """Six training images with the given objects, eight proposals and the random features that `extract` would store."""
    random, ids = np.random.default_rng(0), [f"{i}.jpg" for i in range(COUNT)]
    row = {"split": "train", "width": 100, "height": 100, "transpose": False, "content": ""}
    tables.write(folder / "data/tables/images.parquet", pd.DataFrame([{"image_id": one, **row} for one in ids]), tables.IMAGES)
    box = {"x1": 10.0, "y1": 10.0, "x2": 30.0, "y2": 30.0, "truncated": False, "crowd": False}
    listed = [{"image_id": ids[image], "object": 0, "class": name, "difficult": hard, **box} for image, name, hard in objects]
    columns = tables.OBJECTS.names
    frame = pd.DataFrame(listed, columns=columns) if listed else tables.OBJECTS.empty_table().to_pandas()
    tables.write(folder / "data/tables/objects.parquet", frame, tables.OBJECTS)
    tables.write_json(folder / "data/tables/classes.json", ["bike", "cat", "dog"])
    corner = {"x1": 50.0, "y1": 50.0, "x2": 90.0, "y2": 90.0, "score": 1.0}
    found = pd.DataFrame([{"image_id": one, **corner} for one in ids for _ in range(PROPOSALS)])
    tables.write(folder / "proposals.parquet", found, tables.PROPOSALS)
    rows = [PROPOSALS + sum(image == i and (difficult or not hard) for image, _, hard in objects) for i in range(COUNT)]
    writer = shards.Writer(folder / "data/features/rcnn", shards.plan(ids, rows, 10, 2**20), {"fc7": WIDTH})
    for count in rows:
        writer.append({"fc7": random.gamma(2, 3, (count, WIDTH))})
    writer.close()


def test_says_the_memory_and_refuses_what_it_may_not_hold(tmp_path: Path) -> None:
    """4 objects, 3 of one class, and 52 rows, all of which may be negatives: worked out by hand."""
    make(tmp_path, [(0, "cat", False), (1, "cat", False), (2, "cat", True), (3, "dog", False)])
    life, need = Life(tmp_path), 4 * WIDTH * (4 + 52 + 52) + 24 * WIDTH * (3 + 52) + 64 * (3 + 52)
    train_svm.main(life)
    assert life.memory == need
    assert life.said == ["6 images, 3 classes, features fc7, 52 negatives of a class at most"]
    with pytest.raises(InputError, match=r"svm@rcnn: needs 0.00 GiB of memory.*lower svm.max_negatives"):
        train_svm.main(Life(tmp_path, memory_gib=(need - 1) / 2**30))


def test_a_class_without_objects_is_skipped_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, [(0, "cat", False), (1, "cat", False), (3, "dog", False)])
    train_svm.main(Life(tmp_path))
    saved = checkpoint.load(tmp_path / "outs/data/models/rcnn/svm.pt", "trained")
    assert saved["trained"].tolist() == [False, True, True]
    said = capsys.readouterr().out
    assert "bike: no object to learn from" in said
    assert "dog: its SVM rests on one object" in said


@pytest.mark.parametrize("objects", [[], [(0, "cat", True), (4, "dog", True)]], ids=["none", "all difficult"])
def test_a_split_without_any_object_is_refused(tmp_path: Path, objects: Objects) -> None:
    make(tmp_path, objects, difficult=False)
    with pytest.raises(InputError, match=r"training splits: hold no object of any class.*splits.train"):
        train_svm.main(Life(tmp_path, difficult=False))


@pytest.mark.parametrize("difficult", [True, False])
def test_difficult_objects_teach_where_asked(tmp_path: Path, difficult: bool) -> None:
    make(tmp_path, [(0, "cat", True), (4, "dog", False)], difficult)
    train_svm.main(Life(tmp_path, difficult=difficult))
    saved = checkpoint.load(tmp_path / "outs/data/models/rcnn/svm.pt", "trained")
    assert saved["trained"].tolist() == [False, difficult, True]
