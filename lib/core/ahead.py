"""Work prepared in a thread while the last piece is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def ahead(function: Callable[[A], R], items: Iterable[A]) -> Iterator[R]:
    """`function` of each item, in order, computed one item ahead of its use. At most two results exist at a time."""
    with ThreadPoolExecutor(1) as pool:
        coming: Future[R] | None = None
        for item in items:
            following = pool.submit(function, item)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
