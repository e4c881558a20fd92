"""Which files of a data set are its split lists, where `data.lists` names them.

VOC's lists are text files below ImageSets, COCO's are the annotation files themselves.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from lib.stage.errors import Fault
from lib.stage.params import suggestion

UNUSED = "list not used"
"""Kind of the notes about files that could be lists and are none."""
CALLED_AFTER_SETS: Mapping[str, str] = {}
"""Names of lists where `data.lists` gives none."""


def named_lists(
    named: Mapping[str, str], home_of: Mapping[str, str], unusable: Mapping[str, str], faults: list[Fault]
) -> dict[str, str]:
    """The files that `named` means, and the set that each is for.

    named    : set (train, val, test) -> name of a list: its path without the extension, or the end of that
               path. Where several fit, those in folders called Main alone count
    home_of  : every list -> the folder whose images it splits; a name means at most one list of each home
    unusable : files that are no lists, and why
    faults   : takes "named list not there" and "named list unclear"
    """
    set_of: dict[str, str] = {}
    for split, name in named.items():
        key, files = f"data.lists.{split}", _called(name, home_of)
        if not files:
            labels = sorted({label(path) for path in home_of})
            reason = "; ".join(f"{path} {unusable[path]}" for path in _called(name, unusable))
            problem = f"there is no list {name}" + (f": {reason}" if reason else "")
            remedy = suggestion(name, labels) or "Name a list that is there, or add this one"
            faults.append(Fault("named list not there", key, problem, ", ".join(labels) or "none is there", remedy))
        in_home = Counter(home_of[path] for path in files)
        for path in files:
            if in_home[home_of[path]] > 1:
                problem, remedy = f"{name} could be {' or '.join(files)}", "Write the folder before the name"
                faults.append(Fault("named list unclear", key, problem, "one list", remedy))
                break
            if path in set_of:
                problem = f"{name} is {path}, which is named for {set_of[path]} too"
                faults.append(Fault("named list unclear", key, problem, "a list for each", "Take one away"))
            set_of[path] = split
    return set_of


def label(path: str) -> str:
    """The shortest name under which `data.lists` can mean a list."""
    parts = PurePosixPath(path).with_suffix("").parts
    if "ImageSets" not in parts:
        return "/".join(parts)
    below = parts[parts.index("ImageSets") :]
    return "/".join(below[2:] if below[1] == "Main" and len(below) > 2 else below[-2:])


def _called(name: str, paths: Iterable[str]) -> list[str]:
    ending = PurePosixPath(name).parts
    files = [path for path in paths if PurePosixPath(path).with_suffix("").parts[-len(ending) :] == ending]
    return sorted(path for path in files if PurePosixPath(path).parent.name == "Main") or sorted(files)
