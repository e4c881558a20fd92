"""A Dask cluster of real processes on this machine: a scheduler and two workers, as docs/scale.md starts them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# One worker may die under a piece of work, not two.
SETTINGS = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


class Processes:
    """Starts `dask scheduler` and `dask worker`, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, []
        self.scheduler = self._start(ROOT, "scheduler", "--host", "127.0.0.1", "--port", "0",
                                     "--scheduler-file", str(folder / "scheduler.json"))
        wait_until(lambda: (folder / "scheduler.json").exists() and (folder / "scheduler.json").read_text())
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def worker(self, folder: Path = ROOT, *more: str) -> subprocess.Popen:
        """A worker with one thread, whose nanny, unless `more` says that it has none, is the process returned."""
        return self._start(folder, "worker", self.address, "--nthreads", "1", "--host", "127.0.0.1",
                           "--local-directory", str(self._folder), *more)

    def _start(self, folder: Path, *words: str) -> subprocess.Popen:
        with open(self._folder / "log", "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *words, "--no-dashboard"], cwd=folder, stdout=log, stderr=log,
                env={**os.environ, **SETTINGS, "OMP_NUM_THREADS": "1"},
            )
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """A scheduler of the module's own, without workers."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install -r requirements.txt")
    running = Processes(tmp_path_factory.mktemp("dask"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def observer(processes):
    """A client of the tests' own, that sees what the cluster does."""
    from distributed import Client

    with Client(processes.address, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def two_workers(processes, observer):
    """The scheduler's address, once two workers are there."""
    for _ in range(2):
        processes.worker()
    observer.wait_for_workers(2, timeout=60)
    return processes.address


@pytest.fixture
def cluster(two_workers, observer, monkeypatch):
    """The same, named in the environment; both workers are back, should one have been killed, and idle."""
    wait_until(lambda: len(observer.run(os.getpid, on_error="ignore")) == 2 and not any(observer.processing().values()))
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", two_workers)
    return two_workers
