import pytest

from lib.detection import rows
from lib.images.image_set import ProposalsMax
from lib.stage.errors import InputError
from lib.stage.pipeline import Entry
from tests.detectors.fast import models_on_disk


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


def test_a_row_that_makes_its_own_regions_reads_how():
    row = rows.Row({"detector": "faster", "settings": "faster.detect", "proposing": "faster.propose.test"})
    assert row.reads() == {"faster.detect": row.module.Detect, "faster.propose.test": row.module.Proposing}
    assert row.most({"faster.propose.test": row.module.Proposing}) is None


def test_a_method_has_an_explainer_or_none(tmp_path):
    """Made of the row's files; SPPnet has no explain.py."""
    models_on_disk.write(tmp_path)
    files = {"model": tmp_path / "one.pt", "scores": tmp_path / "svm.pt"}
    for scores, label in (("svm", 0), ("softmax", 1)):
        row = rows.Row({"detector": "fast", "settings": "fast.detect", "proposing": "fast.proposals_max"})
        settings = row.module.Detect(
            per_image=1, per_set=None, floor=None, nms=0.3, nms_before=None, most=None, scores=scores, regress=True,
            batch=8, precision="float32",
        )
        explainer = row.explainer(files, {"fast.detect": settings}, models_on_disk.CPU)
        assert explainer.classes == models_on_disk.CLASSES
        target = explainer(models_on_disk.IMAGE, models_on_disk.BOXES[0], label)
        assert target.network.scores.bias.tolist()[0] == pytest.approx(1.0 if scores == "svm" else 0.0)
    row = rows.Row({"detector": "spp", "settings": "spp.detect", "proposing": "spp.proposals_max"})
    assert row.explainer(files, {}, models_on_disk.CPU) is None
