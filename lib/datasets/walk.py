"""Which files a folder means: one rule for a data set and for a user's own images."""

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lib.stage.errors import Fault, InputError

# Folders and files that systems and tools leave behind, in lower case. They hold copies and previews, no data.
_TOOLS = {
    "__macosx", "__pycache__", "@eadir", "@__thumb", "#recycle", "$recycle.bin", "system volume information",
    "lost+found", "thumbs.db", "desktop.ini",
}  # fmt: skip


@dataclass
class Walk:
    """What lies under a folder, as sorted POSIX paths relative to it.

    files, folders : all that count; the folder itself is "."
    skipped        : files and folders that do not: hidden, or of a tool
    """

    files: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)


def walk(root: str | Path, without: Collection[str] = ()) -> Walk:
    """All below `root`. Each folder is entered once, by its own path where that is below `root`, else by the first link
    to it, so that circles end.

    without : real paths of folders that are left out and not counted
    raises  : InputError with every name that is no text
    """
    root, seen = Path(root), set(without)
    result, faults = Walk(), list[Fault]()
    starts = [str(root)]
    while starts:
        for folder, children, names in os.walk(starts.pop(0)):
            real = os.path.realpath(folder)
            if real in seen:
                children.clear()
                continue
            seen.add(real)
            here = Path(folder).relative_to(root)
            usual = sorted(name for name in [*children, *names] if not is_of_a_tool(name))
            result.folders.add(here.as_posix())
            result.skipped += [(here / name).as_posix() for name in [*children, *names] if is_of_a_tool(name)]
            result.files += [(here / name).as_posix() for name in usual if name not in children]
            faults += [no_text(str(here / name)) for name in usual if not is_text(name)]
            links = [name for name in usual if name in children and os.path.islink(os.path.join(folder, name))]
            starts += [os.path.join(folder, name) for name in links]
            children[:] = sorted(set(usual) & set(children) - set(links))  # in place: os.walk goes into these
    if faults:
        raise InputError(faults)
    result.files.sort()
    result.skipped.sort()
    return result


def is_of_a_tool(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or what a system or a tool left behind."""
    return name.startswith(".") or name.lower() in _TOOLS


def has_tool_part(path: str) -> bool:
    """`is_of_a_tool` for any part of a path."""
    return any(is_of_a_tool(part) for part in PurePosixPath(path).parts if part != "..")


def is_text(name: str) -> bool:
    """Whether a name is text that a table can hold; the bytes of another encoding come as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def no_text(path: str) -> Fault:
    """The fault of a path that is no text, in ASCII, as nothing else can be printed."""
    remedy = "Rename it, for example with: convmv -r -f latin1 -t utf8 --notest FOLDER"
    return Fault("name is no text", ascii(path), "is not in UTF-8", "names in UTF-8", remedy)
