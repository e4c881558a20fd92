"""Work done in threads, a little ahead of its use, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def ahead(
    function: Callable[[A], R], items: Iterable[A], threads: int = 1, start: Callable[[], None] | None = None
) -> Iterator[R]:
    """`function` of each item, in order, computed in threads ahead of its use.

    threads : how many work at once; at most one result more than that is pending
    start   : called once in each thread before its work
    """
    with ThreadPoolExecutor(threads, initializer=start) as pool:
        pending: deque[Future[R]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
