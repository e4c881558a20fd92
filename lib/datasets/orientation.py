"""Whether an image's EXIF orientation is to be applied: the size in the annotation tells how the tool displayed it.

Labelling tools differ: some show a phone's image as it is stored, some turn it. So the size in the annotation
decides. If it is the turned image's size, turn; if it is only the stored size, do not; if neither, it is a fault.
"""

from lib.datasets.records import Record
from lib.images.header import Header
from lib.stage.errors import Fault

_LENIENT = "Fix the size, or set data.faults: lenient"


def settle(record: Record, header: Header) -> tuple[bool, list[Fault], list[Fault]]:
    """(transpose, faults, notes) for one image.

    An image whose orientation the size cannot tell (square, no size given, or turned by 180 degrees or
    mirrored) is turned, as viewers do, and noted if it has objects.
    """
    stored, turned = header.size(False), header.size(True)
    where = record.where
    declared = record.size
    if header.orientation == 1:
        if declared in (None, stored):
            return False, [], _missing(record, stored)
        swapped = ": width and height are swapped" if declared == stored[::-1] else ""
        problem = f"the size is given as {_text(declared)}{swapped}"
        return False, [Fault("size differs from the image", where, problem, _text(stored), _LENIENT)], []
    if declared == stored != turned:
        return False, [], []
    if declared not in (None, turned):
        if header.orientation >= 5:
            problem = f"the size is given as {_text(declared)}, EXIF orientation is {header.orientation}"
            allowed = f"{_text(stored)} (as stored) or {_text(turned)} (turned)"
            return True, [Fault("size fits neither orientation", where, problem, allowed, _LENIENT)], []
        problem = f"the size is given as {_text(declared)}"
        return True, [Fault("size differs from the image", where, problem, _text(stored), _LENIENT)], []
    notes = _missing(record, turned)
    if record.items and (declared is None or stored == turned):
        notes.append(
            Fault("orientation not told by the size", where, f"EXIF orientation {header.orientation} is applied")
        )
    return True, [], notes


def _missing(record: Record, size: tuple[int, int]) -> list[Fault]:
    unread = any(fault.kind == "unreadable annotation" for fault in record.faults)
    if record.annotation is None or record.size is not None or unread:
        return []
    return [
        Fault(
            "size missing or 0 in the annotation",
            record.where,
            f"the image's size {_text(size)} is used",
        )
    ]


def _text(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "none"
