"""What is shipped around the code: files that would make DVC see changes, paths that hold on one machine only."""

import re
import subprocess
from pathlib import Path

import pytest

from lib.stage import overlay


@pytest.fixture(scope="module")
def ignored():
    from dvc.repo import Repo

    with Repo() as repo:
        yield repo.dvcignore


@pytest.mark.parametrize("path", [
    "lib/stage/__pycache__/run.cpython-311.pyc", "data/own/.DS_Store", "data/own/Thumbs.db",
    "data/own/.ipynb_checkpoints/a.ipynb", ".scratch/propose/lock",
])
def test_case_60_what_tools_leave_behind_changes_no_dependency(ignored, path):
    parents = [str(Path(path).parents[i]) for i in range(len(Path(path).parents) - 1)]
    absolute = str(Path.cwd() / path)
    assert ignored.is_ignored_file(absolute, ignore_subrepos=False) or any(
        ignored.is_ignored_dir(str(Path.cwd() / parent), ignore_subrepos=False) for parent in parents
    )


@pytest.mark.parametrize("path", ["lib/stage/run.py", "data/tables/images.parquet", "params.yaml"])
def test_what_stages_read_is_not_ignored(ignored, path):
    assert not ignored.is_ignored_file(str(Path.cwd() / path), ignore_subrepos=False)


def test_case_62_no_shipped_path_holds_on_one_machine_only():
    """Experiments run in copies of the workspace, other people's in other folders."""
    shipped = subprocess.run(["git", "ls-files", "*.yaml", "*.lock"], capture_output=True, text=True, check=True)
    for name in shipped.stdout.split():
        if Path(name).exists():
            text = Path(name).read_text()
            paths = re.findall(r"(?:^|[\s:\"'-])(/(?:home|root|work|tmp|Users)/\S*|\.\./\S+/\S*)", text)
            assert not paths, f"{name}: {paths}"


@pytest.mark.parametrize("preset", overlay.names())
def test_presets_name_built_in_sets_and_automatic_devices(preset):
    """Or a folder beside the repository that the head of the preset asks for."""
    values = overlay.values(preset)
    root = values["data"]["root"]
    if root.startswith("../"):
        head = overlay.FOLDER.joinpath(f"{preset}.yaml").read_text().split("set:")[0]
        assert "data.root is a folder of yours" in head
    else:
        assert re.fullmatch(r"data/\w+/VOCdevkit", root)
        assert Path(root).parent.joinpath("dvc.yaml").exists()
    assert (values["compute"]["device"], values["compute"]["workers"]) == ("auto", "auto")
    assert not set(values["splits"]["train"]) & set(values["splits"]["test"])
