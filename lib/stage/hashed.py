"""What DVC hashes of a folder, asked of DVC itself: after an edit of any other file `dvc repro` would say that nothing
changed."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import accumulate
from pathlib import Path, PurePosixPath

from lib.stage.errors import Fault, InputError
from lib.stage.pipeline import repository


def check(root: str | Path, files: Iterable[str], outs: Collection[str] = ()) -> None:
    """Raises InputError where DVC does not hash one of the files below `root`, or hashes an output with them.

    files : those that are read, as POSIX paths relative to `root`
    outs  : paths of what is made from them
    """
    absolute = os.path.abspath(root)
    own = [out for out in outs if Path(absolute) in Path(os.path.abspath(out)).parents]
    faults = [_own_output(root, out) for out in own] or _unseen(absolute, files)
    if faults:
        raise InputError(faults)


def _own_output(root: str | Path, out: str) -> Fault:
    problem = f"holds {out}, which is made from it, so it would change with every run"
    return Fault("output in the data", f"data.root {root}", problem, "a folder of the data alone", "Name a deeper one")


def _unseen(root: str, files: Iterable[str]) -> list[Fault]:
    """A fault for each line of a `.dvcignore` that hides files, and for each linked folder that has some."""
    from dvc.fs import localfs

    hidden, linked = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    with repository() as repo:
        hashed = set(repo.dvcignore.find(localfs, root))
        for file in files:
            path = os.path.join(root, file)
            if path in hashed:
                continue
            verdict = repo.dvcignore.check_ignore(path)
            if verdict.match:
                rule = verdict.pattern_infos[-1]  # DVC's own rules are in no file
                hidden[rule.file_info or f"DVC's own rule {rule.patterns}"].append(file)
            else:
                linked[_link(root, file)].append(file)
    seen, allowed = "so that their edit would rerun nothing", "a folder of which DVC hashes every file"
    return [
        Fault("hidden from DVC", rule, f"hides {_count(hides)} of {root} from DVC, {seen}", allowed,
              "Take the line out, or move the data to where no line of a .dvcignore matches")
        for rule, hides in hidden.items()
    ] + [
        Fault("link that DVC does not follow", os.path.join(root, link),
              f"is a link to a folder with {_count(behind)}, which DVC does not hash, {seen}", allowed,
              "Put the folder itself there, or set data.root to it")
        for link, behind in linked.items()
    ]  # fmt: skip


def _count(files: list[str]) -> str:
    return f"{len(files)} files ({files[0]}{', ...' if len(files) > 1 else ''})"


def _link(root: str, file: str) -> str:
    """The first folder on the way to a file that is a link."""
    folders = accumulate(PurePosixPath(file).parent.parts, lambda above, part: f"{above}/{part}")
    return next(folder for folder in folders if os.path.islink(os.path.join(root, folder)))
