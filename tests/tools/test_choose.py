"""A trial runs in a copy; here `dvc repro` is a function that writes what the row's figures follow from."""

import json
import sys
from pathlib import Path

import pytest

from lib.stage import overlay, params, pipeline
from lib.stage.errors import InputError
from tools import choose, preset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """Runs the command line; the mAP is the learning rate of the copy's params.yaml."""
    ran, entries = [], pipeline.entries()

    def repro(copy, target):
        values = params.load(copy / "params.yaml")
        ran.append((target, values["splits"], values["data"]["root"]))
        figures = dict.fromkeys(choose.FIGURES, 0.5) | {"voc10_map": values["fast"]["train"]["learning_rate"]}
        for path, content in (("metrics/fast", figures), ("cost/fast", {"seconds": 90.0})):
            (copy / f"results/{path}.json").parent.mkdir(parents=True, exist_ok=True)
            (copy / f"results/{path}.json").write_text(json.dumps(content))
        return int(values["fast"]["train"]["learning_rate"] == 9)

    for name in ("presets", "dvc.yaml", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(pipeline, "entries", lambda: entries)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(preset, "repro", repro)
    monkeypatch.setattr(preset, "bring", lambda root, copy: copy.mkdir(parents=True, exist_ok=True))
    monkeypatch.setattr(preset, "connect", lambda root, copy: None)
    monkeypatch.setattr(preset, "commit", lambda root: "abc")

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["choose", *words])
        return choose.main()

    run.ran, run.home = ran, tmp_path / "results/choices"
    return run


def test_trains_on_train_and_measures_on_val(trial, capsys):
    assert trial("digits", "fast", "fast.train.learning_rate=0.25") == 0
    target, splits, root = trial.ran[0]
    assert (target, splits) == ("evaluate@fast", {"train": ["train"], "test": ["val"]})
    assert root == "data/digits/VOCdevkit"
    assert "fast fast.train.learning_rate=0.25: voc10 0.250" in capsys.readouterr().out
    [kept] = json.loads((trial.home / "digits.json").read_text())
    assert kept["set"] == {"fast.train.learning_rate": 0.25}
    assert kept["voc10_map"] == 0.25
    assert kept["seconds"] == {"fast": 90.0}
    assert kept["commit"] == "abc"


def test_the_same_trial_replaces_its_line_and_others_stay(trial):
    for rate in (0.25, 0.5, 0.25):
        assert trial("digits", "fast", f"fast.train.learning_rate={rate}", "fast.train.clip_norm=null") == 0
    kept = json.loads((trial.home / "digits.json").read_text())
    assert [line["voc10_map"] for line in kept] == [0.5, 0.25]
    text = (trial.home / "digits.md").read_text()
    values = "fast.train.learning_rate=0.5 fast.train.clip_norm=null"
    assert f"| fast | {values} | as now | 0.500 | 0.500 | 0.500 | 2 | abc |" in text


def test_a_trial_of_an_earlier_preset_stays_and_is_marked(trial, monkeypatch):
    assert trial("digits", "fast", "fast.train.learning_rate=0.25") == 0
    kept = overlay.values
    changed = overlay.apply(kept("digits"), {"fast.train.regions": 64, "yolo.grid.cells": 3}, "x")
    monkeypatch.setattr(overlay, "values", lambda *_: changed)
    assert trial("digits", "fast", "fast.train.learning_rate=0.25") == 0
    lines = [line for line in (trial.home / "digits.md").read_text().splitlines() if "0.25" in line]
    assert ["since changed" in line for line in lines] == [True, False]

    other = choose.resolved(changed, "fast", {"yolo.grid.cells": 5})
    assert other == choose.resolved(changed, "fast", {}), "YOLO's params are none of Fast R-CNN's"


def test_a_failed_run_keeps_nothing(trial):
    assert trial("digits", "fast", "fast.train.learning_rate=9") == 1
    assert not trial.home.exists()


def test_what_cannot_be_a_trial_ends_before_anything_runs(trial, capsys):
    assert trial("digits", "fast", "fast.train.learning_rate", "=3", "a=[1") == 1
    message = capsys.readouterr().err
    for word in ("'fast.train.learning_rate'", "'=3'", "'a=[1'"):
        assert f"command line: {word} is no KEY=VALUE. Allowed: fast.train.iterations=600." in message
    assert trial("digits", "fst") == 1
    assert "Did you mean fast" in capsys.readouterr().err
    assert trial("digits", "fast", "fast.train.learning_rat=1") == 1
    assert "learning_rat" in capsys.readouterr().err
    assert trial("digits", "fast", "fast.train.iterations=many") == 1
    assert "fast.train.iterations: is 'many'" in capsys.readouterr().err
    assert trial("digits", "fast", "--root", "nowhere") == 1
    assert "--root: nowhere is no folder. Name the folder of the data set" in capsys.readouterr().err
    assert trial.ran == []


def test_values_are_yaml():
    assert choose.parsed(["a.b={c: 1.5}", "d=[x, y]", "e=null"]) == {"a.b": {"c": 1.5}, "d": ["x", "y"], "e": None}
    with pytest.raises(InputError):
        choose.parsed(["a"])
