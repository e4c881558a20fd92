"""Which files are under a data root, and how files that belong together are found by name and folder."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lib.images.header import EXTENSIONS

SETS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "trainval": "trainval", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Listing:
    """Files under `root`, as sorted POSIX paths relative to it. Hidden files and folders are not in it."""

    root: Path
    images: list[str]
    xml: list[str]
    json: list[str]
    folders: set[str]
    extensions: Counter[str]

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


def scan(root: str | Path) -> Listing:
    """Walk the root once. Links are followed, each real folder once."""
    root = Path(root)
    paths: list[str] = []
    folders: set[str] = set()
    seen: set[str] = set()
    for folder, children, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        # Tools leave copies of annotations in .ipynb_checkpoints, .idea and __MACOSX, and ._name files beside them.
        visible = sorted(child for child in children if not child.startswith((".", "__MACOSX")))
        children[:] = visible if real not in seen else []  # in place: os.walk goes into what is left in the list
        if real in seen:
            continue
        seen.add(real)
        here = Path(folder).relative_to(root)
        folders.add(here.as_posix())
        paths += [(here / name).as_posix() for name in files if not name.startswith(".")]
    by_extension = defaultdict(list)
    for path in sorted(paths):
        by_extension[PurePosixPath(path).suffix.lower()].append(path)
    images = sorted(path for extension in EXTENSIONS for path in by_extension[extension])
    counts = Counter({extension or "(none)": len(members) for extension, members in by_extension.items() if members})
    return Listing(root, images, by_extension[".xml"], by_extension[".json"], folders, counts)


def stem(path: str) -> str:
    """File name without folder and last extension, in Unicode NFC (macOS stores names in NFD)."""
    return unicodedata.normalize("NFC", PurePosixPath(path).stem)


def by_stem(images: Iterable[str]) -> dict[str, list[str]]:
    """Images under each stem."""
    images_of: dict[str, list[str]] = defaultdict(list)
    for image in images:
        images_of[stem(image)].append(image)
    return images_of


def nearest(path: str, candidates: list[str]) -> list[str]:
    """The candidates whose folder fits `path` best: all that tie.

    The measure is the number of folders shared at the beginning and at the end of the two paths, so that
    train/labels/a.xml belongs to train/images/a.jpg, and xml/train/a.xml to jpg/train/a.jpg. The same folder
    fits better than any other.
    """
    if len(candidates) < 2:
        return candidates
    here = PurePosixPath(path).parent.parts

    def fit(candidate: str) -> tuple[bool, int]:
        there = PurePosixPath(candidate).parent.parts
        return there == here, _common(here, there) + _common(here[::-1], there[::-1])

    best = max(map(fit, candidates))
    return [candidate for candidate in candidates if fit(candidate) == best]


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def set_of_folder(path: str) -> str | None:
    """The set that a folder on the path names exactly (train, valid, test2017); the innermost such folder."""
    names = (re.sub(r"[\d_-]+$", "", part.lower()) for part in reversed(PurePosixPath(path).parent.parts))
    return next((SETS[name] for name in names if name in SETS), None)


def set_of_file(path: str) -> str | None:
    """The set that a word of the file's name names (instances_val2017.json), or else a folder on its path."""
    words = re.findall("[a-z]+", PurePosixPath(path).stem.lower())
    return next((SETS[word] for word in words if word in SETS), None) or set_of_folder(path)
