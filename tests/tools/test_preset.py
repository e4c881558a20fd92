"""A preset runs in a copy through a real `dvc repro`; here the pipeline is one stage of one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lib.stage.errors import Fault
from stages import schemas
from tools import preset

ROOT = Path(__file__).parents[2]
STAGE = """
stages:
  count:
    cmd: python count.py
    params: [n]
    deps: [count.py, code.txt]
    outs:
      - big.txt
      - results/metrics/rcnn.json: {cache: false}
      - results/metrics/proposals/p1.json: {cache: false}
      - results/cost/count.json: {cache: false}
"""
SCRIPT = """
import pathlib
for name in ("metrics/rcnn", "metrics/proposals/p1", "cost/count"):
    path = pathlib.Path(f"results/{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pathlib.Path("params.yaml").read_text().split("n: ")[1].strip())
pathlib.Path("big.txt").write_text("big")
open("runs.txt", "a").write("x")
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name, text in {
        "dvc.yaml": STAGE, "count.py": SCRIPT, "code.txt": "old", "gone.txt": "", "params.yaml": "n: 1\n",
        "presets/default.yaml": "n: 1\n",
        "presets/two.yaml": "set:\n  n: 2  # a comment\n", "dvc.lock": "stale", "results/metrics/rcnn.json": "1",
        ".gitignore": "/.scratch/\n/big.txt\n/runs.txt\n", ".dvc/config": "",
        ".dvc/.gitignore": "/cache\n/tmp\n/config.local\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schemas, "faults", lambda values, path: [])  # this pipeline is none of ours
    return tmp_path


def run(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["preset", name])
    return preset.main()


def test_runs_in_a_copy_and_brings_the_figures(repository, monkeypatch):
    before = {path: path.read_text() for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts}
    assert run("two", monkeypatch) == 0
    home, copy = repository / "results/presets/two", repository / ".scratch/presets/two"
    for name in ("rcnn.json", "proposals/p1.json", "cost/count.json"):
        assert (home / name).read_text().startswith("2")
    assert {path: path.read_text() for path in before} == before, "nothing of the repository itself is touched"
    assert not (repository / "big.txt").exists()
    assert list((repository / ".dvc/cache/files").rglob("*/*")), "the cache is shared"

    (home / "old.json").write_text("left from an earlier run")
    (repository / "gone.txt").unlink()
    assert run("two", monkeypatch) == 0
    assert (copy / "runs.txt").read_text() == "x", "a second run does nothing again"
    assert not (home / "old.json").exists()
    assert not (copy / "gone.txt").exists()

    (repository / "code.txt").write_text("new")
    assert run("two", monkeypatch) == 0
    assert (copy / "runs.txt").read_text() == "xx"


def test_a_failing_run_brings_nothing_and_says_so(repository, monkeypatch):
    (repository / "count.py").write_text("raise SystemExit(1)")
    assert run("two", monkeypatch) != 0
    assert not (repository / "results/presets").exists()


def test_an_unknown_preset_names_the_known(repository, monkeypatch, capsys):
    assert run("tow", monkeypatch) == 1
    assert "presets/tow.yaml: is not there. Allowed: default, two. Did you mean two?" in capsys.readouterr().err
    assert not (repository / ".scratch").exists()


def test_a_wrong_value_stops_it_before_anything_is_copied(repository, monkeypatch, capsys):
    fault = Fault("bad setting", "presets/two.yaml: n", "is 2", "1", "Change it")
    monkeypatch.setattr(schemas, "faults", lambda values, path: [fault])
    assert run("two", monkeypatch) == 1
    assert "ERROR: presets/two.yaml: n: is 2. Allowed: 1. Change it." in capsys.readouterr().err
    assert not (repository / ".scratch").exists()


def test_own_paths_become_absolute_and_made_ones_stay(tmp_path, monkeypatch):
    root = tmp_path / "root"
    for folder in (root / "presets", root / "mine", tmp_path / "beside"):
        folder.mkdir(parents=True)
    (root / "w.pth").touch()
    (root / "presets/default.yaml").write_text("data:\n  root: none   # kept\nm0: {weights: none}\nnms: 0.3\n")
    monkeypatch.setattr(schemas, "faults", lambda values, path: [])
    for path, expected in [("mine", str(root / "mine")), ("../beside", str(tmp_path / "beside")), ("/abs", "/abs"),
                           ("data/bccd/VOCdevkit", "data/bccd/VOCdevkit")]:
        (root / "presets/x.yaml").write_text(f"set: {{data.root: {path}, m0.weights: w.pth}}\n")
        text = preset.own_params("x", root / "presets")
        values = YAML(typ="safe").load(text)
        assert values == {"data": {"root": expected}, "m0": {"weights": str(root / "w.pth")}, "nms": 0.3}
        assert "# kept" in text


def test_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, value in {"RCNN_DATA": "sets", "DVC_STAGE": "x", "GIT_DIR": "y", "OTHER": "z"}.items():
        monkeypatch.setenv(name, value)
    variables = preset.environment()
    assert (variables["RCNN_DATA"], variables["OTHER"]) == (str(tmp_path / "sets"), "z")
    assert not {"DVC_STAGE", "GIT_DIR"} & set(variables)
