"""What the report reads: times of a method's stages, sizes of its models, and only the rows that exist today."""

from pathlib import Path

import pytest

from lib.report import collect
from lib.stage.pipeline import Entry
from lib.storage import tables

CURVE = [{"class": name, "recall": 0.5, "precision": 0.8} for name in ("all classes", "k")]


def entry(name, script, deps, outs, **roles):
    return Entry(name, script, (), (), tuple(deps), tuple(outs), (), roles)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages = [
        entry("prepare", "stages.prepare", [], ["data/tables"]),
        entry("propose", "stages.propose", ["data/tables"], [
            "data/proposals/selective_search.parquet", "results/metrics/proposals/selective_search.json",
            "results/plots/recall_iou/selective_search.json",
        ]),
        entry("m0", "stages.pretrain", [], ["data/models/m0.pt"]),
        entry("rcnn", "stages.train", ["data/models/m0.pt", "data/proposals/selective_search.parquet"],
              ["data/models/rcnn/cnn.pt", "results/plots/loss/rcnn.json"]),
        entry("detect@rcnn", "stages.detect", ["data/models/rcnn/cnn.pt", "data/tables"],
              ["data/detections/rcnn.parquet"], regions="data/proposals/selective_search.parquet"),
        entry("evaluate@rcnn", "stages.evaluate", ["data/detections/rcnn.parquet"], ["results/metrics/rcnn.json"]),
    ]
    Path("data/models/rcnn").mkdir(parents=True)
    Path("data/models/rcnn/cnn.pt").write_bytes(b"x" * 1000)
    for seconds, name in enumerate(("prepare", "propose", "m0", "rcnn", "detect@rcnn"), 1):
        tables.write_json(f"results/cost/{name}.json", {"seconds": 10**seconds})
    rows = {
        "metrics/rcnn": {"voc07_map": 0.5, "voc10_map": 0.6, "images": 7}, "speed/rcnn": {"network": 5.0},
        "speed/selective_search": {"proposals": 300.0}, "metrics/proposals/selective_search": {"recall_50": 0.9},
        "metrics/proposals/gone": {"recall_50": 0.1}, "plots/precision_recall/rcnn": CURVE, "plots/errors/rcnn": [],
        "plots/errors/gone": [], "plots/error_effects/rcnn": [], "plots/missed/rcnn": [],
        "plots/classes/rcnn": [{"class": "k"}, {"class": "all classes"}],
        "plots/recall_iou/selective_search": [{"iou": 0.5, "recall": 1.0}],
        "plots/recall_iou/gone": [{"iou": 0.5, "recall": 0.0}],
        "plots/loss/rcnn": [{"iteration": 0, "classification": 2.0}],
    }
    for name, value in rows.items():
        tables.write_json(f"results/{name}.json", value)
    Path("results/plots/recall_boxes").mkdir()
    return collect.Files(Path, {stage.name: stage for stage in stages})


def test_one_method(files):
    rcnn = collect.method(files, "rcnn")
    assert rcnn.parts == {"proposals": 300.0, "network": 5.0}
    assert rcnn.milliseconds == 305.0
    assert rcnn.training == 10**3 + 10**4  # m0 and rcnn; not the data, the proposals, or the detection itself
    assert rcnn.size == 1000


def test_a_method_made_of_two_others(files):
    """Times and models of both: each stage and each model once, and no detection is training."""
    files.entries.update({stage.name: stage for stage in (
        entry("other", "stages.train", ["data/models/m0.pt"], ["data/models/other/cnn.pt"]),
        entry("detect@other", "stages.detect", ["data/models/other/cnn.pt", "data/models/m0.pt"],
              ["data/detections/other.parquet"], regions="data/models/other/cnn.pt"),
        entry("both", "stages.rescore", ["data/detections/rcnn.parquet", "data/detections/other.parquet"],
              ["data/detections/both.parquet"]),
    )})
    Path("data/models/other").mkdir()
    Path("data/models/other/cnn.pt").write_bytes(b"x" * 30)
    Path("data/models/m0.pt").write_bytes(b"x" * 5)
    tables.write_json("results/cost/other.json", {"seconds": 7})
    tables.write_json("results/cost/detect@other.json", {"seconds": 1})
    for folder in ("metrics", "plots/classes", "plots/missed", "plots/error_effects"):
        tables.write_json(f"results/{folder}/both.json", {})
    tables.write_json("results/speed/both.json", {"rcnn": 5.0, "other": 2.0, "rescore": 0.5})
    both = collect.method(files, "both")
    assert both.parts == {"proposals": 300.0, "rcnn": 5.0, "other": 2.0, "rescore": 0.5}
    assert both.training == 10**3 + 10**4 + 7
    assert both.size == 1035


def test_time_is_unknown_where_a_stage_left_no_record(files):
    Path("results/cost/m0.json").unlink()
    assert collect.training_seconds(files, "rcnn") is None


def test_files_of_rows_that_are_gone_are_left_out(files):
    assert list(files.proposals()) == ["selective_search"]
    data = collect.charts(files, [collect.method(files, "rcnn")])
    assert list(data["errors"]) == ["rcnn"]
    assert list(data["curves"]["Recall of the proposals against IoU threshold"]["series"]) == ["selective_search"]
    assert data["curves"]["Accuracy against speed"]["series"] == {"rcnn": [[305.0, 0.6]]}
    assert data["curves"]["Loss of rcnn"]["series"] == {"classification": [[0, 2.0]]}
    assert data["classes"] == ["k"]
    assert data["precision_recall"]["k"] == {"rcnn": [[0, 0.8], [0.5, 0.8]]}


def test_rows_that_have_not_run_are_left_out(files):
    assert not collect.has_run(files, "rcnn", 7), "no detections"
    Path("data/detections").mkdir()
    Path("data/detections/rcnn.parquet").touch()
    assert collect.has_run(files, "rcnn", 7)
    assert not collect.has_run(files, "rcnn", 8), "of another data set"
    Path("data/models/rcnn/cnn.pt").unlink()
    assert not collect.has_run(files, "rcnn", 7), "trained again, and not yet measured"
    Path("data/detections/rcnn.parquet").unlink()
    assert files.rows("data/detections") == []
    Path("results/plots/loss/rcnn.json").unlink()
    assert files.rows("results/plots/loss") == []
    assert files.folder("results/plots/loss", files.rows("results/plots/loss")) == {}


def test_introduction_names_the_data():
    class Split:
        classes = ("cat", "dog")

        def __len__(self):
            return 7

    assert "data/x. 7 test images, 2 classes: cat, dog." in collect.introduction(Split(), "data/x", [])
    assert "Not run" not in collect.introduction(Split(), "data/x", [])
    missing = "Not run on these images, so not compared: hog, yolo."
    assert collect.introduction(Split(), "data/x", ["hog", "yolo"]).endswith(missing)


def test_losses_of_all_phases_are_drawn():
    """One that the first phase does not have is there too."""
    rows = [{"iteration": 0, "presence": 1.0}, {"iteration": 0, "classification": 2.0}]
    series = collect._losses({"yolo": rows})["Loss of yolo"]["series"]
    assert series == {"presence": [[0, 1.0], [0, None]], "classification": [[0, None], [0, 2.0]]}


def test_losses_are_averaged_in_pieces():
    rows = [{"iteration": k, "classification": float(k)} for k in range(200)]
    chart = collect._losses({"fast": rows})["Loss of fast"]
    line = chart["series"]["classification"]
    assert len(line) == 50
    assert line[0] == [2, 1.5]


def test_a_table_of_maps_for_each_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = ("pointing", "energy", "empty", "deletion", "insertion", "head", "half", "all")
    numbers = {key: number / 10 for number, key in enumerate(keys)}
    figures = {"boxes": 8, "right": 7, "gradient": numbers, "centre": {**numbers, "all": None}, "units": {}}
    tables.write_json(tmp_path / f"{collect.SEEN}/fast.json", figures)
    tables.write_json(tmp_path / f"{collect.SEEN}/gone.json", figures)
    entries = {"visualize@fast": entry("visualize@fast", "stages.visualize", (), (f"{collect.SEEN}/fast.json",))}
    (table,) = collect.looked_at(collect.Files(Path, entries))
    assert "fast" in table.title
    assert table.columns[:3] == ["map", "pointing", "energy"]
    assert table.rows[0] == ["gradient", 0.0, 0.1, 0.3, 0.4, 0.2, 0.5, 0.6, 0.7]
    assert table.rows[1] == ["centre, the baseline", 0.0, 0.1, 0.3, 0.4, 0.2, 0.5, 0.6, None]
    assert "8 boxes, 7 of them" in table.note
