"""params.yaml is written from the default and a preset: comments and layout stay, and no edit is lost."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lib.stage import overlay
from lib.stage.errors import InputError
from tools import params as tool

DEFAULT = Path("presets/default.yaml").read_text()
TEXT = """\
# head
a:
  size: 1       # pixels [2]
  shape: {name: cosine, warmup: 0.2}  # {name: cosine, warmup} or {name: step, every}
  groups:       # of words
    - [one, two]
    - [three]
  none: null
  sides: [1.0]  # of squares

  # on the next block
last: "x # y"   # text
"""


def load(text):
    return YAML(typ="safe", pure=True).load(text)


def comments(text):
    """The comments of a file in their order; no text of params.yaml holds a `#`."""
    return re.findall(r"#.*", text)


@pytest.mark.parametrize("name", overlay.names())
def test_a_preset_is_written_with_every_comment_and_no_other_line_changed(name):
    text = tool.written(name)
    assert load(text) == overlay.values(name)
    head = [] if text == DEFAULT else [text.splitlines()[0]]
    assert comments(text) == head + comments(DEFAULT)
    assert [line.split("#")[0].split(":")[0] for line in text.splitlines() if ":" in line.split("#")[0]] == [
        line.split("#")[0].split(":")[0] for line in DEFAULT.splitlines() if ":" in line.split("#")[0]
    ], "the keys stand in their order, one a line"
    changed = {line for line in text.splitlines() if not line.startswith("#")} - set(DEFAULT.splitlines())
    shown = {part for key in overlay.preset(name) for part in key.split(".")[-2:]} | {
        "scale", "loss", "proposing", "matching",
    }
    for line in changed:
        assert line.split(":")[0].strip() in shown or line.startswith("    - ["), line


def test_the_default_and_digits_are_the_file_as_it_comes():
    assert tool.written("default") == tool.written("digits") == DEFAULT


def test_rewriting_by_hand():
    text = tool.rewritten(TEXT, {
        "a.size": 10, "a.shape": {"name": "step", "every": 5}, "a.groups": [], "a.none": 1e-05, "a.sides": None,
        "last": "no: #",
    })
    assert text == """\
# head
a:
  size: 10      # pixels [2]
  shape: {name: step, every: 5}       # {name: cosine, warmup} or {name: step, every}
  groups: []    # of words
  none: 1e-05
  sides: null   # of squares

  # on the next block
last: 'no: #'   # text
"""
    assert tool.rewritten(TEXT, {}) == TEXT


def test_a_value_inside_a_shape_and_long_lists_of_lists():
    words = [["w" * 40, "v" * 40], ["u" * 40]]
    text = tool.rewritten(TEXT, {"a.shape.warmup": 0.25, "a.groups": words, "a.sides": [1.0, 2.0, 3.5, 4.25]})
    lines = text.splitlines()
    assert lines[3] == "  shape: {name: cosine, warmup: 0.25}  # {name: cosine, warmup} or {name: step, every}"
    assert lines[4:7] == ["  groups:       # of words", f"    - [{'w' * 40}, {'v' * 40}]", f"    - [{'u' * 40}]"]
    assert lines[8] == "  sides: [1.0, 2.0, 3.5, 4.25]  # of squares"
    again = tool.rewritten(text, {"a.shape.warmup": 0.2, "a.groups": [["one", "two"], ["three"]], "a.sides": [1.0]})
    assert again.splitlines()[4] == "  groups: [[one, two], [three]]  # of words"


def test_a_block_that_changes_as_a_whole_keeps_its_comments():
    block = {**load(TEXT)["a"], "size": 3, "sides": []}
    assert tool.rewritten(TEXT, {"a": block}) == tool.rewritten(TEXT, {"a.size": 3, "a.sides": []})


@pytest.fixture
def repository(tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    for name, text in {
        "params": TEXT, "presets/default": TEXT, "presets/ten": "set: {a.size: 10}\n", "presets/bad": "set: {b: 1}\n",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool.schemas, "faults", lambda values, path: [])
    return tmp_path / "params.yaml"


def run(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["params", name])
    return tool.main()


def test_presets_follow_one_another_and_the_default_comes_back(repository, monkeypatch, capsys):
    assert run("ten", monkeypatch) == 0
    head = "# Written by `make params NAME=ten`: presets/ten.yaml over presets/default.yaml.\n"
    assert repository.read_text() == head + TEXT.replace("size: 1 ", "size: 10")
    assert "preset ten, 1 settings are not the default" in capsys.readouterr().out
    assert run("default", monkeypatch) == 0
    assert repository.read_text() == TEXT
    repository.unlink()
    assert run("ten", monkeypatch) == 0


def test_edits_are_never_lost(repository, monkeypatch, capsys):
    edited = TEXT.replace("size: 1", "size: 7")
    repository.write_text(edited)
    assert run("ten", monkeypatch) == 1
    assert "params.yaml: has edits that are in no commit and no preset. Keep them" in capsys.readouterr().err
    assert repository.read_text() == edited

    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run([*git, "add", "params.yaml"], check=True)
    assert run("ten", monkeypatch) == 1, "what is staged is no commit"
    subprocess.run([*git, "commit", "-qm", "mine"], check=True)
    assert run("ten", monkeypatch) == 0
    assert load(repository.read_text())["a"]["size"] == 10


def test_a_wrong_preset_leaves_the_file_alone(repository, monkeypatch, capsys):
    assert run("bad", monkeypatch) == 1
    assert "presets/bad.yaml: b: is not in params.yaml" in capsys.readouterr().err
    assert run("tne", monkeypatch) == 1
    assert "presets/tne.yaml: is not there. Allowed: bad, default, ten. Did you mean ten?" in capsys.readouterr().err
    assert repository.read_text() == TEXT


def test_values_are_judged_by_the_types_of_all_stages(tmp_path):
    (tmp_path / "default.yaml").write_text(DEFAULT)
    (tmp_path / "x.yaml").write_text(
        "set:\n  fast.train.schedule: {name: cosine, every: 3}\n  report.level: 2.0\n  spp.finetune.batch: '8'\n"
    )
    with pytest.raises(InputError) as caught:
        tool.written("x", tmp_path)
    text = str(caught.value)
    for part in ("fast.train.schedule.every: is 3; {name: cosine} has no such setting",
                 "fast.train.schedule.warmup: is missing", "report.level: is 2.0", "spp.finetune.batch: is '8' (text)",
                 f"{tmp_path}/x.yaml: "):
        assert part in text


def test_a_preset_for_images_of_ones_own_says_what_is_to_be_set(tmp_path, monkeypatch, capsys):
    for part in ("presets", "dvc.yaml", "stages", "lib", "data"):
        (tmp_path / part).symlink_to(Path(part).resolve())
    (tmp_path / "params.yaml").write_text(DEFAULT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tool, "unsaved", lambda path: False)
    for name, words in (("photographs", "Now set data.root in params.yaml to your images, and run: dvc repro"),
                        ("bccd", "default. Now run: dvc repro"), ("default", "the default. Now run: dvc repro")):
        monkeypatch.setattr(sys, "argv", ["params", name])
        assert tool.main() == 0
        assert words in capsys.readouterr().out
