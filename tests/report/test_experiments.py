"""The ablations' files: readable, true to the params they change, and the table that comes of them."""

from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from lib.report import experiments
from lib.report.experiments import Group, Row
from lib.stage import overlay, params
from lib.stage.errors import InputError

GROUPS = sorted(path.parent.name for path in experiments.FOLDER.glob("*/group.yaml"))
GROUP = Group(title="T", source="S", note="N", targets=["evaluate@rcnn"], metrics="m.json", measure="voc07_map")


@pytest.mark.parametrize("name", GROUPS)
def test_every_override_names_a_setting(name):
    values = params.load()
    _, rows = experiments.read(name)
    assert rows
    for file, row in rows.items():
        changed = params.leaves(overlay.apply(values, row.set, file))
        assert all(changed[key] == value for key, value in params.leaves(row.set).items())
        assert type(row.set).__name__ == "dict"


def test_rows_differ():
    for name in GROUPS:
        _, rows = experiments.read(name)
        sets = [(sorted(row.set.items(), key=str), row.metrics) for row in rows.values()]
        assert all(sets.count(changes) == 1 for changes in sets), name


def test_the_papers_figures():
    # R-CNN table 2: pool5, fc7, FT pool5, FT fc7, FT fc7 BB. Faster R-CNN table 9: λ 0.1, 1, 10, 100.
    assert [row.paper for row in experiments.read("rcnn-layers")[1].values()] == [44.2, 44.7, 47.3, 54.2, 58.5]
    lambdas = experiments.read("faster-lambda")[1].values()
    figures = {row.set["faster.m1.loss.box_weight"]: row.paper for row in lambdas}
    assert figures == {0.1: 67.2, 1.0: 68.9, 10.0: 69.9, 100.0: 69.1}


def test_the_command_that_queues():
    row = Row(row="r", paper=None, set={"a.scales": [1, 2], "a.on": False, "a.name": "svm", "a.none": None})
    assert experiments.command("g-r", GROUP, row, 4) == [
        "dvc", "exp", "run", "--queue", "--name", "g-r", "-S", "a.scales=[1, 2]", "-S", "a.on=false",
        "-S", 'a.name="svm"', "-S", "a.none=null", "-S", "seed=4", "evaluate@rcnn",
    ]
    assert experiments.name_of("g", "01-r", None) == "g-01-r"
    assert experiments.name_of("g", "01-r", 4) == "g-01-r-seed4"


def test_a_shape_that_is_queued_takes_the_old_ones_place(tmp_path):
    row = Row(row="r", paper=None, set={"a.schedule": {"name": "step", "every": 10, "gamma": 0.1}})
    words = [word for word in experiments.command("g-r", GROUP, row, None) if "schedule" in word]
    assert words == ["~a.schedule", '+a.schedule={name: "step", every: 10, gamma: 0.1}']
    path = tmp_path / "params.yaml"
    path.write_text("a:\n  schedule: {name: cosine, warmup: 0.2}  # kept\n")
    (sweep,) = get_hydra_sweeps({"params.yaml": words})  # as DVC does when it queues, and when it runs
    apply_overrides(path, sweep["params.yaml"])
    assert params.load(path) == {"a": {"schedule": {"name": "step", "every": 10, "gamma": 0.1}}}
    assert "# kept" in path.read_text()


def test_table_with_seeds():
    rows = [Row(row="one", paper=54.2, set={}), Row(row="two", paper=None, set={}), Row(row="three", paper=1, set={})]
    record = experiments.record(GROUP, rows, [[0.5], [0.5, 0.7, 0.9], []], [3, 4, 5])
    # Mean 70, deviation of 50, 70, 90 with n - 1: 20.
    assert experiments.table(record).rows == [
        ["one", "54.2", "50.0"], ["two", "–", "70.0 ± 20.0"], ["three", "1", "not run"],
    ]
    assert "Seeds 3, 4, 5" in experiments.table(record).note


def test_unknown_groups_and_broken_files(tmp_path):
    with pytest.raises(InputError, match="Did you mean rcnn-layers"):
        experiments.read("rcnn-layer")
    folder = tmp_path / "g"
    folder.mkdir()
    (folder / "group.yaml").write_text(
        "title: T\nsource: S\nnote: N\ntargets: [x]\nmetrics: m.json\nmeasure: voc07_map\n"
    )
    (folder / "01-a.yaml").write_text("row: a\npapers: 1\nset: {}\n")
    with pytest.raises(InputError, match="01-a.yaml: papers: is not a setting"):
        experiments.read("g", tmp_path)
    assert Path("experiments").is_dir()
