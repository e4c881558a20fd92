"""A real cluster on this machine: the bytes of one process, workers that die, and each way in which it can be wrong."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lib.parallel import cluster as subject
from lib.parallel import processes as launchers
from lib.parallel.cluster import state
from lib.parallel.processes import in_order
from lib.selective_search.settings import Settings
from lib.stage.errors import InputError
from lib.stage.params import Compute
from tests.images_on_disk import image_set
from tests.parallel import on_worker
from tests.parallel.conftest import ROOT, Processes, wait_until

DASK = Compute(device="cpu", workers=0, launcher="dask", memory_gib=1.0)
LOKY = Compute(device="cpu", workers=2, launcher="loky", memory_gib=1.0)


def squares(count, seconds=0.0):
    return ((f"image {number}", (number, seconds)) for number in range(count))


def test_a_worker_killed_in_the_middle_changes_no_byte(cluster, observer, tmp_path):
    images = image_set(tmp_path, [[(10 + 7 * number, 20, 90 + 7 * number, 100)] for number in range(8)])
    settings = Settings(mode="single")
    work = [(image_id, (str(tmp_path), images.address(image_id), settings)) for image_id in images.ids]
    before = set(observer.nthreads())
    results = list(in_order(on_worker.search_once_dying, work, DASK, [str(tmp_path / images.ids[0])]))
    assert (tmp_path / "died").exists()
    assert not psutil.pid_exists(int((tmp_path / "died").read_text()))
    assert before - set(observer.nthreads())
    expected = list(in_order(on_worker.search_once_dying, work, LOKY))
    assert [result.image_id for result in results] == images.ids
    for ours, theirs in zip(results, expected, strict=True):
        assert ours.boxes.tobytes() == theirs.boxes.tobytes()
        assert ours.scores.tobytes() == theirs.scores.tobytes()
        assert ours.error == theirs.error == ""


def test_results_are_in_order_and_few_are_taken_in_advance(cluster):
    taken = []

    def work():
        for name, values in squares(20):
            taken.append(name)
            yield name, values

    for done, result in enumerate(in_order(on_worker.square, work(), DASK)):
        assert result == done * done
        assert len(taken) <= done + 4


def test_the_image_under_which_every_worker_dies_is_named(cluster):
    work = [(f"image {number}", (number,)) for number in range(6)]
    results = in_order(on_worker.die, work, DASK)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match=r"image 3: 2 workers died at it, the last was tcp://.*fewer workers"):
        next(results)


def test_a_piece_that_never_ends_is_told_with_its_worker(cluster, monkeypatch):
    monkeypatch.setattr(launchers, "LIMIT_S", 1.0)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"image 0: is not done after 1 seconds on tcp://127.0.0.1:\d+\."):
        list(in_order(on_worker.square, squares(1, 6.0), DASK))
    assert time.monotonic() - start < 6


def test_a_killed_stage_leaves_the_workers_alive_and_idle(cluster, observer):
    pids = set(observer.run(os.getpid).values())
    code = (
        "from lib.parallel.processes import in_order; from lib.stage.params import Compute\n"
        "from tests.parallel.on_worker import square\n"
        "compute = Compute(device='cpu', workers=0, launcher='dask', memory_gib=1.0)\n"
        "work = ((str(number), (number, 0.2)) for number in range(1000))\n"
        "for result in in_order(square, work, compute): print(result, flush=True)\n"
    )
    stage = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert [stage.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    wait_until(lambda: any(observer.processing().values()), 5)
    stage.kill()
    stage.wait()
    wait_until(lambda: not any(observer.processing().values()), 30)
    time.sleep(1)  # twice the period in which a worker of a local pool would look for its starter
    assert set(observer.run(os.getpid).values()) == pids


def copy_of_the_code(folder):
    for name in ("lib", "stages", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def of_another_commit(folder):
    copy_of_the_code(folder)
    (folder / "stages/new.py").write_text("")
    with open(folder / "lib/boxes/nms.py", "a") as file:
        file.write("# changed\n")
    return folder


@pytest.fixture
def third_worker(processes, observer):
    """Starts one that is removed after the test, so that no nanny need start it again; returns its address."""
    started = []

    def start(folder):
        before = set(observer.nthreads())
        started.append(processes.worker(folder, "--no-nanny"))
        wait_until(lambda: set(observer.nthreads()) - before)
        return (set(observer.nthreads()) - before).pop()

    yield start
    for worker in started:
        worker.terminate()
        worker.wait(30)
    wait_until(lambda: len(observer.nthreads()) == 2)


def test_a_worker_at_another_commit_is_named_with_a_file(cluster, third_worker, tmp_path):
    address = third_worker(of_another_commit(tmp_path))
    with pytest.raises(InputError) as caught:
        next(in_order(on_worker.square, squares(3), DASK))
    ours, = caught.value.faults
    assert ours.where == f"worker {address}"
    digests = state([])["code"]["lib/boxes/nms.py"], subject._digest(tmp_path / "lib/boxes/nms.py")
    assert ours.problem == f"lib/boxes/nms.py is {digests[1]} there and {digests[0]} here (1 more differ)"
    assert "same commit" in ours.remedy


def test_a_worker_that_joins_later_is_checked_too(cluster, third_worker, tmp_path):
    results = in_order(on_worker.square, squares(200, 0.1), DASK)
    next(results)
    address = third_worker(of_another_commit(tmp_path))
    with pytest.raises(InputError, match=f"worker {address}: lib/boxes/nms.py is"):
        list(results)


def test_a_worker_without_the_code_is_named(cluster, third_worker, tmp_path):
    address = third_worker(tmp_path)
    with pytest.raises(InputError, match=rf"worker {address}: cannot load our code: .*No module named 'lib'.*root of"):
        next(in_order(on_worker.square, squares(3), DASK))


def test_a_worker_that_does_not_see_the_data_is_named(cluster, observer, monkeypatch, tmp_path):
    """A path relative to the folder in which each process was started, as data.root is."""
    (tmp_path / "photo.png").write_bytes(b"pixels")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        next(in_order(on_worker.square, squares(3), DASK, ["photo.png"]))
    assert {fault.where for fault in caught.value.faults} == {f"worker {worker}" for worker in observer.nthreads()}
    assert {fault.problem for fault in caught.value.faults} == {
        f"photo.png is missing there and {subject._digest(Path('photo.png'))} here"
    }
    assert "Mount the same data" in str(caught.value)


def test_other_versions_are_named_with_both(cluster, monkeypatch):
    other = {**subject._program(), "software": {**subject._program()["software"], "numba": "0.1"}}
    monkeypatch.setattr(subject, "_program", lambda: other)
    with pytest.raises(InputError, match=r"worker tcp.*: numba is \d+\.\d+\.\d+ there and 0.1 here.*requirements.txt"):
        next(in_order(on_worker.square, squares(3), DASK))


def test_a_frozen_worker_is_named(cluster, observer, monkeypatch):
    address, pid = next(iter(observer.run(os.getpid).items()))
    monkeypatch.setattr(subject, "CHECK_S", 2.0)
    os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    try:
        with pytest.raises(InputError, match=rf"worker {address}: has not answered for 2 seconds"):
            next(in_order(on_worker.square, squares(3), DASK))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert time.monotonic() - start < 10


def test_errors_of_the_work_are_its_own_with_the_place(cluster):
    with pytest.raises(ZeroDivisionError, match="one by nothing") as caught:
        next(in_order(on_worker.crash, [("image 1", ())], DASK))
    assert "On worker tcp://" in caught.value.__notes__[0]
    assert "in crash" in caught.value.__notes__[0]


@pytest.fixture
def own_scheduler(tmp_path, monkeypatch):
    """One that the test may kill, without workers."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install -r requirements.txt")
    running = Processes(tmp_path)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", running.address)
    yield running
    running.end()


