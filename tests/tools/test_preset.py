"""A preset runs in a copy through a real `dvc repro`; here the pipeline is a few stages of a few lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lib.report.lineage import before
from lib.stage import pipeline
from lib.stage.errors import Fault
from stages import schemas
from tools import preset

ROOT = Path(__file__).parents[2]
STAGES = """
stages:
  count:
    cmd: python -m stages.count rcnn big.txt
    params: [n]
    deps: [stages/count.py, code.txt]
    outs:
      - big.txt
      - results/metrics/proposals/p1.json: {cache: false}
      - results/cost/count.json: {cache: false}
  evaluate:
    foreach: {rcnn: {}, spp: {}}
    do:
      cmd: python -m stages.evaluate ${key}
      params: ["${key}"]
      deps: [stages/evaluate.py, big.txt]
      outs:
        - results/metrics/${key}.json: {cache: false}
        - results/plots/classes/${key}.json: {cache: false}
        - results/plots/other/${key}.json: {cache: false}
  other:
    cmd: python -m stages.evaluate other && mkdir -p data/visualization && touch data/visualization/seen
    params: [other]
    deps: [stages/evaluate.py, big.txt]
    outs:
      - data/visualization/seen
      - results/metrics/other.json: {cache: false}
  report:
    cmd: python -m stages.report
    deps: [stages/report.py, results/metrics, data/visualization]
    outs:
      - results/report.md: {cache: false}
