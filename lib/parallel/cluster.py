"""Work on the workers of a running Dask cluster, each of which is checked first: same code, same software, same data.

joblib's Dask backend is not used. Where Dask itself reports an error, say that every worker which took a piece of work
has died, it waits for ever.
"""

import asyncio
import hashlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.stage.errors import Fault, InputError

ADDRESS = "DASK_SCHEDULER_ADDRESS"
_ADDRESS = re.compile(r"([a-z]+://)?[^/\s]+:\d+/?")
CONNECT_S = 30.0  # seconds in which the scheduler must answer
WORKERS_S = 60.0  # seconds for which there may be no worker at all
CHECK_S = 60.0  # seconds in which a worker must have looked at its code and data
LOOK_S = 5.0  # seconds between two looks at whether there still is a worker

SETUP = "docs/scale.md says how to start a cluster"
CODE = ("lib", "stages")
# What decides the boxes of selective search, and what both sides pack the work with.
PACKAGES = ("numpy", "numba", "llvmlite", "opencv-python-headless", "dask", "distributed", "cloudpickle")

State = Mapping[str, Mapping[str, str]]
# Part of a state -> what to do where a worker's differs from ours.
REMEDIES = {
    "software": "Install requirements.txt with constraints.txt there and restart it",
    "code": "Check out the same commit there and restart it",
    "data": "Mount the same data there, under the same path as seen from the folder where the worker was started",
}


