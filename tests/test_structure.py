"""The shape of the repository: imports go one way, dvc.yaml names all code that a stage runs, modules stay small."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from lib.report import experiments
from lib.stage import overlay, pipeline
from lib.stage.schemas import keys
from stages import schemas
from tests.closure import MACHINERY, closure, code_deps, dep_of, imports

# Who may import whom: a package all that stand before it, the last two what they name.
ORDER = [
    {"stage", "parallel", "boxes", "compiled.py", "storage"},
    {"images"},
    {"datasets", "selective_search"},
    {"proposals"},
    {"backbones"},
    {"pooling"},
    {"training", "linear"},
    {"detectors"},
    {"detection", "visualization"},
    {"report"},
]
BASE = {"stage", "storage", "boxes"}
ALLOWED = {
    package: set().union(*ORDER[:place]) | {package} | (ORDER[0] if place == 0 else set())
    for place, level in enumerate(ORDER)
    for package in level
} | {
    "report": {*BASE, "compiled.py", "images", "evaluation", "detection", "visualization", "report"},
    "evaluation": {*BASE, "evaluation"},
    "digits": {*BASE, "digits"},
    "fetch": {*BASE, "fetch"},
}
MODULES = sorted(str(path) for path in Path("lib").rglob("*.py"))
SCRIPTS = sorted(str(path) for path in Path("stages").glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    package = module.split("/")[1]
    for other in imports(module):
        assert other.startswith("lib/"), f"{module} imports {other}"
        assert package == "__init__.py" or other.split("/")[1] in ALLOWED[package], f"{module} imports {other}"


def test_what_changes_no_result_needs_nothing_of_what_does():
    """lib/stage and lib/parallel are no deps: were they to decide a result, nothing would rerun."""
    for module in MODULES:
        if module.startswith(("lib/stage/", "lib/parallel/")):
            others = {other for other in imports(module) if not other.startswith(MACHINERY)}
            assert others <= {"lib/storage/__init__.py", "lib/storage/tables.py"}, f"{module} imports {others}"


@pytest.mark.parametrize("name", sorted(pipeline.entries()))
def test_code_deps_are_the_folders_of_the_imports(name):
    """Case 59: all that a stage runs is a dep, and nothing that no row of its script runs."""
    entry = pipeline.entries()[name]
    declared = {dep for dep in entry.deps if dep.startswith(("lib/", "stages/"))}
    needed = code_deps(entry)
    missing = "\n".join(f"      - {path}" for path in sorted(needed - declared))
    assert not needed - declared, f"add to the deps of {name} in dvc.yaml:\n{missing}"
    rows = [other for other in pipeline.entries().values() if other.script == entry.script]
    shared = set().union(*map(code_deps, rows))
    own = {path for path in shared if path.startswith(("lib/detectors/", "lib/pooling"))} - needed  # named row by row
    assert declared <= shared - own, f"{name} does not run {sorted(declared - (shared - own))}"


def test_dvc_yaml_stays_readable():
    counts = [len(code_deps(entry)) for entry in pipeline.entries().values()]
    assert max(counts) <= 15
    assert sum(counts) / len(counts) <= 9
    methods = sum(name.startswith("evaluate@") for name in pipeline.entries())
    assert len(Path("dvc.yaml").read_text().splitlines()) <= 860 + 40 * (methods - 8)  # a stage and a row for each more


def test_no_stage_depends_on_the_machinery():
    for entry in pipeline.entries().values():
        assert not [dep for dep in entry.deps if dep in {"lib/stage", "lib/parallel", "lib", "stages"}], entry.name
    assert dep_of("lib/boxes/nms.py") == "lib/boxes"
    assert dep_of("lib/detectors/fast/network.py") == "lib/detectors/fast/network.py"


def test_a_training_does_not_depend_on_what_runs_at_test():
    for name, entry in pipeline.entries().items():
        if entry.script in {
            "stages.train",
            "stages.extract",
            "stages.train_svm",
            "stages.fit_boxes",
            "stages.propose_rpn",
        }:
            at_test = [path for path in closure(entry) if re.search(r"/detector\.py$|lib/detection/", path)]
            assert not at_test, f"{name} runs {at_test}"


def test_a_role_is_a_declared_file():
    """What stands in a role and has the form of a path is a dep, or an out where the role is `makes`."""
    for name, entry in pipeline.entries().items():
        for role, value in entry.roles.items():
            if "/" in value:
                declared = entry.outs if role == "makes" else entry.deps
                assert value in declared, f"{name}: {role}={value}"


@pytest.mark.parametrize("name", sorted(pipeline.entries()))
def test_params_are_exactly_what_the_script_reads(name):
    entry = pipeline.entries()[name]
    assert set(keys(schemas.schemas()[name], entry)) == set(entry.params)


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
    assert subprocess.run(["git", "check-ignore", "-q", "lib/stage/run.py"], check=False).returncode == 1
    for entry in pipeline.entries().values():
        for out in entry.outs:
            ignored = subprocess.run(["git", "check-ignore", "-q", out], check=False).returncode == 0
            heavy = out.startswith(("results/pictures/", "results/report.html"))
            assert ignored == (heavy or not out.startswith("results/")), out
