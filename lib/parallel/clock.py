"""Seconds spent in each part of a loop."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Clock:
    """Adds up seconds by name: ``with clock("trunk"): ...``. Blocks that run side by side in threads count in full.

    synchronise : waits for the device that the blocks compute on: a GPU returns before it has computed. A CPU does not
    """

    def __init__(self, synchronise: Callable[[], None] = lambda: None) -> None:
        self._synchronise = synchronise
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, part: str) -> AbstractContextManager[None]:
        """Times the block and adds it to `part`. The device is waited for at both ends."""
        return self._block(part, self._synchronise)

    def host(self, part: str) -> AbstractContextManager[None]:
        """The same for a block that leaves the device alone and may run while another thread uses it: no waiting."""
        return self._block(part, lambda: None)

    @contextmanager
    def _block(self, part: str, wait: Callable[[], None]) -> Iterator[None]:
        wait()
        start = time.perf_counter()
        yield
        wait()
        spent = time.perf_counter() - start
        with self._lock:
            self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def reset(self) -> None:
        """Forgets what was timed so far."""
        self.seconds.clear()

    def milliseconds(self, count: int) -> dict[str, float | None]:
        """Milliseconds of each part per item; None where nothing was done."""
        return {part: round(1000 * spent / count, 3) if count else None for part, spent in self.seconds.items()}
