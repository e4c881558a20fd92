"""A copy of the repository with a tiny data set, in which real `dvc repro` runs take seconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TRAINING = {"scale": {"short_side": [96], "max_side": 200}, "iterations": 4, "checkpoint_every": 2}
TINY = {
    "digits": {"train": 14, "val": 4, "test": 10, "width": 128, "height": 96, "size_max": 48, "digits_max": 3},
    "proposals.selective_search": {"min_box_px": 12, "max_boxes": 40},
    "rcnn.crop": {"side": 32, "pool5_grid": 1},
    "rcnn.finetune": {"iterations": 4, "batch": 16, "checkpoint_every": 2},
    "rcnn.extract": {"shard_mib": 1},
    "rcnn.svm": {"checkpoint_every": 4, "retrain_after": 100},
    "spp": {"scales": [96]},
    "spp.layers": {"levels": [1, 2], "fc": 32},
    "spp.pretrain": {"iterations": 4, "sizes": [48, 32], "batch": 8, "checkpoint_every": 2},
    "spp.maps": {"shard_mib": 1},
    "spp.finetune": {"iterations": 4, "batch": 16, "checkpoint_every": 2},
    "spp.svm": {"checkpoint_every": 4, "retrain_after": 100},
    "fast.train": {**TRAINING, "regions": 16, "fc": 32},
    "fast_svd": {"ranks": [8, 4]},
    "fast_svm.svm": {"checkpoint_every": 4, "retrain_after": 100},
    "faster.anchors": {"scales": [16.0, 32.0]},
    "faster.m1": TRAINING,
    "faster.m2": {**TRAINING, "regions": 16, "fc": 32},
    "faster.m3": TRAINING,
    "faster.m4": {**TRAINING, "regions": 16, "fc": 32},
    "faster.propose.training": {"post_nms": 40, "min_size": 4.0},
    "faster.propose.test": {"post_nms": 20, "min_size": 4.0},
    "faster_joint.train": {**TRAINING, "regions": 16, "fc": 32},
    "pictures": {"images": 2},
    "report": {"images": 2, "resamples": 20},
}


class Workspace:
    """A folder with the repository's tracked files, its own Git and DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """A command in the folder with this Python first on PATH; output captured, its end shown on failure."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        unset = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
        done = subprocess.run(
            words, cwd=self.folder, env={**unset, "PATH": path, "OMP_NUM_THREADS": "2", **environment},
            capture_output=True, text=True, timeout=2400, check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def set_params(self, changes: dict) -> None:
        """Changes params.yaml; keys are dotted, a dict value is merged into its block."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        values = yaml.load(path)
        for key, value in changes.items():
            block = values
            *parents, last = key.split(".")
            for part in parents:
                block = block[part]
            if isinstance(value, dict):
                block[last].update(value)
            else:
                block[last] = value
        yaml.dump(values, path)

    def hashes(self) -> dict[str, str]:
        """Path -> md5 of every output, from the lock files."""
        found = {}
        for lock in (self.folder / "dvc.lock", self.folder / "data/digits/dvc.lock"):
            for stage in YAML(typ="safe").load(lock)["stages"].values():
                found |= {out["path"]: out["md5"] for out in stage.get("outs", [])}
        return found


def copy_repository(folder: Path) -> Workspace:
    """The files that Git knows or would take, without results of earlier runs."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if name.startswith(("results/", "tests/")) or name.endswith("dvc.lock") or not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    space = Workspace(folder)
    space.run("git", "init", "-q")
    return space


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """The whole tiny pipeline, run once by `dvc repro`."""
    space = copy_repository(tmp_path_factory.mktemp("tiny"))
    space.set_params(TINY)
    space.run("dvc", "repro")
    return space


@pytest.fixture
def copied(finished, tmp_path) -> Workspace:
    """The finished workspace once more, to be disturbed; the cache comes along."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    return Workspace(tmp_path / "copy")
