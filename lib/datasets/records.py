"""What the reader of a format returns: a record per image, in the project's boxes, with its faults.

Readers never decide whether a fault stops the run. They name it, leave out what cannot be used, and go on, so
that one bad file does not hide the others; `check.load` decides.
"""

import unicodedata
from dataclasses import dataclass, field

from lib.stage.errors import Fault

LENIENT = {
    "unreadable annotation": "image left out",
    "annotation without image": "annotation left out",
    "two images for one annotation": "annotation and images left out",
    "object without class": "object left out",
    "object without box": "object left out",
    "not a number": "object left out",
    "not a flag": "taken as 0",
    "inverted box": "object left out",
    "box outside the image": "object left out",
    "box over the border": "clipped",
    "boxes in fractions": "images left out",
    "many boxes under min_box_size": "objects left out",
    "class not in the list": "object left out",
    "undeclared category": "object left out",
    "duplicate annotation id": "both objects kept",
    "categories differ between files": "joined by name",
    "size differs from the image": "the decoded image's size used",
    "size fits neither orientation": "image left out",
    "unreadable image": "image left out",
    "image too large": "image left out",
    "listed image missing": "entry left out",
    "listed image without annotation": "taken as an image without objects",
    "image listed twice": "counted once",
    "split lists not understood": "not followed",
    "lists disagree": "image put into train",
}
"""Kinds of fault that `faults: lenient` tolerates, and how. Any other kind stops in both modes: non-finite
numbers (training on one ends without a message), a file that cannot be read as a whole, and whatever could
put an image into two splits or objects onto the wrong image. Boxes that are corners are among them: those that
happen to lie inside the image are wrong as well, and nothing tells which."""


@dataclass(frozen=True)
class Item:
    """One annotated object.

    number  : its position in the annotation, from 0 (COCO: among the annotations of the image)
    name    : class, stripped, Unicode NFC
    box     : x1 y1 x2 y2, pixels, 0-based, half-open, not clipped: perhaps beyond the image
    written : the four numbers of the file. VOC: xmin ymin xmax ymax; COCO: x y width height
    where   : its place in the files, as messages name it
    """

    number: int
    name: str
    box: tuple[float, float, float, float]
    written: tuple[float, float, float, float]
    where: str
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False


@dataclass
class Record:
    """One image and what its annotation says.

    annotation : file that describes it, relative to the data root; None where there is none (a negative)
    entry      : its place in that file, for messages; empty where the file is its own
    size       : (width, height) as the annotation gives it; None where it is missing or 0
    sets       : names of the lists that hold it: train, val, trainval, test
    readable   : False where the annotation is broken, so that nothing is known of the image's objects
    notes      : what is legal but mentioned in the data report
    """

    image_id: str
    annotation: str | None = None
    entry: str = ""
    size: tuple[int, int] | None = None
    items: list[Item] = field(default_factory=list)
    sets: set[str] = field(default_factory=set)
    readable: bool = True
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    @property
    def where(self) -> str:
        """Place of what its annotation says of the whole image, as messages name it."""
        return ", ".join(filter(None, [self.annotation or self.image_id, self.entry]))


@dataclass
class Source:
    """All that a reader returns. `sets` are the names of the lists that exist, even those without an image."""

    format: str
    records: list[Record]
    sets: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)


def clean(name: str) -> str:
    """A class name as it is compared everywhere: stripped and in Unicode NFC; case and inner spaces count."""
    return unicodedata.normalize("NFC", name.strip())
