"""Stages killed in the middle: run again they go on from where they were and end with the same bytes."""

import re
import signal
import subprocess
import time

import psutil
import pytest

from lib.stage import pipeline
from tests.pipeline.conftest import TIMED, Workspace, stages_run

pytestmark = pytest.mark.pipeline


@pytest.fixture
def ordinary(copied):
    """The finished run, whose stages are processes that DVC itself starts."""
    return Workspace(copied.folder)


KILLS = [  # stage, the file after whose n-th appearance the stage is killed
    ("propose", r"/pieces/\w+\.parquet$", 2),
    ("rcnn_finetune", r"/state\.pt$", 1),
    ("extract@rcnn", r"/fc7-00000\.npy$", 1),
    ("svm@rcnn", r"/state\.pt$", 2),
    ("detect@rcnn", r"/state\.pt$", 1),
    ("spp_pretrain", r"/state\.pt$", 1),
    ("spp_maps", r"\.npy$", 1),
    ("spp_finetune", r"/state\.pt$", 1),
    ("fast", r"/state\.pt$", 1),
    ("m1", r"/state\.pt$", 1),
    ("p1", r"/pieces/\w+\.parquet$", 1),
    ("m2", r"/state\.pt$", 1),
    ("m3", r"/state\.pt$", 1),
    ("m4", r"/state\.pt$", 1),
    ("faster_joint", r"/state\.pt$", 1),
    ("yolo", r"/state\.pt$", 1),
    ("ssd", r"/state\.pt$", 1),
    ("retinanet", r"/state\.pt$", 1),
    ("detect@faster", r"/state\.pt$", 1),
]

# Kills a stage with SIGKILL right after a given file has been moved into place. Run by every Python that starts, where
# DVC starts it.
SABOTAGE = """
import os, re, signal, sys
if os.environ.get("KILL_AT") and not os.path.exists(os.environ["KILL_ONCE"]):
    replace, seen = os.replace, []
    def sabotaged(source, target, **rest):
        replace(source, target, **rest)
        if re.search(os.environ["KILL_AT"], os.fspath(target)):
            seen.append(target)
            if len(seen) == int(os.environ["KILL_COUNT"]):
                open(os.environ["KILL_ONCE"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
    os.replace = sabotaged
"""


def unfinished(space, file):
    return [path for path in (space.folder / ".scratch").rglob("*") if path.is_file() and re.search(file, str(path))]


# An out that DVC leaves in place before a run, and outs that it deletes: all that it does differently for stages.
BY_DVC = [kill for kill in KILLS if kill[0] in {"propose", "rcnn_finetune"}]


@pytest.mark.parametrize(("stage", "file", "count"), BY_DVC, ids=[kill[0] for kill in BY_DVC])
def test_killed_under_dvc_and_run_again_has_the_same_bytes(ordinary, tmp_path, stage, file, count):
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(SABOTAGE)
    once = tmp_path / "killed"
    hook = {"KILL_AT": file, "KILL_COUNT": str(count), "KILL_ONCE": str(once), "PYTHONPATH": str(tmp_path / "hook")}
    (ordinary.folder / "data/proposals/selective_search.parquet").unlink() if stage == "propose" else None
    expected = ordinary.hashes()
    killed = ordinary.run("dvc", "repro", "-s", "--force", stage, check=False, **hook)
    assert once.exists(), killed.stderr
    assert killed.returncode != 0
    assert unfinished(ordinary, file)
    resumed = ordinary.run("dvc", "repro", "-s", "--no-run-cache", stage)
    assert stages_run(resumed.stdout) == {stage}
    assert "resuming an earlier run" in resumed.stdout
    compared = {path: md5 for path, md5 in ordinary.hashes().items() if not path.startswith(TIMED)}
    assert compared == {path: expected[path] for path in compared}
    assert not unfinished(ordinary, file)


STARTED = [kill for kill in KILLS if kill not in BY_DVC]


@pytest.mark.parametrize(("stage", "file", "count"), STARTED, ids=[kill[0] for kill in STARTED])
def test_killed_in_the_middle_and_run_again_has_the_same_bytes(copied, starter, tmp_path, stage, file, count):
    """Without DVC around: that it starts a killed stage again, and sees the same outs, the test above shows."""
    entry = pipeline.entries()[stage]
    expected = copied.contents(entry.outs)
    words = [entry.script, *entry.words, *(f"{role}={value}" for role, value in entry.roles.items())]
    for out in entry.outs:  # as DVC does, but for those that it leaves in place; of these the last result is forgotten
        copied.remove(out)
    once = tmp_path / "killed"
    hook = {"KILL_AT": file, "KILL_COUNT": str(count), "KILL_ONCE": str(once), "DVC_STAGE": stage}
    killed = starter.run(copied.folder, words, copied.environment(**hook), SABOTAGE)
    assert once.exists(), killed.stdout
    assert killed.returncode == -signal.SIGKILL
    assert unfinished(copied, file)
    assert not copied.contents(entry.outs), "nothing half made lies in an output"
    resumed = starter.run(copied.folder, words, copied.environment(DVC_STAGE=stage))
    assert resumed.returncode == 0, resumed.stdout
    assert "resuming an earlier run" in resumed.stdout
    assert copied.contents(entry.outs) == expected
    assert not unfinished(copied, file)


def test_dvc_killed_then_the_stage_ends_too(ordinary):
    ordinary.set_params({"rcnn.finetune.iterations": 4000})
    lock = ordinary.folder / ".scratch/rcnn_finetune/lock"
    lock.unlink()
    dvc = subprocess.Popen(
        ["dvc", "repro", "-s", "rcnn_finetune"], cwd=ordinary.folder, env=ordinary.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (lock.exists() and lock.read_text()):
        assert time.monotonic() < deadline, "the stage did not start"
        time.sleep(0.1)
    stage = psutil.Process(int(lock.read_text()))
    dvc.kill()
    dvc.wait()
    _, alive = psutil.wait_procs([stage], timeout=30)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE
