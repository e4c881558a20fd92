"""Ctrl-C that ends a loop after the current item, so that what is done can be written."""

import signal
from collections.abc import Generator, Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class HeldBack:
    """The first Ctrl-C (SIGINT) inside is noted and ends the loop that runs, if one does; a second one raises
    KeyboardInterrupt at once.

    For the main thread of a process, where Python's signals arrive.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "HeldBack":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, self._before)

    def until(self, items: Iterable[T]) -> Iterator[T]:
        """The items, up to the one in which Ctrl-C comes; all where it came earlier, since what is done by then is to
        be written. A generator is closed at the end, and with it what it does ahead."""
        earlier = self.came
        try:
            for item in items:
                yield item
                if self.came and not earlier:
                    return
        finally:
            if isinstance(items, Generator):
                items.close()
