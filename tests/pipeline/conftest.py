"""A copy of the repository with a tiny data set, run once by `dvc repro` for all tests, and restored after each.

The first test that needs the run makes it; a second process of pytest-xdist waits for it, so the tests of other folders
stand between the first file of this one and the rest. Each process has a copy of the run to disturb.
"""

import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.pipeline import warm

ROOT = Path(__file__).parents[2]
TRAINING = {"scale": {"short_side": [96], "max_side": 200}, "iterations": 4, "checkpoint_every": 2}
TINY = {
    "digits": {"train": 14, "val": 4, "test": 10, "width": 128, "height": 96, "size_max": 48, "digits_max": 3},
    "proposals.selective_search": {"min_box_px": 12, "max_boxes": 40},
    "hog.pyramid": {"octave": 3},
    "hog.features": {"shard_mib": 1},
    "hog.windows": {"negatives": 60, "copies": 2},
    "hog.svm": {"checkpoint_every": 4, "retrain_after": 100},
    "hog.propose": {"octave": 3},
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
    "yolo.grid": {"cells": 6},
    "yolo.layers": {"convolutions": [{"width": 16, "stride": 1}], "groups": 4},
    "yolo.train": {"scale": {"side": 96}, "images": 2, "iterations": 4, "checkpoint_every": 2},
    "ssd.train": {"scale": {"side": 96}, "images": 2, "iterations": 4, "checkpoint_every": 2},
    "retinanet.layers": {"width": 16, "depth": 1},
    "retinanet.train": {**TRAINING, "images": 2},
    "ssd.detect": {"floor": None, "per_level": 20},
    "retinanet.detect": {"floor": None, "per_level": 20},
    "pictures": {"images": 2},
    "visualize": {"images": 2, "steps": 2, "occlusion": 2},
    "visualize.units": {"count": 4, "images": 2, "proposals": 20, "top": 4},
    "report": {"images": 2, "resamples": 20},
}


METHODS = {
    "hog", "rcnn", "spp", "fast", "fast_svd", "fast_svm", "faster", "faster_unshared", "faster_joint", "yolo", "ssd",
    "retinanet", "fast_yolo",
}
VISUALIZED = {"rcnn", "fast", "faster", "faster_joint", "yolo", "ssd", "retinanet"}
TIMED = ("results/cost/", "results/speed/")  # files of their own and no part of "the same bytes"
# The first begins with the run, the second with what does not wait for it; of the others the longer one comes first.
ORDER = ("test_reruns.py", "of other folders", "test_run.py", "test_kills.py", "test_data.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The run starts at once, what else needs it comes last (`--no-loadscope-reorder`, see Makefile)."""
    here = Path(__file__).parent
    places = {here / name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: places.get(item.path, 1))


def stages_run(text: str) -> set[str]:
    """The stages that `dvc repro` says it runs."""
    return set(re.findall(r"Running stage '([^']+)'", text))


def clean_environment() -> dict[str, str]:
    """That of the tests, without what it says to DVC and Git, with two threads a process that sleep while they wait."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    return {**kept, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}


class Workspace:
    """A folder with the repository's tracked files, its own Git and DVC cache.

    starter : starts the stages; None: they are ordinary processes
    """

    def __init__(self, folder: Path, starter: warm.Starter | None = None) -> None:
        self.folder, self.starter = folder, starter

    def environment(self, **more: str) -> dict[str, str]:
        """Of every command: this Python first on PATH, DVC's notes about files beside the folder."""
        first = [str(self.starter.path)] if self.starter else []
        path = os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**clean_environment(), "PATH": path, "DVC_SITE_CACHE_DIR": f"{self.folder}.site", **more}

    def run(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """A command in the folder; output captured, its end shown on failure."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def set_params(self, changes: dict) -> None:
        """Changes params.yaml; see `changed_params`."""
        (self.folder / "params.yaml").write_text(self.changed_params(changes))

    def changed_params(self, changes: dict) -> str:
        """The text of params.yaml with changes; keys are dotted, a dict value is merged into its block."""
        yaml, text = YAML(), io.StringIO()
        values = yaml.load(self.folder / "params.yaml")
        for key, value in changes.items():
            block = values
            *parents, last = key.split(".")
            for part in parents:
                block = block[part]
            if isinstance(value, dict):
                block[last].update(value)
            else:
                block[last] = value
        yaml.dump(values, text)
        return text.getvalue()

    def hashes(self) -> dict[str, str]:
        """Path -> md5 of every output, from the lock files."""
        found = {}
        for lock in (self.folder / "dvc.lock", self.folder / "data/digits/dvc.lock"):
            for stage in YAML(typ="safe").load(lock)["stages"].values():
                found |= {out["path"]: out["md5"] for out in stage.get("outs", [])}
        return found

    def contents(self, outs: Iterable[str]) -> dict[str, str]:
        """Path -> hash of every file in these outputs, as they lie there; files of timings left out."""
        found = {}
        for out in outs:
            root = self.folder / out
            for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
                if path.is_file() and not out.startswith(TIMED):
                    found[str(path.relative_to(self.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def remove(self, path: str) -> None:
        """A file or folder, if it is there."""
        target = self.folder / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def files(self) -> dict[str, tuple[int, int]]:
        """Path -> size and time of change of every file, DVC's cache with them; what Git, DVC and Python note aside."""
        found = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name not in {".git", "tmp", "__pycache__"}]
            here = os.path.relpath(folder, self.folder)
            found |= {os.path.normpath(f"{here}/{name}"): (0, 0) for name in folders}
            for name in names:
                state = os.lstat(os.path.join(folder, name))
                found[os.path.normpath(f"{here}/{name}")] = state.st_size, state.st_mtime_ns
        return found

    def restore(self, origin: "Workspace") -> None:
        """Every file as it is there. DVC's notes stay valid: what it put into place again has its cache's own times."""
        mine, theirs = self.files(), origin.files()
        for path in sorted(mine.keys() - theirs.keys()):
            self.remove(path)
        for path in sorted(theirs):
            target = self.folder / path
            if (origin.folder / path).is_dir():
                target.mkdir(exist_ok=True)
            elif mine.get(path) != theirs[path]:
                target.unlink(missing_ok=True)
                shutil.copy2(origin.folder / path, target)


