"""Which stages stand before a stage."""

from lib.report.lineage import before
from lib.stage.pipeline import Entry


def entry(name, deps, outs):
    return Entry(name, f"stages.{name}", (), (), tuple(deps), tuple(outs), ())


def test_before_follows_files_and_folders():
    stages = [
        entry("prepare", ["data/digits"], ["data/tables"]),
        entry("m0", [], ["data/models/m0.pt"]),
        entry("train", ["data/models/m0.pt", "data/tables/objects.parquet"], ["data/models/rcnn/cnn.pt"]),
        entry("svm", ["data/models/rcnn/cnn.pt"], ["data/models/rcnn/svm.pt"]),
        entry("detect", ["data/models/rcnn"], ["data/detections/rcnn.parquet"]),
        entry("other", ["data/models/m0.pt"], ["data/models/rcnn2.pt"]),
        entry("evaluate", ["data/detections/rcnn.parquet"], ["results/metrics/rcnn.json"]),
    ]
    entries = {stage.name: stage for stage in stages}
    assert before("detect", entries) == {"train", "svm", "m0", "prepare"}
    assert before("m0", entries) == set()
    assert before("evaluate", entries) == {"train", "svm", "m0", "prepare", "detect"}
