"""Faults in the user's input, and the one exception that reports them all at once.

A message has four parts: the value seen, where it stands (file, object, key), what is allowed, what to do.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the input.

    kind    : short name under which reports count it, for example "box outside image"
    where   : file, object or key
    problem : what is wrong, with the value seen
    allowed : what would be right; may be empty where the problem says it
    remedy  : what to do
    """

    kind: str
    where: str
    problem: str
    allowed: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.problem}", f"Allowed: {self.allowed}" if self.allowed else "", self.remedy]
        return " ".join(part if part.endswith("?") else part.rstrip(".") + "." for part in parts if part)


class InputError(Exception):
    """The input cannot be used. Carries every fault found, not only the first.

    A stage prints it without a traceback and ends with exit code 1.
    """

    shown = 50

    def __init__(self, faults: Sequence[Fault]) -> None:
        if not faults:
            raise ValueError("InputError needs at least one fault")
        self.faults = list(faults)
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [str(fault) for fault in self.faults[: self.shown]]
        if len(self.faults) > self.shown:
            lines.append(f"... and {len(self.faults) - self.shown} more of {len(self.faults)} faults.")
        return "\n".join(lines)


@contextmanager
def at(item: str) -> Iterator[None]:
    """Names the item that the block works on in the faults of an InputError that ends it: ``with at(image_id): ...``"""
    try:
        yield
    except InputError as error:
        raise InputError([replace(fault, where=f"{item}: {fault.where}") for fault in error.faults]) from error


class Failures:
    """What fails item by item while the rest goes on: ``with failures(where, remedy): ...``. Threads may share one.

    faults : of all items so far;  places : the items that failed
    """

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.places: list[str] = []

    @contextmanager
    def __call__(self, where: str, remedy: str = "") -> Iterator[None]:
        """Notes the error that ends the block, whatever it is, as a fault in the place `where`, or those of an
        InputError as they are."""
        try:
            yield
        except InputError as error:
            self.places.append(where)
            self.faults += error.faults
        except Exception as error:
            self.places.append(where)
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self.faults.append(Fault("failed", where, problem, "", remedy))

    def check(self) -> None:
        """Raises InputError with all that was noted, if anything was."""
        if self.faults:
            raise InputError(self.faults)
