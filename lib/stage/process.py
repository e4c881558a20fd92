"""The process of a stage: its lock, the dvc process that it must not outlive, its peak memory."""

import fcntl
import os
import re
import resource
import sys
import threading
import time
from pathlib import Path

import psutil

from lib.stage.errors import Fault, InputError


class Lock:
    """Held while the process lives; the system releases it when the process ends, however it ends.

    A POSIX record lock, since a forked worker does not inherit it. Raises InputError if another run holds it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._file = open(path, "a+")  # noqa: SIM115  open as long as the process lives
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            raise InputError(
                [Fault("locked", name, f"another run (process {self._file.read().strip() or 'unknown'}) holds {path}",
                       "", "Stop it or wait; nothing was written")]
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()


def follow_parent(period_s: float = 0.5) -> None:
    """Ends this process and its workers soon after the dvc that started it has died.

    A shell between the two may survive, so dvc itself is watched, not the direct parent.
    """
    watched = next((parent for parent in psutil.Process().parents() if _is_dvc(parent)), None)
    if watched is not None:
        _follow(watched, period_s, "dvc has ended, so this stage ends too. The next dvc repro resumes it.")


def follow_starter(starter: int, period_s: float = 0.5) -> None:
    """In a process that the process `starter` spawned: ends it soon after its starter has died, or at once if it has.

    Otherwise it would wait for work for minutes, and keep open the pipes that it inherited. Not for the workers of a
    cluster: they serve others too, and a process id says nothing on another machine.
    """
    if os.getppid() != starter:
        os._exit(1)
    _follow(psutil.Process(starter), period_s, "")


def _follow(watched: psutil.Process, period_s: float, message: str) -> None:
    def watch() -> None:
        while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
            time.sleep(period_s)
        if message:
            print(message, file=sys.stderr, flush=True)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"follow-{watched.pid}").start()


def _is_dvc(candidate: psutil.Process) -> bool:
    try:
        words = candidate.cmdline()
    except psutil.Error:
        return False
    return any(re.search(r"(^|/)dvc(\.exe)?$", word) for word in words[:3])


def peak_memory() -> int:
    """Bytes: the largest resident size of this process and of its largest finished child."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(max(own, children)) * (1 if sys.platform == "darwin" else 1024)
