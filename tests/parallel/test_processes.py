"""Every launcher gives the results of one process in the same order, names what fails, and ends cleanly."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from lib.parallel import processes as subject
from lib.parallel.processes import in_order, workers
from lib.proposals.search_images import search_images
from lib.selective_search.settings import Settings
from lib.stage.errors import InputError
from lib.stage.params import Compute
from tests.images_on_disk import image_set
from tests.parallel import on_worker
from tests.parallel.conftest import ROOT

LOCAL = ["loky", "multiprocessing", "threading"]


def compute(count, launcher="threading"):
    return Compute(device="cpu", workers=count, launcher=launcher, memory_gib=1.0)


def numbers(count, *more):
    return [(f"image {number}", (number, *more)) for number in range(count)]


@pytest.fixture(params=[*LOCAL, "dask"])
def launcher(request):
    """Each launcher; with `dask`, a cluster of two workers is there."""
    if request.param == "dask":
        request.getfixturevalue("cluster")
    return request.param


def test_number_of_workers():
    assert [workers(compute(count)) for count in (0, 1, 3)] == [1, 1, 3]
    assert workers(compute("auto")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_are_in_the_order_of_the_work(count):
    assert list(in_order(pow, numbers(20, 2), compute(count))) == [number**2 for number in range(20)]


def test_one_worker_stays_in_this_process_and_two_do_not():
    idle = [("", ())] * 4
    assert {pid for pid, _ in in_order(on_worker.about_me, idle, compute(1, "loky"))} == {os.getpid()}
    for launcher in ("loky", "multiprocessing"):
        pids = {pid for pid, _ in in_order(on_worker.about_me, idle, compute(2, launcher))}
        assert os.getpid() not in pids
        assert not [pid for pid in pids if psutil.pid_exists(pid)], "they are gone when the work is done"


def test_the_same_bytes_through_every_launcher(launcher, tmp_path):
    images = image_set(tmp_path, [[(10 + 7 * number, 20, 90 + 7 * number, 100)] for number in range(5)])
    (tmp_path / images.ids[3]).write_bytes(b"<html>not found</html>")
    settings = Settings(mode="single", min_box_px=4)
    expected = list(search_images(images, images.ids, settings, compute(0)))
    results = list(search_images(images, images.ids, settings, compute(2, launcher)))
    assert [result.image_id for result in results] == images.ids
    for ours, theirs in zip(results, expected, strict=True):
        assert (ours.boxes.tobytes(), ours.scores.tobytes()) == (theirs.boxes.tobytes(), theirs.scores.tobytes())
        assert ours.boxes.dtype == np.float32
        assert ours.error == theirs.error
    assert "is not the file that prepare read" in results[3].error
    assert sum(len(result.boxes) for result in results) > 20


def test_an_error_is_that_of_its_image_and_the_results_before_it_are_kept(launcher):
    results = in_order(on_worker.refuse_one, numbers(9), compute(2, launcher))
    assert [next(results) for _ in range(5)] == list(range(5))
    with pytest.raises(InputError) as caught:
        next(results)
    assert str(caught.value) == "5.png: is odd. Allowed: even ones. Remove it."
    assert [fault.where for fault in caught.value.faults] == ["5.png"]


@pytest.mark.parametrize("launcher", LOCAL)
def test_at_most_twice_as_many_as_run_at_once_are_taken(launcher):
    taken = []

    def work():
        for item in numbers(12, 2):
            taken.append(item)
            yield item

    for done, _ in enumerate(in_order(pow, work(), compute(2, launcher))):
        assert len(taken) <= done + 4


@pytest.mark.parametrize("launcher", ["loky", "multiprocessing"])
def test_a_process_killed_for_memory_ends_it_with_the_image_named(launcher):
    results = in_order(on_worker.die, numbers(9), compute(2, launcher))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    message = r"image 3: a process was killed while it worked on this or one of the next 4 images\. .*compute.workers"
    with pytest.raises(InputError, match=message):
        next(results)


@pytest.mark.parametrize("launcher", ["loky", "multiprocessing"])
def test_case_63_an_image_that_never_ends_is_named_and_its_process_ended(launcher, monkeypatch):
    monkeypatch.setattr(subject, "LIMIT_S", 4.0)
    start = time.monotonic()
    with pytest.raises(InputError, match="image 0: is not done after 4 seconds"):
        list(in_order(on_worker.square, numbers(1, 60.0), compute(2, launcher)))
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("launcher", ["loky", "multiprocessing"])
def test_case_63_and_64_processes_are_fresh_and_never_load_torch(launcher):
    """A forked process would have this thread's locks, this process's modules, OpenCV's threads and CUDA."""
    import torch  # noqa: F401  here, so that a fork would show it

    with_image_set = [("", ("lib.proposals.search_images",))] * 4
    for modules, threads, ignores in in_order(on_worker.after_import, with_image_set, compute(2, launcher)):
        assert "torch" not in modules
        assert threads == 1
        assert ignores, "of Ctrl-C, the stage's own traceback is enough"


@pytest.mark.parametrize(("launcher", "executor"), [
    ("loky", "LokyExecutor"), ("multiprocessing", "ProcessPoolExecutor"),
])
def test_case_65_a_container_without_shared_memory_is_told_what_to_set(launcher, executor, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(subject, executor, refuse)
    with pytest.raises(InputError, match=rf"launcher: {launcher}: .*No space left.*workers to 0.*--shm-size"):
        list(in_order(pow, numbers(3, 2), compute(2, launcher)))
    assert list(in_order(pow, numbers(3, 2), compute(0, launcher))) == [0, 1, 4]


@pytest.mark.parametrize("launcher", ["loky", "multiprocessing"])
def test_a_caller_that_stops_ends_the_processes(launcher):
    results = in_order(on_worker.about_me, [("", ())] * 1000, compute(2, launcher))
    pids = {pid for _ in range(4) for pid, _ in [next(results)]}
    assert os.getpid() not in pids
    results.close()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_ctrl_c_ends_everything(launcher, tmp_path):
    """As a terminal sends it: to the stage and to its processes, one of which waits for work."""
    code = (
        "from lib.parallel.processes import in_order; from lib.stage.params import Compute\n"
        "from tests.parallel.on_worker import square\n"
        f"compute = Compute(device='cpu', workers=2, launcher={launcher!r}, memory_gib=1.0)\n"
        "work = [(str(number), (number, seconds)) for number, seconds in enumerate([0.5, 0.5, 0.5, 15])]\n"
        "for result in in_order(square, work, compute): print(result, flush=True)\n"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also in background
    )
    assert [stage.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "4\n"]
    children = psutil.Process(stage.pid).children(recursive=True)
    os.killpg(stage.pid, signal.SIGINT)
    _, errors = stage.communicate(timeout=30)
    assert stage.returncode in {1, -signal.SIGINT}
    assert errors.count("Traceback") == 1, errors
    assert errors.strip().endswith("KeyboardInterrupt")
    assert not psutil.wait_procs(children, timeout=20)[1]
