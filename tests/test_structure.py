"""The shape of the repository: imports go one way, dvc.yaml names all code that a stage runs, modules stay small."""

import json
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from lib.core import overlay, pipeline, schemas
from lib.evaluation import experiments
from tests.closure import closure, imports

ORDER = ["core", "data", "proposals", "nets", "learners", "detectors"]
ALLOWED = {package: set(ORDER[: place + 1]) for place, package in enumerate(ORDER)} | {"evaluation": {"core", "evaluation"}}
MODULES = sorted(str(path) for path in Path("lib").rglob("*.py"))
SCRIPTS = sorted(str(path) for path in Path("stages").glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    package = module.split("/")[1]
    for other in imports(module):
        assert other.startswith("lib/"), f"{module} imports {other}"
        assert other.split("/")[1] in ALLOWED[package], f"{module} imports {other}"


@pytest.mark.parametrize("name", sorted(pipeline.entries()))
def test_deps_are_exactly_the_import_closure(name):
    entry = pipeline.entries()[name]
    declared = {dep for dep in entry.deps if dep.startswith(("lib/", "stages/"))}
    needed = closure(entry.script, entry.args)
    missing = "\n".join(f"      - {path}" for path in sorted(needed - declared))
    assert not needed - declared, f"add to the deps of {name} in dvc.yaml:\n{missing}"
    rows = [other for other in pipeline.entries().values() if other.script == entry.script]
    shared = set().union(*(closure(row.script, row.args) for row in rows))
    assert declared <= shared, f"{name} does not run {sorted(declared - shared)}"


@pytest.mark.parametrize("name", sorted(pipeline.entries()))
def test_params_are_exactly_what_the_script_reads(name):
    entry = pipeline.entries()[name]
    assert set(schemas.keys(import_module(entry.script).PARAMS, entry.args)) == set(entry.params)


@pytest.mark.parametrize("name", overlay.names())
def test_presets_are_valid(name):
    assert schemas.faults(overlay.values(name), name) == []


@pytest.mark.parametrize("name", sorted({*overlay.names()} - {overlay.DEFAULT}))
def test_a_preset_holds_only_what_differs_each_with_a_comment(name):
    path = overlay.FOLDER / f"{name}.yaml"
    preset = overlay.read(path, overlay.Preset)
    below = overlay.values(preset.base)
    for key, value in preset.set.items():
        changed = overlay.apply(below, {key: value}, name)
        assert json.dumps(changed) != json.dumps(below), f"{path}: {key} is {value} anyway"
    lines = path.read_text().splitlines()
    for line in lines[lines.index("set:") + 1 :] if preset.set else []:
        assert not line.startswith("  ") or line.startswith("    -") or "  # " in line, f"{path}: {line}: say why"


@pytest.mark.parametrize("path", sorted(Path("experiments").glob("*/[0-9]*.yaml")), ids=str)
def test_rows_of_experiments_are_valid(path):
    changed = overlay.apply(overlay.values(overlay.DEFAULT), overlay.read(path, experiments.Row).set, str(path))
    assert schemas.faults(changed, str(path)) == []


def test_params_yaml_is_the_default():
    """The one full file, and what all presets are laid over; `make params NAME=default` makes them equal."""
    same = Path("params.yaml").read_text() == Path("presets/default.yaml").read_text()
    assert same, "edit presets/default.yaml, then make params NAME=default; or params.yaml holds a choice of yours"


def test_small_modules_and_thin_stages():
    for path in MODULES:
        assert len(Path(path).read_text().splitlines()) <= 250, path
    for path in SCRIPTS:
        assert len(Path(path).read_text().splitlines()) <= 90, path


def test_lib_is_not_ignored_and_what_dvc_caches_is():
    assert subprocess.run(["git", "check-ignore", "-q", "lib/core/run.py"], check=False).returncode == 1
    for entry in pipeline.entries().values():
        for out in entry.outs:
            ignored = subprocess.run(["git", "check-ignore", "-q", out], check=False).returncode == 0
            heavy = out.startswith(("results/pictures/", "results/report.html"))
            assert ignored == (heavy or not out.startswith("results/")), out
