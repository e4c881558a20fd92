"""Files that a command will write where its user says, tried before the work, which would be lost at its end."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lib.stage.errors import Fault, InputError


def check(paths: Iterable[Path], option: str, inputs: Iterable[Path] = (), disk: int = 0) -> None:
    """Raises InputError with everything that would keep the files from being written; makes no file and no folder.

    paths  : the files, each written whole and renamed, with the folders that they need
    option : of the command line, to name in the message
    inputs : files that the command reads, none of which may be overwritten
    disk   : bytes that the files need at least
    """
    files = {Path(os.path.abspath(path)) for path in paths}
    needed = disk - sum(path.stat().st_size for path in files if path.is_file())  # these will be replaced
    faults: dict[Path, Fault] = {}
    for path in sorted({Path(path).resolve() for path in inputs} & {path.resolve() for path in files}):
        problem = "is read and would be written too"
        faults[path] = _fault(option, path, problem, "a folder that holds no input", "Name another folder")
    longest: dict[Path, Path] = {}
    for path in sorted(files):
        if both := next((parent for parent in path.parents if parent in files), None):
            faults[path] = _fault(option, path, f"needs a folder where the file {both} will be", "", "Rename an input")
        elif path.is_dir():
            faults[path] = _fault(option, path, "is a folder", "a place for a file", "Name another folder")
        folder = next(parent for parent in path.parents if os.path.lexists(parent))
        longest[folder] = max(path, longest.get(folder, path), key=lambda name: len(os.fsencode(name.name)))
    for folder, path in longest.items():
        if problem := _problem(folder, path.name):
            allowed = "a folder in which files can be made"
            faults[folder] = _fault(option, folder, problem, allowed, "Name another folder")
        elif (free := shutil.disk_usage(folder).free) < needed:
            problem = f"needs at least {needed / 2**20:,.1f} MiB more and {free / 2**20:,.1f} MiB are free"
            faults[folder] = _fault(option, folder, problem, "", "Free some space, or name a folder on another disk")
    if faults:
        raise InputError(list(faults.values()))


def _problem(folder: Path, name: str) -> str:
    """Why no file of a name can be made in a folder; "" where it can."""
    if not folder.is_dir():
        return "is a file" if folder.is_file() else "is no folder"
    try:
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{name}.")  # as `tables.write_atomic` does
    except OSError as error:
        return f"no file {name} can be made there ({error.strerror})"
    os.close(handle)
    os.unlink(made)
    return ""


def _fault(option: str, path: Path, problem: str, allowed: str, remedy: str) -> Fault:
    return Fault("no output", f"{option}: {path}", problem, allowed, remedy)
