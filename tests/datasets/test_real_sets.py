"""Real data sets, read whole."""

from pathlib import Path

import pytest

from tests.datasets.loading import lenient, refused, strict

SHARED = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="no ../shared/data/bccd")
@pytest.mark.parametrize("mode", [strict, lenient])
def test_bccd(mode):
    dataset = mode(SHARED / "bccd")
    assert dataset.images.groupby("split").size().to_dict() == {"train": 205, "val": 87, "test": 72}
    assert dataset.classes == ["Platelets", "RBC", "WBC"]
    # 4,888 objects are annotated; two are one pixel large, which is legal and of no use.
    assert len(dataset.objects) == 4886
    assert [(note.kind, note.where) for note in dataset.notes] == [
        ("box under min_box_size", "Annotations/BloodImage_00338.xml, object 12 (RBC)"),
        ("box under min_box_size", "Annotations/BloodImage_00343.xml, object 3 (RBC)"),
    ]
    assert dataset.faults == []


@pytest.mark.skipif(not (SHARED / "voc2007").is_dir(), reason="no ../shared/data/voc2007")
def test_voc2007_learns_from_train_and_measures_on_val():
    """Its train and val hold 2,500 and 2,508 of the devkit's 2,501 and 2,510 images; it has no test."""
    dataset = strict(SHARED / "voc2007/VOCdevkit", lists={"train": "train", "test": "val"})
    counts = dataset.images.groupby("split").size()
    assert (counts["train"] + counts["val"], counts["test"]) == (2500, 2508)
    assert [(note.kind, note.where) for note in dataset.notes] == [("list not used", "VOC2007/ImageSets")]
    assert dataset.faults == []


@pytest.mark.skipif(not (SHARED / "rooms").is_dir(), reason="no ../shared/data/rooms")
def test_rooms():
    kinds, _ = refused(SHARED / "rooms")
    assert kinds == ["box over the border"] * 5
    dataset = lenient(SHARED / "rooms")
    assert dataset.images.groupby("split").size().to_dict() == {"test": 85}
    assert dataset.repairs == {"box over the border": 5}
    assert dataset.objects["y2"].max() == 480
