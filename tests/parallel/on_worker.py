"""What the tests have done by processes that can import it from the repository's root."""

import os
import signal
import sys
import time
from pathlib import Path

from lib.stage.errors import Fault, InputError


def square(number: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return number * number


def about_me(seconds: float = 0.1) -> tuple[int, bool]:
    """Process id, and whether torch is loaded."""
    time.sleep(seconds)
    return os.getpid(), "torch" in sys.modules


def refuse(image_id: str) -> None:
    raise InputError([Fault("odd image", image_id, "is odd", "even ones", "Remove it")])


def crash() -> None:
    raise ZeroDivisionError("one by nothing")


def die_once(folder: str, number: int) -> int:
    """The first call ever kills its process, as the system does when the memory runs out."""
    mark = Path(folder) / "died"
    if number == 3 and not mark.exists():
        mark.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number


def die(number: int) -> int:
    if number == 3:
        time.sleep(0.3)  # the results before it have arrived
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def search_once_dying(folder: str, address: tuple[str, str, str, bool], settings: object) -> object:
    """A search; the first of all kills its process in the middle."""
    from lib.proposals.search_images import _search

    result = _search(address, settings)
    die_once(folder, 3)
    return result


def refuse_one(number: int) -> int:
    if number == 5:
        refuse(f"{number}.png")
    return number


def after_import(module: str) -> tuple[list[str], int, bool]:
    """Modules that are loaded once `module` is; threads that OpenCV uses; whether Ctrl-C is left to the stage."""
    import importlib

    import cv2

    importlib.import_module(module)
    return list(sys.modules), cv2.getNumThreads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN
