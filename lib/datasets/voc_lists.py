"""The split lists of VOC folders: text files below ImageSets, an image a line.

ImageSets/Main/{train,val,trainval,test}.txt are read, or instead those that `data.lists` names. A list is for the
images beside its ImageSets. Every other text file below ImageSets is named, except the class lists of the
development kit beside lists that are read: cat_train.txt has 1, -1 or 0 after each image of train.
"""

import codecs
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from lib.datasets.listing import Listing, by_stem, nearest, stem
from lib.datasets.lists import UNUSED, named_lists
from lib.datasets.records import Record, Source
from lib.datasets.walk import is_text
from lib.images.header import EXTENSIONS
from lib.stage.errors import Fault

SETS = ("train", "val", "trainval", "test")
_ALLOWED = f"ImageSets/Main/{{{','.join(SETS)}}}.txt"


def read(
    listing: Listing, images: Iterable[str], records: Mapping[str, Record], source: Source, named: Mapping[str, str]
) -> None:
    """Marks the records that lists name, and tells `source` which sets there are and what is wrong with the lists.

    named : as in `lists.named_lists`
    """
    home_of = {path: home for path in listing.text if (home := _home(path)) is not None}
    class_lists = dict.fromkeys((path for path in home_of if _is_class_list(listing, path)), "is a class list")
    lists = {path: home for path, home in home_of.items() if path not in class_lists}
    if named:
        set_of = named_lists(named, lists, class_lists, source.faults)
    else:
        set_of = {path: stem(path) for path in lists if _is_in_main(path) and stem(path) in SETS}
    source.sets |= {*named, *set_of.values()}
    if source.sets:
        for folder, names in _by_home({path: home for path, home in lists.items() if path not in set_of}):
            source.notes.append(Fault(UNUSED, folder, f"{names}: not used"))
    else:
        remedy = (
            "Rename them, or name them in data.lists, for example {train: t1_train, val: null, test: t1_test}; "
            "data.splits: hash makes splits without lists"
        )
        for folder, names in _by_home(home_of):
            problem = f"{names}: not understood as split lists"
            source.faults.append(Fault("split lists not understood", folder, problem, _ALLOWED, remedy))
    images_of = {
        home: by_stem(image for image in images if PurePosixPath(image).is_relative_to(home))
        for home in {lists[path] for path in set_of}
    }
    for path, split in sorted(set_of.items()):
        _read_list(path, _lines(listing, path), images_of[lists[path]], split, records, source.faults)


def _home(path: str) -> str | None:
    """The folder that holds the ImageSets above a file; None without one."""
    parts = PurePosixPath(path).parent.parts
    return str(PurePosixPath(*parts[: parts.index("ImageSets")])) if "ImageSets" in parts else None


def _is_in_main(path: str) -> bool:
    return PurePosixPath(path).parent.parts[-2:] == ("ImageSets", "Main")


def _is_class_list(listing: Listing, path: str) -> bool:
    """Whether the name is CLASS_SET and each line ends in 1, -1 or 0, with -1 somewhere.

    Without -1 the second column could be anything, so the file is named as one that is not understood.
    """
    if not re.fullmatch(f".+_({'|'.join(SETS)})", stem(path)):
        return False
    lines = [line.split() for _, line in _lines(listing, path)]
    flags = {words[-1] if len(words) > 1 else "" for words in lines}
    return "-1" in flags and flags <= {"1", "-1", "0"}


def _lines(listing: Listing, path: str) -> list[tuple[int, str]]:
    """The lines that are not blank, in Unicode NFC, with their numbers from 1."""
    data = listing.read(path)
    is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    # Bytes of another encoding stay apart from text, so that `_read_list` can name them.
    text = data.decode("utf-16", "replace") if is_utf_16 else data.decode("utf-8-sig", "surrogateescape")
    lines = unicodedata.normalize("NFC", text).splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _by_home(home_of: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each folder ImageSets with its files, in one text."""
    names: dict[str, list[str]] = defaultdict(list)
    for path, home in sorted(home_of.items()):
        folder = PurePosixPath(home) / "ImageSets"
        names[str(folder)].append(str(PurePosixPath(path).relative_to(folder)))
    return ((folder, ", ".join(group)) for folder, group in sorted(names.items()))


def _read_list(
    path: str,
    lines: list[tuple[int, str]],
    images_of: dict[str, list[str]],
    split: str,
    records: Mapping[str, Record],
    faults: list[Fault],
) -> None:
    line_of: dict[str, int] = {}
    for number, line in lines:
        where = f"{path}, line {number}"
        if not is_text(line):
            problem, remedy = f"{line!a} is not in UTF-8", "Save the list as UTF-8"
            faults.append(Fault("name is no text", where, problem, "a list in UTF-8", remedy))
            continue
        entry, matches = _listed(line, images_of)
        for image in matches:
            records[image].sets.add(split)
        if not matches:
            problem = f"{entry} is listed, but no image is called so"
            remedy = "Add the image, take it off the list, or set data.faults: lenient"
            faults.append(Fault("listed image missing", where, problem, "", remedy))
        elif matches[0] in line_of:
            problem = f"{entry} is listed in line {line_of[matches[0]]} already"
            remedy = "Take it off, or set data.faults: lenient to count it once"
            faults.append(Fault("image listed twice", where, problem, "each image once", remedy))
        line_of |= {image: number for image in matches if image not in line_of}


def _listed(line: str, images_of: dict[str, list[str]]) -> tuple[str, list[str]]:
    """What names images in a line, and these images.

    The first word is the image's id, unless more words together name an image: names may hold blanks.
    """
    entry, matches = line, _named_by(line, images_of)
    while not matches and len(words := entry.rsplit(None, 1)) > 1:
        entry, matches = words[0], _named_by(words[0], images_of)
    return entry, matches


def _named_by(entry: str, images_of: dict[str, list[str]]) -> list[str]:
    """Images called so: a stem, perhaps with folders or the extension."""
    path = PurePosixPath(entry.replace("\\", "/"))
    name = path.name if path.suffix.lower() in EXTENSIONS else f"{path.name}.jpg"
    same_stem = images_of.get(stem(name), [])
    if folders := path.parent.parts:
        same_stem = [image for image in same_stem if _folders(image)[-len(folders) :] == folders]
    return nearest(str(path), same_stem)


def _folders(image: str) -> tuple[str, ...]:
    return PurePosixPath(unicodedata.normalize("NFC", image)).parent.parts
