"""A user's own images, named by files, folders and patterns, outside any data set."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from lib.datasets.walk import Walk, has_tool_part, is_text, no_text, walk
from lib.images.header import EXTENSIONS
from lib.stage.errors import Fault, InputError

PICTURES = "pictures"
"""The folder below that of the results where images are drawn, which are no input of the next run."""


def find(words: Sequence[str], out: Path) -> tuple[Path, list[str]]:
    """The images that files, folders (with all below them) and patterns (`**` too) name, each once.

    Below a folder or a pattern counts what `walk` counts. Images under `out` that the command itself drew are none of
    them, nor is all of `out` where it lies below a folder. What is skipped is counted on the terminal.

    out     : folder of the results
    returns : the deepest folder that holds all images, and their paths relative to it in POSIX form, sorted: their keys
    raises  : InputError with every word that names no image, and every name that is no text
    """
    faults, paths, skipped = list[Fault](), set[Path](), set[str]()
    written = {os.path.realpath(out), os.path.realpath(out / PICTURES)}
    for word in words:
        try:
            images = list[str]()
            for top, below in _walks(word, written):
                images += [os.path.join(top, file) for file in below.files]
                skipped |= {os.path.join(top, path) for path in below.skipped}
        except InputError as error:
            faults += error.faults
            continue
        usable = {Path(os.path.abspath(file)) for file in images if Path(file).suffix.lower() in EXTENSIONS}
        usable = {file for file in usable if file.is_file() and not _is_under(file, out / PICTURES)}
        if not usable:
            endings = Counter(Path(file).suffix.lower() or "(none)" for file in images if os.path.isfile(file))
            seen = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
            there = os.path.exists(word) or has_magic(word)
            problem = f"names no image{f', but {seen}' if seen else ''}" if there else "is not there"
            allowed = f"a file ending in {', '.join(EXTENSIONS)}, a folder or a pattern, not drawn by this command"
            remedy = "Check the path; quote a pattern that holds **; convert other formats, HEIC say, to JPEG"
            faults.append(Fault("no image", word, problem, allowed, remedy))
        paths |= usable
    if faults:
        raise InputError(faults)
    root = Path(os.path.commonpath([file.parent for file in paths]))
    if skipped:
        print(f"{len(skipped)} files and folders are skipped, hidden or of a tool: {min(skipped)!a} ...", flush=True)
    return root, sorted(file.relative_to(root).as_posix() for file in paths)


def _walks(word: str, without: set[str]) -> Iterator[tuple[str, Walk]]:
    """Folder and what counts below it, for a word of the command line. A file that is named itself always counts."""
    if not is_text(word):
        raise InputError([no_text(word)])
    if os.path.isdir(word):
        yield word, walk(word, without - {os.path.realpath(word)})
    elif os.path.exists(word) or not has_magic(word):  # a name may hold brackets
        yield "", Walk([word])
    else:
        matches = [path for path in glob(word, recursive=True) if not has_tool_part(_beyond_the_fixed_part(word, path))]
        if broken := [no_text(path) for path in matches if not is_text(path)]:
            raise InputError(broken)
        folders = [path for path in matches if os.path.isdir(path) and os.path.realpath(path) not in without]
        fixed = Path(os.path.realpath(_fixed_part(word) or "."))
        written = [Path(real) for real in without if fixed in Path(real).parents]
        files = [path for path in matches if os.path.isfile(path)]
        files = [path for path in files if not any(_is_under(Path(path), folder) for folder in written)]
        yield "", Walk(sorted(files))
        for folder in folders:
            yield folder, walk(folder, without)


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before the first part that is none."""
    parts = Path(pattern).parts
    return os.path.join("", *parts[: next(place for place, part in enumerate(parts) if has_magic(part))])


def _beyond_the_fixed_part(pattern: str, path: str) -> str:
    return os.path.relpath(path, _fixed_part(pattern) or ".")


def _is_under(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
