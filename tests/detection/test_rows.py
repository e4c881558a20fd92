import pytest

from lib.detection import rows
from lib.images.image_set import ProposalsMax
from lib.stage import pipeline
from lib.stage.errors import InputError
from lib.stage.pipeline import Entry


def test_the_row_of_a_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    roles = {"detector": "rcnn", "settings": "rcnn.detect", "proposing": "rcnn.proposals_max", "model": "models/cnn.pt",
             "scores": "models/svm.pt", "boxes": "models/cnn.pt", "regions": "proposals.parquet"}
    names = ("detect@rcnn", "evaluate@spp")
    entries = {name: Entry(name, "stages.detect", (), (), (), (), (), roles) for name in names}
    with pytest.raises(InputError, match="Did you mean rcnn"):
        rows.row("rcn", entries)
    with pytest.raises(InputError) as caught:
        rows.row("rcnn", entries)
    paths = [fault.where for fault in caught.value.faults]
    assert paths == ["models/cnn.pt", "models/svm.pt"], "each file once; own images need no table of proposals"
    assert "is not there. Run: dvc repro detect@rcnn" in str(caught.value)
    (tmp_path / "models").mkdir()
    for name in ("cnn.pt", "svm.pt"):
        (tmp_path / "models" / name).touch()
    row, files = rows.row("rcnn", entries)
    assert row.reads() == {"rcnn.detect": row.module.Detect, "rcnn.proposals_max": ProposalsMax}
    assert row.most({"rcnn.proposals_max": 7}) == 7
    assert row.module.__name__ == "lib.detectors.rcnn.detector"
    assert {role: str(path) for role, path in files.items()} == {
        "model": "models/cnn.pt", "scores": "models/svm.pt", "boxes": "models/cnn.pt"}


def test_a_method_without_a_detector_is_refused_by_name_with_the_reason():
    """It can be evaluated, but there is nothing to run on an image."""
    with pytest.raises(InputError) as caught:
        rows.row("fast_yolo", pipeline.entries())
    message = str(caught.value)
    assert message.startswith("--method: is 'fast_yolo', which looks at no image: stages.rescore makes it of the ")
    assert "detections of fast and yolo. Allowed: hog, rcnn, " in message
    assert message.endswith("Use fast or yolo.")


def test_a_row_that_makes_its_own_regions_reads_how():
    row = rows.Row({"detector": "faster", "settings": "faster.detect", "proposing": "faster.propose.test"})
    assert row.reads() == {"faster.detect": row.module.Detect, "faster.propose.test": row.module.Proposing}
    assert row.most({"faster.propose.test": row.module.Proposing}) is None


@pytest.mark.parametrize("method", ["yolo", "ssd", "retinanet"])
def test_a_row_without_regions_reads_one_block(method):
    row = rows.Row({"detector": method, "settings": f"{method}.detect", "proposing": f"{method}.detect"})
    assert row.reads() == {f"{method}.detect": row.module.Detect}
    assert row.most({f"{method}.detect": "the settings"}) is None