def copy_repository(folder: Path, starter: warm.Starter | None = None) -> Workspace:
    """The files that Git knows or would take, without results of earlier runs.

    What Python and Numba compile of them lies in the repository's own folders: the times of the files are the same.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        left_out = name.startswith(("results/", "tests/")) and not name.startswith("results/seeds/")
        if left_out or name.endswith("dvc.lock") or not (ROOT / name).is_file():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for package in {path.parent for path in folder.rglob("*.py")}:
        compiled = ROOT / package.relative_to(folder) / "__pycache__"
        compiled.mkdir(exist_ok=True)
        (package / "__pycache__").symlink_to(compiled)
    space = Workspace(folder, starter)
    space.run("git", "init", "-q")
    return space


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Where the processes of pytest-xdist see the same files."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def starter(tmp_path_factory) -> Iterator[warm.Starter]:
    """Starts stages without the seconds of their imports."""
    begun = shared_folder(tmp_path_factory) / "begun"
    begun.mkdir(exist_ok=True)
    with warm.Starter(clean_environment(), tmp_path_factory.mktemp("warm"), begun) as ready:
        yield ready


@pytest.fixture(scope="session")
def finished(starter, tmp_path_factory) -> Workspace:
    """The whole tiny pipeline, run once by `dvc repro`; to be read only."""
    shared = shared_folder(tmp_path_factory)
    folder, told = shared / "tiny", shared / "tiny.told"
    with open(shared / "tiny.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the other process waits here
        if not told.exists():
            told.write_text("it ended early")
            space = copy_repository(folder, starter)
            space.set_params(TINY)
            done = space.run("dvc", "repro", check=False)
            told.write_text("" if done.returncode == 0 else f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    if told.read_text():
        pytest.fail(f"the run of the tiny pipeline: {told.read_text()}")
    return Workspace(folder, starter)


@pytest.fixture(scope="session")
def own(finished, tmp_path_factory) -> Workspace:
    """This process's copy of the run; hard links to the cache stay links."""
    folder = tmp_path_factory.mktemp("own") / "copy"
    subprocess.run(["cp", "-a", finished.folder, folder], check=True)
    return Workspace(folder, finished.starter)


@pytest.fixture
def copied(own, finished) -> Workspace:
    """The finished run, to be disturbed."""
    own.restore(finished)
    return own
