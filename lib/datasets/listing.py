"""Which files are under a data root, and how files that belong together are found by name and folder."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lib.datasets.walk import walk
from lib.images.header import EXTENSIONS
from lib.stage.errors import Fault, InputError

SETS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "trainval": "trainval", "test": "test", "testing": "test",
}  # fmt: skip
_KINDS = {"xml": "xml", "json": "json", "text": "txt"}


@dataclass(frozen=True)
class Listing:
    """Files under `root`, as sorted POSIX paths relative to it: all that `walk` counts.

    others  : neither image nor XML, JSON or text
    skipped : hidden, or of a tool
    """

    root: Path
    images: list[str]
    xml: list[str]
    json: list[str]
    text: list[str]
    others: list[str]
    folders: set[str]
    skipped: list[str]
    extensions: Counter[str]

    @property
    def readable(self) -> list[str]:
        """All that a reader may open."""
        return [*self.images, *self.xml, *self.json, *self.text]

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises InputError where it cannot be opened."""
        try:
            return (self.root / path).read_bytes()
        except OSError as error:
            problem, remedy = f"cannot be opened ({error.strerror})", "Check the link or the permissions, or remove it"
            raise InputError([Fault("unreadable file", path, problem, "a file that can be read", remedy)]) from error


def scan(root: str | Path) -> Listing:
    """Walk the root once. Raises InputError where a name is no text."""
    below = walk(root)
    by_extension = defaultdict(list)
    for path in below.files:
        by_extension[PurePosixPath(path).suffix.lower()].append(path)
    images = sorted(path for extension in EXTENSIONS for path in by_extension[extension])
    counts = Counter({extension or "(none)": len(members) for extension, members in by_extension.items() if members})
    kinds = {name: by_extension[f".{extension}"] for name, extension in _KINDS.items()}
    others = sorted(set(below.files).difference(images, *kinds.values()))
    return Listing(
        Path(root), images, others=others, folders=below.folders, skipped=below.skipped, extensions=counts, **kinds
    )


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