"""
COUNT = """
import pathlib
number = pathlib.Path("params.yaml").read_text().split("n: ")[1].split()[0]
for name in ("metrics/proposals/p1", "cost/count"):
    path = pathlib.Path(f"results/{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(number)
pathlib.Path("big.txt").write_text("big")
open("runs.txt", "a").write("count ")
"""
EVALUATE = """
import pathlib, sys
value = pathlib.Path("params.yaml").read_text().split(f"{sys.argv[1]}: ")[1].split()[0]
if value == "broken":
    sys.exit(1)
for folder in ("metrics", "plots/classes", "plots/other"):
    pathlib.Path(f"results/{folder}").mkdir(parents=True, exist_ok=True)
    pathlib.Path(f"results/{folder}/{sys.argv[1]}.json").write_text(value)
open("runs.txt", "a").write(f"{sys.argv[1]} ")
"""
REPORT = """
import pathlib
names = sorted(path.stem for path in pathlib.Path("results/metrics").glob("*.json"))
root = pathlib.Path("params.yaml").read_text().split("root: ")[1].split()[0]
pathlib.Path("results/report.md").write_text(f"# Comparison\\n\\nData: {root}. {' '.join(names)}")
"""
VALUES = "n: 1\nrcnn: 1\nspp: 1\nother: 1\ndata:\n  root: some/where\n"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name, text in {
        "dvc.yaml": STAGES, "stages/count.py": COUNT, "stages/evaluate.py": EVALUATE, "stages/report.py": REPORT,
        "code.txt": "old", "gone.txt": "",
        "params.yaml": VALUES, "presets/default.yaml": VALUES,
        "presets/two.yaml": "set:\n  n: 2  # a comment\n", "results/metrics/rcnn.json": "1",
        "dvc.lock": "schema: '2.0'\nstages: {}\n",
        ".gitignore": "/.scratch/\n/big.txt\n/runs.txt\n", ".dvc/config": "",
        ".dvc/.gitignore": "/cache\n/tmp\n/config.local\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schemas, "faults", lambda values, path: [])  # this pipeline is none of ours
    monkeypatch.setattr(pipeline, "entries", pipeline.entries.__wrapped__)  # nor in the cache
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["preset", *arguments])
    return preset.main()


def rows_of(repository):
    return json.loads((repository / "results/presets/two/rows.json").read_text())


def test_runs_in_a_copy_and_brings_the_figures(repository, monkeypatch):
    before = {path: path.read_text() for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert run(monkeypatch, "two") == 0
    home, copy = repository / "results/presets/two", repository / ".scratch/presets/two"
    for name, content in {"rcnn": "1", "spp": "1", "proposals/p1": "2", "cost/count": "2", "classes/spp": "1"}.items():
        assert (home / f"{name}.json").read_text() == content
    assert not list(home.rglob("plots")) + list(home.rglob("other")), "no other plots"
    assert not (home / "other.json").exists(), "no row of evaluate"
    assert (home / "report.md").read_text() == "# Comparison\n\nData: where. other rcnn spp"
    assert {path: path.read_text() for path in before} == before, "nothing of the repository itself is touched"
    assert not (repository / "big.txt").exists()
    assert list((repository / ".dvc/cache/files").rglob("*/*")), "the cache is shared"
    assert (copy / "runs.txt").read_text() == "count rcnn spp other ", "the other stages run at the end"

    (repository / "gone.txt").unlink()
    assert run(monkeypatch, "two") == 0
    assert (copy / "runs.txt").read_text() == "count rcnn spp other ", "a second run does nothing again"
    assert not (copy / "gone.txt").exists()

    (repository / "code.txt").write_text("new")
    assert run(monkeypatch, "two") == 0
    assert (copy / "runs.txt").read_text() == "count rcnn spp other count "


def test_rows_run_alone_and_merge_their_figures(repository, monkeypatch, capsys):
    assert run(monkeypatch, "two", "spp") == 0
    home, copy = repository / "results/presets/two", repository / ".scratch/presets/two"
    assert (copy / "runs.txt").read_text() == "count spp "
    assert list(rows_of(repository)) == ["spp"]
    assert (home / "report.md").read_text() == "# Comparison\n\nData: where. spp", "a report of the rows that are there"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert rows_of(repository)["spp"]["commit"] == commit[:12]
    assert "cores" in rows_of(repository)["spp"]["processor"]

    (repository / "presets/two.yaml").write_text("set:\n  n: 2\n  spp: 5\n")
    assert run(monkeypatch, "two", "rcnn") == 0
    assert "stale, as their code or params changed since: spp" in capsys.readouterr().out
    rows = rows_of(repository)
    assert {row: origin["stale"] for row, origin in rows.items()} == {"rcnn": False, "spp": True}
    older = "Rows of other code or params than the last run's: spp."
    assert (home / "report.md").read_text() == f"# Comparison\n\n{older}\n\nData: where. rcnn spp"
    assert rows["rcnn"]["commit"] == f"{commit[:12]}+", "the run used an edit that is in no commit"
    assert (home / "spp.json").read_text() == "1", "another row's figures stay"

    assert run(monkeypatch, "two", "spp") == 0
    assert not rows_of(repository)["spp"]["stale"]
    assert (home / "spp.json").read_text() == "5"
    (repository / "stages/evaluate.py").write_text(EVALUATE + "# another version\n")
    assert run(monkeypatch, "two", "spp") == 0
    assert {row: origin["stale"] for row, origin in rows_of(repository).items()} == {"rcnn": True, "spp": False}


def test_an_edit_during_the_run_is_no_part_of_it(repository, monkeypatch):
    real = preset.repro

    def edited_meanwhile(copy, *targets):
        code = real(copy, *targets)
        (repository / "stages/evaluate.py").write_text(EVALUATE + "# edited while the row ran\n")
        return code

    monkeypatch.setattr(preset, "repro", edited_meanwhile)
    assert run(monkeypatch, "two", "spp") == 0
    origin = rows_of(repository)["spp"]
    assert origin["stale"]
    assert not origin["commit"].endswith("+"), "the commit is that of the code that ran"


def test_a_row_that_fails_does_not_keep_the_next_from_running(repository, monkeypatch, capsys):
    assert run(monkeypatch, "two") == 0
    (repository / "presets/two.yaml").write_text("set:\n  n: 2\n  rcnn: broken\n  spp: 7\n")
    assert run(monkeypatch, "two") == 1
    assert "ERROR: failed: rcnn; see above" in capsys.readouterr().err
    home = repository / "results/presets/two"
    assert (home / "rcnn.json").read_text() == "1", "earlier figures stay"
    assert (home / "spp.json").read_text() == "7"
    assert {row: origin["stale"] for row, origin in rows_of(repository).items()} == {"rcnn": True, "spp": False}


def test_where_no_row_succeeds_nothing_is_marked(repository, monkeypatch):
    assert run(monkeypatch, "two") == 0
    (repository / "presets/two.yaml").write_text("set:\n  n: 2\n  rcnn: broken\n  spp: broken\n")
    assert run(monkeypatch, "two") == 1
    assert not any(origin["stale"] for origin in rows_of(repository).values())


def test_the_data_set_at_hand_is_no_part_of_a_rows_state(monkeypatch):
    """Which stage makes the data set that `prepare` reads is for the preset to say, not for params.yaml."""
    entries = pipeline.entries()
    made, fetched = "data/digits/dvc.yaml:digits", "data/bccd/dvc.yaml:bccd"
    assert made in preset.stages_of("fast", entries, "data/digits/VOCdevkit")
    assert fetched not in preset.stages_of("fast", entries, "data/digits/VOCdevkit")
    of_bccd = preset.stages_of("fast", entries, "data/bccd/VOCdevkit")
    assert fetched in of_bccd
    assert made not in of_bccd, "though the params.yaml at hand is the digits'"
    monkeypatch.setattr(preset, "before", lambda stage, known: before(stage, known) - {made})
    assert preset.stages_of("fast", entries, "data/bccd/VOCdevkit") == of_bccd


def test_a_failing_run_brings_nothing_and_says_so(repository, monkeypatch):
    (repository / "stages/count.py").write_text("raise SystemExit(1)")
    assert run(monkeypatch, "two") != 0
    assert not (repository / "results/presets").exists()


def test_unknown_rows_are_named_with_the_known(repository, monkeypatch, capsys):
    assert run(monkeypatch, "two", "sp", "rcnn", "x") == 1
    message = capsys.readouterr().err
    assert "'sp' is no row of evaluate. Allowed: rcnn, spp. Did you mean spp?" in message
    assert "'x' is no row" in message
    assert not (repository / ".scratch").exists()


def test_an_unknown_preset_names_the_known(repository, monkeypatch, capsys):
    assert run(monkeypatch, "tow") == 1
    assert "presets/tow.yaml: is not there. Allowed: default, two. Did you mean two?" in capsys.readouterr().err
    assert not (repository / ".scratch").exists()


def test_a_wrong_value_stops_it_before_anything_is_copied(repository, monkeypatch, capsys):
    fault = Fault("bad setting", "presets/two.yaml: n", "is 2", "1", "Change it")
    monkeypatch.setattr(schemas, "faults", lambda values, path: [fault])
    assert run(monkeypatch, "two") == 1
    assert "ERROR: presets/two.yaml: n: is 2. Allowed: 1. Change it." in capsys.readouterr().err
    assert not (repository / ".scratch").exists()


def test_own_paths_become_absolute_and_made_ones_stay(tmp_path, monkeypatch):
    root = tmp_path / "root"
    for folder in (root / "presets", root / "mine", tmp_path / "beside", tmp_path / "data/beside/VOCdevkit"):
        folder.mkdir(parents=True)
    (root / "w.pth").touch()
    (root / "presets/default.yaml").write_text("data:\n  root: none   # kept\nm0: {weights: none}\nnms: 0.3\n")
    monkeypatch.setattr(schemas, "faults", lambda values, path: [])
    for path, expected in [("mine", str(root / "mine")), ("../beside", str(tmp_path / "beside")), ("/abs", "/abs"),
                           ("../data/beside/VOCdevkit", str(tmp_path / "data/beside/VOCdevkit")),
                           ("data/bccd/VOCdevkit", "data/bccd/VOCdevkit")]:
        (root / "presets/x.yaml").write_text(f"set: {{data.root: {path}, m0.weights: w.pth}}\n")
        text = preset.own_params("x", root / "presets")
        values = YAML(typ="safe").load(text)
        assert values == {"data": {"root": expected}, "m0": {"weights": str(root / "w.pth")}, "nms": 0.3}
        assert "# kept" in text
        other = preset.own_params("x", root / "presets", {"data.root": "../beside"})
        assert YAML(typ="safe").load(other)["data"]["root"] == str(tmp_path / "beside")


def test_the_data_may_lie_elsewhere(repository, monkeypatch, capsys):
    """`--root` reaches the copy's params; the preset's figures are the preset's all the same."""
    (repository / "mine").mkdir()
    assert run(monkeypatch, "two", "spp", "--root", "mine") == 1
    assert "--root: mine holds no file. Name the folder of the data set" in capsys.readouterr().err
    (repository / "mine/a.jpg").touch()
    assert run(monkeypatch, "two", "spp", "--root", "mine") == 0
    text = (repository / ".scratch/presets/two/params.yaml").read_text()
    assert YAML(typ="safe").load(text)["data"]["root"] == str(repository / "mine")
    code = rows_of(repository)["spp"]["code"]
    assert run(monkeypatch, "two", "spp", "--root", str(repository / "mine")) == 0
    assert rows_of(repository)["spp"]["code"] == code


def test_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RCNN_DATA": "sets", "DVC_STAGE": "x", "GIT_DIR": "y", "OTHER": "z"}.items():
        monkeypatch.setenv(name, value)
    variables = preset.environment()
    assert (variables["RCNN_DATA"], variables["OTHER"]) == (str(tmp_path / "sets"), "z")
    assert not {"DVC_STAGE", "GIT_DIR"} & set(variables)
