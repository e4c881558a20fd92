"""A user's own images, named by files, folders and patterns, outside any data set."""

import os
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from lib.images.header import EXTENSIONS
from lib.stage.errors import Fault, InputError


def find(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The images that files, folders (with all below them) and patterns (`**` too) name, each once, sorted.

    returns : the deepest folder that holds them all, and their paths relative to it in POSIX form, their keys
    raises  : InputError with every word that names no image
    """
    faults, paths = [], set()
    for word in words:
        files = [file for path in _expand(word) for file in _images(path)]
        if not files:
            allowed = f"a file ending in {', '.join(EXTENSIONS)}, a folder or a pattern"
            remedy = "Check the path; quote a pattern that holds **"
            faults.append(Fault("no image", word, "names no image", allowed, remedy))
        paths |= {Path(os.path.abspath(file)) for file in files}
    if faults:
        raise InputError(faults)
    root = Path(os.path.commonpath([file.parent for file in paths]))
    return root, sorted(file.relative_to(root).as_posix() for file in paths)


def _expand(word: str) -> list[Path]:
    """The path itself where it exists (a name may hold brackets), else what the pattern matches."""
    if Path(word).exists() or not has_magic(word):
        return [Path(word)]
    return [Path(name) for name in glob(word, recursive=True)]


def _images(path: Path) -> list[Path]:
    files = path.rglob("*") if path.is_dir() else [path]
    return [file for file in files if file.is_file() and file.suffix.lower() in EXTENSIONS]
