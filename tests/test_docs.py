"""What the documents name exists: tests, files, params, figures."""

import re
from pathlib import Path

import pytest

from lib.stage import params

PITFALLS = re.findall(r"`([\w/]+\.py)::(\w+)`", Path("docs/pitfalls.md").read_text())


@pytest.mark.parametrize("file", sorted({file for file, _ in PITFALLS}))
def test_every_pitfall_is_held_by_a_test(file):
    text = (Path("tests") / file).read_text()
    for other, name in PITFALLS:
        if other == file:
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file} has no {name}"


def test_each_pitfall_names_a_test():
    points = re.split(r"\n- ", Path("docs/pitfalls.md").read_text())[1:]
    assert len(points) > 40
    for point in points:
        assert "::test_" in point, point


@pytest.mark.parametrize("path", ["README.md", *sorted(Path("docs").glob("*.md"))], ids=str)
def test_files_that_are_named_are_there(path):
    """Files of ours in backticks, where they have a folder and no placeholder; what a run makes need not be there."""
    for name in re.findall(r"`((?:lib|stages|tests|docs|presets|tools|benchmarks|experiments|data)/[\w./@-]+)`", Path(path).read_text()):
        made = re.match(r"data/(tables|proposals|models|features|detections|\w+/VOCdevkit)|.*NAME", name)
        assert made or Path(name).exists(), f"{path}: {name}"


def test_settings_that_fidelity_names_are_settings():
    """A dotted name in backticks is a key of params.yaml; a plain one with a value is the last part of some key."""
    values = params.load()
    known = set(params.leaves(values)) | params._all_keys(values)
    blocks = {key.split(".")[0] for key in known}
    last = {key.split(".")[-1] for key in known}
    for text in re.findall(r"`([^`]+)`", Path("docs/fidelity.md").read_text()):
        name = text.split(":")[0].strip()
        if re.fullmatch(r"\w+(\.\w+)+", name) and name.split(".")[0] in blocks:
            assert name in known, name
        elif ":" in text and re.fullmatch(r"\w+", name):
            assert name in last, text