def test_no_worker_and_then_no_scheduler(own_scheduler, monkeypatch):
    monkeypatch.setattr(subject, "WORKERS_S", 1.0)
    monkeypatch.setattr(subject, "CONNECT_S", 2.0)
    with pytest.raises(InputError, match=rf"scheduler {own_scheduler.address}: has had no worker for 1 seconds.*scale"):
        next(in_order(on_worker.square, squares(3), DASK))
    own_scheduler.worker(ROOT, "--no-nanny")
    monkeypatch.setattr(subject, "WORKERS_S", 60.0)
    results = in_order(on_worker.square, squares(50, 0.2), DASK)
    assert next(results) == 0
    own_scheduler.scheduler.kill()
    start = time.monotonic()
    with pytest.raises(InputError, match=r"image \d+: was not done: .*goes on here"):
        list(results)
    with pytest.raises(InputError, match=rf"{subject.ADDRESS}: is '{own_scheduler.address}': .*Start the scheduler"):
        next(in_order(on_worker.square, squares(3), DASK))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(("address", "message"), [
    ("", "is not set, and compute.launcher is dask. Allowed: the address of a Dask scheduler"),
    ("http://127.0.0.1:1", "is 'http://127.0.0.1:1': .*Start the scheduler, or correct the address"),
    ("127.0.0.1:18786/x", "is '127.0.0.1:18786/x'. Allowed: .*Correct the address"),
    ("127.0.0.1", "is '127.0.0.1'. Allowed: .*Correct the address"),
    ("tcp://127.0.0.1:1", "is 'tcp://127.0.0.1:1': .*Start the scheduler, or correct the address"),
])
def test_an_address_that_leads_nowhere(address, message, monkeypatch):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install -r requirements.txt")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setattr(subject, "CONNECT_S", 1.0)
    with pytest.raises(InputError, match=f"DASK_SCHEDULER_ADDRESS: {message}"):
        next(in_order(on_worker.square, squares(3), DASK))


def test_dask_that_is_not_installed(monkeypatch):
    monkeypatch.setenv(subject.ADDRESS, "tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="distributed: compute.launcher is dask, but .* Install requirements.txt"):
        next(in_order(on_worker.square, squares(3), DASK))


def test_state_is_digests_of_all_code_and_of_what_is_read(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"abc")
    whole = state([str(tmp_path / "photo.png"), "nowhere.png"])
    # SHA-256 of "abc" begins so in FIPS 180-2, appendix B.1
    assert whole["data"] == {str(tmp_path / "photo.png"): "ba7816bf8f01", "nowhere.png": "missing"}
    files = {path.relative_to(ROOT).as_posix() for name in ("lib", "stages") for path in (ROOT / name).rglob("*.py")}
    assert set(whole["code"]) == files
    assert whole["software"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
