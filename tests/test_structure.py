"""The shape of the repository: imports go one way, dvc.yaml names all code that a stage runs, modules stay small."""

import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from lib.stage import params, pipeline, schemas
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


@pytest.mark.parametrize("preset", sorted(Path("presets").glob("*.yaml")), ids=str)
def test_presets_are_whole_and_valid(preset):
    values = params.load(preset)
    faults = []
    for entry in pipeline.entries().values():
        params.validate(values, schemas.keys(import_module(entry.script).PARAMS, entry.args), str(preset))
    declared = {key for entry in pipeline.entries().values() for key in entry.params} | set(schemas.UNTRACKED)
    assert params.unread(values, declared) == faults


def test_the_default_is_a_preset():
    assert params.load("params.yaml") == params.load("presets/digits.yaml")


def test_small_modules_and_thin_stages():
    for path in MODULES:
        assert len(Path(path).read_text().splitlines()) <= 250, path
    for path in SCRIPTS:
        assert len(Path(path).read_text().splitlines()) <= 90, path


def test_lib_is_not_ignored_and_what_dvc_caches_is():
    assert subprocess.run(["git", "check-ignore", "-q", "lib/stage/run.py"], check=False).returncode == 1
    for entry in pipeline.entries().values():
        for out in entry.outs:
            ignored = subprocess.run(["git", "check-ignore", "-q", out], check=False).returncode == 0
            heavy = out.startswith(("results/pictures/", "results/report.html"))
            assert ignored == (heavy or not out.startswith("results/")), out
