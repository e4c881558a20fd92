"""Seconds by part of a loop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up wall-clock seconds by name: ``with clock("trunk"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the block and adds it to `part`."""
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def milliseconds(self, count: int) -> dict[str, float | None]:
        """Milliseconds of each part per item; None where nothing was done."""
        return {part: round(1000 * spent / count, 3) if count else None for part, spent in self.seconds.items()}
