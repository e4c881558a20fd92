"""Seconds spent in each part of a loop."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up seconds by name: ``with clock("trunk"): ...``. Blocks that run side by side in threads count in full."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the block and adds it to `part`."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        with self._lock:
            self.seconds[part] = self.seconds.get(part, 0.0) + spent

    def reset(self) -> None:
        """Forgets what was timed so far."""
        self.seconds.clear()

    def milliseconds(self, count: int) -> dict[str, float | None]:
        """Milliseconds of each part per item; None where nothing was done."""
        return {part: round(1000 * spent / count, 3) if count else None for part, spent in self.seconds.items()}
