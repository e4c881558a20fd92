"""Ctrl-C that ends a loop after the current item, so that what is done can be written."""

import signal
from collections.abc import Generator, Iterable, Iterator
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


def until_interrupted(items: Iterable[T]) -> Iterator[T]:
    """The items, up to the one in which the first Ctrl-C (SIGINT) comes; a second one raises KeyboardInterrupt at once.

    For the main thread of a process, where Python's signals arrive. A generator is closed at the end, and with it what
    it does ahead.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        for item in items:
            yield item
            if came:
                return
    finally:
        signal.signal(signal.SIGINT, before)
        if isinstance(items, Generator):
            items.close()