class Cluster:
    """The cluster that the environment variable DASK_SCHEDULER_ADDRESS names.

    reads : paths of files that the work reads, relative ones to the repository's root. Each worker must see the same
            there; one image is enough to tell a data set that is mounted from one that is not
    Raises InputError where the variable is not set, where there is no scheduler or no worker in time, and naming every
    worker whose code, software or data differ from ours.
    """

    def __init__(self, reads: Sequence[str] = ()) -> None:
        self._reads = tuple(reads)
        self._ours = state(self._reads)
        self._client, self._address = _connect()
        try:
            self._need_a_worker()
            self._check()
        except BaseException:
            self.close()
            raise

    def size(self) -> int:
        """How many pieces of work run at once, at present; at least 1."""
        try:
            return max(1, sum(self._client.nthreads().values()))
        except OSError:  # the scheduler is lost, as the next result will say
            return 1

    def submit(self, function: Callable[..., Any], *values: Any) -> Any:
        """Dask's future of `function(*values)`. Where its worker dies, Dask gives the work to another one."""
        try:
            return self._client.submit(_work, self._ours, self._reads, function, values, pure=False)
        except Exception as error:  # told in its turn
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def result(self, future: Any, name: str, limit_s: float) -> Any:
        """What the function returned; raises what it raised.

        name : of the piece of work, for messages;  limit_s : seconds to wait for it
        Raises InputError where the cluster fails or the time is up.
        """
        from distributed import KilledWorker

        try:
            value, error = self._outcome(future, name, limit_s)
        except InputError:
            raise
        except KilledWorker as killed:
            problem = f"{killed.allowed_failures + 1} workers died at it, the last was {killed.last_worker.address}"
            remedy = "Most often the memory ran out: see the worker's log, and start fewer workers on a machine"
            raise InputError([Fault("cluster", name, problem, "", remedy)]) from None
        except Exception as failure:
            problem = f"was not done: {type(failure).__name__}: {failure}".split("\n")[0]
            remedy = f"See the logs of the scheduler ({self._address}) and its workers; the next dvc repro goes on here"
            raise InputError([Fault("cluster", name, problem, "", remedy)]) from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Leaves the cluster, which forgets the work that is not done."""
        self._client.close()

    def abort(self) -> None:
        """As `close`: the workers are not ours to end."""
        self.close()

    def _outcome(self, future: Any, name: str, limit_s: float) -> tuple[Any, Exception | None]:
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return future.result(timeout=min(LOOK_S, limit_s))  # type: ignore[no-any-return]
            except TimeoutError:
                if time.monotonic() > deadline:
                    holders = [worker for worker, keys in self._client.processing().items() if future.key in keys]
                    problem = f"is not done after {limit_s:g} seconds on {', '.join(holders) or 'any worker'}"
                    remedy = "Restart that worker; then dvc repro, which goes on here"
                    raise InputError([Fault("cluster", name, problem, "", remedy)]) from None
                self._need_a_worker()

    def _need_a_worker(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            where, problem = f"scheduler {self._address}", f"has had no worker for {WORKERS_S:g} seconds"
            raise InputError([Fault("cluster", where, problem, "", f"Start some; {SETUP}")]) from None

    def _check(self) -> None:
        """The scheduler must be able to load our code as well: it opens the work that it hands on."""
        theirs = {f"worker {worker}": answer for worker, answer in self._client.sync(self._states).items()}
        try:
            loaded = self._client.run_on_scheduler(state, ())
        except Exception as error:
            loaded = error
        faults = _faults(f"scheduler {self._address}", {**self._ours, "data": {}}, loaded)
        for where, answer in theirs.items():
            faults += _faults(where, self._ours, answer)
        if faults:
            raise InputError(faults)

    async def _states(self) -> dict[str, Any]:
        """Worker -> its state, or the exception that it answered with. Workers that are gone by now are left out."""
        workers = list(await self._client.nthreads())
        questions = [self._client.run(state, self._reads, workers=[worker], on_error="return") for worker in workers]
        timed = (asyncio.wait_for(question, CHECK_S) for question in questions)
        answers = dict(zip(workers, await asyncio.gather(*timed, return_exceptions=True), strict=True))
        present = await self._client.nthreads()
        return {
            worker: answer[worker] if isinstance(answer, dict) else answer
            for worker, answer in answers.items() if worker in present
        }


def _connect() -> tuple[Any, str]:
    address = os.environ.get(ADDRESS, "")
    allowed = "the address of a Dask scheduler, like tcp://10.0.0.1:8786"
    if not address:
        remedy = f"Set it, or compute.launcher to loky; {SETUP}"
        raise InputError([Fault("cluster", ADDRESS, "is not set, and compute.launcher is dask", allowed, remedy)])
    if not _ADDRESS.fullmatch(address):  # Dask would wait for its own timeout, then fail in the client's destructor
        raise InputError([Fault("cluster", ADDRESS, f"is {address!r}", allowed, "Correct the address")])
    try:
        from distributed import Client

        return Client(address, timeout=CONNECT_S, set_as_default=False), address
    except ImportError as error:
        problem = f"compute.launcher is dask, but it cannot be loaded: {error}"
        raise InputError([Fault("cluster", "distributed", problem, "", "Install requirements.txt")]) from None
    except (OSError, ValueError) as error:
        remedy = f"Start the scheduler, or correct the address; {SETUP}"
        raise InputError([Fault("cluster", ADDRESS, f"is {address!r}: {error}", allowed, remedy)]) from None


def state(reads: Sequence[str]) -> dict[str, dict[str, str]]:
    """What a result depends on beside its arguments, in this process: software, code, data, each name -> what it is.

    A digest is 12 hexadecimal digits of a file's SHA-256. Code and software are those of the first call: what a
    process has loaded stays loaded when the file changes.
    """
    return {**_program(), "data": {path: _digest(Path(path)) for path in reads}}


@cache
def _program() -> dict[str, dict[str, str]]:
    root = Path(__file__).parents[2]
    files = [path for folder in CODE for path in sorted((root / folder).rglob("*.py"))]
    software = {name: _version(name) for name in PACKAGES}
    return {
        "software": {"python": f"{sys.version_info.major}.{sys.version_info.minor}", **software},
        "code": {path.relative_to(root).as_posix(): _digest(path) for path in files},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return "missing"


def _faults(where: str, ours: State, theirs: State | Exception) -> list[Fault]:
    """A fault for each part of the state that differs."""
    if isinstance(theirs, TimeoutError):
        problem = f"has not answered for {CHECK_S:g} seconds"
        return [Fault("cluster", where, problem, "", "Restart or remove it")]
    if isinstance(theirs, Exception):
        remedy = f"Start it in the root of this repository; {SETUP}"
        return [Fault("cluster", where, f"cannot load our code: {theirs}", "", remedy)]
    faults = []
    for part, remedy in REMEDIES.items():
        here, there = ours[part], theirs[part]
        names = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        if names:
            name, more = names[0], f" ({len(names) - 1} more differ)" if len(names) > 1 else ""
            problem = f"{name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} here{more}"
            faults.append(Fault("cluster", where, problem, "the same as here", remedy))
    return faults


def _work(
    ours: State, reads: Sequence[str], function: Callable[..., Any], values: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    """On a worker: the function's value, or the exception that it raised.

    A worker may have joined after the check, so it looks at itself again. The function's exceptions are returned: what
    the future raises is Dask's own.
    """
    from distributed import get_worker

    where = f"worker {get_worker().address}"
    if faults := _faults(where, ours, state(reads)):
        return None, InputError(faults)
    try:
        return function(*values), None
    except Exception as error:
        error.add_note(f"On {where}:\n{traceback.format_exc()}")
        return None, error
