"""What the documents name exists: tests, files, links, stages, params. And what is documented is complete."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lib.stage import params, pipeline

DOCUMENTS = ["README.md", *sorted(map(str, Path("docs").glob("*.md")))]
LONG = {f"docs/{name}.md" for name in ("choices", "departures", "fidelity", "pitfalls")}  # wide tables, test names
PITFALLS = re.findall(r"`([\w/]+\.py)::(\w+)`", Path("docs/pitfalls.md").read_text())


@pytest.mark.parametrize("file", sorted({file for file, _ in PITFALLS}))
def test_every_pitfall_is_held_by_a_test(file):
    """Fails with the file that has the test now, where it was moved."""
    path, faults = Path("tests") / file, []
    text = path.read_text() if path.exists() else ""
    for name in [name for other, name in PITFALLS if other == file and not defines(text, name)]:
        moved = [other for other in sorted(Path("tests").rglob("*.py")) if defines(other.read_text(), name)]
        now = " or ".join(f"`{other.relative_to('tests')}::{name}`" for other in moved)
        faults.append(f"{file} has no {name}; {now or 'nor has any other file'}")
    assert not faults, "\n".join(faults)


def defines(text, name):
    return re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_each_pitfall_names_a_test():
    points = re.split(r"\n- ", Path("docs/pitfalls.md").read_text())[1:]
    assert len(points) > 40
    for point in points:
        assert "::test_" in point, point


@pytest.mark.parametrize("path", DOCUMENTS)
def test_files_that_are_named_are_there(path):
    """Files of ours in backticks, where they have a folder and no placeholder; what a run makes need not be there."""
    folders = "lib|stages|tests|docs|presets|tools|benchmarks|experiments|data"
    outs = r"data/(tables|proposals|models|features|detections|visualization|\w+/VOCdevkit)"
    for name in re.findall(rf"`((?:{folders})/[\w./@-]+)`", Path(path).read_text()):
        made = re.match(rf"{outs}|.*\b(NAME|METHOD|mine)\b", name)
        assert made or Path(name).exists(), f"{path}: {name}"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path):
    text = Path(path).read_text()
    for target in re.findall(r"\]\(([^)#\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        link = "".join(target)
        assert link.startswith("https://") or (Path(path).parent / link).exists(), f"{path}: {link}"


@pytest.mark.parametrize("path", sorted({*DOCUMENTS} - LONG))
def test_lines_are_at_most_100_characters(path):
    long = [line for line in Path(path).read_text().splitlines() if len(line) > 100]
    assert not long, "\n".join(f"{len(line)}: {line}" for line in long)


def test_the_pipeline_is_drawn_whole():
    """Every stage, every output of data/, every package of lib."""
    text = Path("docs/pipeline.md").read_text()
    drawing = text.split("```")[1]
    for name, entry in pipeline.entries().items():
        verb, _, row = name.partition("@")
        general = f"{verb}@METHOD" if row else name
        if name.startswith("data/"):
            continue  # the pipelines of the built-in sets
        node = general if verb in {"evaluate", "draw", "visualize"} else name
        assert re.search(rf"(?<![\w@]){node}(?![\w@])", drawing), f"the drawing lacks {node}"
        assert re.search(rf"(?<![\w@]){general}(?![\w@])", text.split("## What each stage makes")[1]), general
        for out in entry.outs:
            if out.startswith("data/"):
                assert f"`{re.sub(rf'(?<=/){row}(?=[/.]|$)', 'METHOD', out) if row else out}`" in text, out
    for package in Path("lib").iterdir():
        if (package / "__init__.py").exists():
            assert f"`lib/{package.name}`" in text, package


def test_the_example_of_a_new_method_is_that_of_fast():
    """Its two rows, with another name, are those of `fast`, code deps aside."""
    text = Path("docs/adding_a_method.md").read_text().replace("mine", "fast")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    yaml = YAML(typ="safe", pure=True)
    stage, row = (yaml.load(block)["fast"] for block in blocks[:2])
    stages = yaml.load(Path("dvc.yaml"))["stages"]
    assert row == stages["detect"]["foreach"]["fast"]
    real = stages["fast"]
    assert (stage["cmd"], stage["params"], stage["outs"]) == (real["cmd"], real["params"], real["outs"])
    assert stage["deps"] == [dep for dep in real["deps"] if not dep.startswith(("lib/", "stages/"))]


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
