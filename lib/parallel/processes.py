"""Work on many images in several processes, in order, with bounded memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from joblib import Parallel, delayed

from lib.stage.params import Compute
from lib.stage.process import follow_starter


def workers(compute: Compute) -> int:
    """Number of processes that `compute.workers` asks for; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) if compute.workers == "auto" else compute.workers)


def in_order(function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], compute: Compute) -> Iterator[Any]:
    """`function(*a)` for each `a`, results in the order of `arguments`.

    The launcher is joblib's backend: `loky` (processes, the default), `multiprocessing`, `threading`, or `dask`, which
    hands the work to the cluster of the `dask.distributed.Client` that DASK_SCHEDULER_ADDRESS names.
    `workers: 0` and one worker stay in this process.
    """
    count = workers(compute)
    backend: Literal["sequential"] | str = compute.launcher
    if compute.launcher == "dask":
        _connect()
        count = -1
    elif count == 1:
        backend = "sequential"
    parallel = Parallel(n_jobs=count, backend=backend, return_as="generator", pre_dispatch="2*n_jobs", batch_size=1)
    yield from parallel(delayed(_call)(os.getpid(), function, values) for values in arguments)


def _call(starter: int, function: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    follow_starter(starter)
    return function(*values)


def _connect() -> None:
    """Joins the running cluster; its client registers joblib's `dask` backend."""
    from dask.distributed import Client

    Client(os.environ.get("DASK_SCHEDULER_ADDRESS"))
