"""Work on many images in several processes, in order, with bounded memory."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import cv2
import psutil
from joblib.externals.loky import ProcessPoolExecutor as LokyExecutor

from lib.parallel.cluster import Cluster
from lib.stage.errors import Fault, InputError
from lib.stage.params import Compute
from lib.stage.process import follow_starter

LIMIT_S = 3600.0  # seconds for one image; 6 megapixels take 9 in fast mode (benchmarks/selective_search.py)


class Pool(Protocol):
    """Where pieces of work run side by side: processes or threads of this machine, or a cluster."""

    def size(self) -> int:
        """How many run at once, at present; at least 1."""

    def submit(self, function: Callable[..., Any], *values: Any) -> Any:
        """A future of `function(*values)`."""

    def result(self, future: Any, name: str, limit_s: float) -> Any:
        """Its value, or raises what the function raised; InputError with the work's name where the pool failed."""

    def close(self) -> None:
        """Ends it when all is done."""

    def abort(self) -> None:
        """Ends it at once."""


def workers(compute: Compute) -> int:
    """Number of processes that `compute.workers` asks for; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) if compute.workers == "auto" else compute.workers)


def in_order(
    function: Callable[..., Any],
    work: Iterable[tuple[str, tuple[Any, ...]]],
    compute: Compute,
    reads: Sequence[str] = (),
) -> Iterator[Any]:
    """`function(*values)` for each (name, values) of `work`, in its order.

    name  : of the piece of work, for messages: an image_id
    reads : files that the work reads, see `Cluster`

    The launchers are `loky` and `multiprocessing` (fresh processes), `threading`, and `dask` (`Cluster`); the results
    are the same. `workers: 0` and one worker stay in this process. At most twice as many results as run at once wait
    in memory. Raises what the function raises, and InputError where a process dies or a piece is never done.
    """
    if compute.launcher != "dask" and workers(compute) == 1:
        for _, values in work:
            yield function(*values)
        return
    pool: Pool = Cluster(reads) if compute.launcher == "dask" else _Local(compute.launcher, workers(compute))
    pending: deque[tuple[Any, str]] = deque()
    try:
        for name, values in work:
            pending.append((pool.submit(function, *values), name))
            while len(pending) >= 2 * pool.size():
                yield pool.result(*pending.popleft(), LIMIT_S)
        while pending:
            yield pool.result(*pending.popleft(), LIMIT_S)
    except BaseException:
        pool.abort()
        raise
    pool.close()


class _Local:
    """Processes or threads of this machine. The processes are fresh ones: a fork would copy OpenCV's threads' locks."""

    def __init__(self, launcher: str, count: int) -> None:
        self._count = count
        starter = (os.getpid(),)
        fresh = multiprocessing.get_context("spawn")
        executors: dict[str, Callable[[], Executor]] = {
            "loky": lambda: LokyExecutor(count, initializer=_begin, initargs=starter),
            "multiprocessing": lambda: ProcessPoolExecutor(count, fresh, _begin, starter),
            "threading": lambda: ThreadPoolExecutor(count),
        }
        try:
            self._executor = executors[launcher]()
        except OSError as error:  # a container without shared memory has no semaphores
            problem = f"no pool of {count} processes: {error}"
            remedy = "Set compute.launcher to threading, or compute.workers to 0; in Docker, try a larger --shm-size"
            raise InputError([Fault("no processes", f"compute.launcher: {launcher}", problem, "", remedy)]) from None

    def size(self) -> int:
        return self._count

    def submit(self, function: Callable[..., Any], *values: Any) -> Future[Any]:
        try:
            return self._executor.submit(function, *values)
        except BrokenExecutor as error:  # told in its turn: what was done before is kept
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def result(self, future: Future[Any], name: str, limit_s: float) -> Any:
        try:
            return future.result(limit_s)
        except BrokenExecutor:
            problem = f"a process was killed while it worked on this or one of the next {2 * self._count} images"
            remedy = "Most often the memory ran out: lower compute.workers. The next dvc repro goes on here"
            raise InputError([Fault("process died", name, problem, "", remedy)]) from None
        except TimeoutError:
            if future.done():
                raise
            remedy = "Try it with compute.workers: 0, and report it. The next dvc repro goes on here"
            raise InputError([Fault("no end", name, f"is not done after {limit_s:g} seconds", "", remedy)]) from None

    def close(self) -> None:
        self._executor.shutdown()

    def abort(self) -> None:
        """Threads cannot be ended: what they are at is waited for."""
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(cancel_futures=True)
            return
        for child in multiprocessing.active_children():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(child.pid).kill()
        self._executor.shutdown()


def _begin(starter: int) -> None:
    """In a fresh process: Ctrl-C reaches all processes of a terminal, and the stage is the one that ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_starter(starter)
    cv2.setNumThreads(0)
