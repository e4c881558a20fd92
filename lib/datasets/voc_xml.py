"""One VOC annotation file: from its bytes to size and objects, by tag name.

Well-formed XML is read, whatever its encoding and the order or case of its tags; everything else is reported as a
fault. The source of the format is the VOC development kit's annotation files.
"""

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Literal

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from lib.boxes import boxes
from lib.datasets.records import Item, Record, clean
from lib.stage.errors import Fault

Origin = Literal[0, 1, "half-open"]
"""Where the corners of a file count from. 1: the devkit, first pixel 1, both ends included. 0: first pixel 0,
both ends included. half-open: edges from 0 to the width, as VoTT writes them."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_LENIENT = "Fix the file or set data.faults: lenient"


def parse(data: bytes, path: str, record: Record, origin: Origin = 1) -> str | None:
    """Fill `record` (size, items, faults, notes, readable) from the bytes of the annotation at `path`.

    returns : the text of <filename>, a hint that nothing relies on; None where there is none
    """
    try:
        root, declared = _root(data)
    except (ValueError, LookupError, ElementTree.ParseError, DefusedXmlException) as error:
        problem = _reason(data, error)
        record.faults.append(Fault("unreadable annotation", path, problem, "well-formed XML", _LENIENT))
        record.readable = False
        return None
    if _tag(root) != "annotation":
        problem = f"the root is <{_tag(root)}>"
        record.faults.append(Fault("unreadable annotation", path, problem, "<annotation>", "Move the file away"))
        record.readable = False
        return None
    record.size = _size(_child(root, "size"))
    objects = [child for child in root if _tag(child) == "object"]
    for number, element in enumerate(objects):
        if item := _item(element, number, path, record.faults, origin):
            record.items.append(item)
            if not declared and (other := _as_gbk(item.name)):
                record.notes.append(
                    Fault(
                        "class name of unsure encoding",
                        f"{path}, object {number}",
                        f"{item.name!r} could be {other!r}: the file declares no encoding",
                    )
                )
    return _text(_child(root, "filename")) or None


def _root(data: bytes) -> tuple[ElementTree.Element, bool]:
    """Root element, and whether the file declares its encoding.

    Decoded here because the parser knows no multi-byte encodings (gb2312, shift_jis).
    """
    declaration = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"']", data)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data.startswith((b"<\0", b"\0<")):
        encoding = "utf-16-le" if data[:1] == b"<" else "utf-16-be"
    elif data.startswith(b"\xef\xbb\xbf") or declaration is None:
        encoding = "utf-8-sig"
    else:
        encoding = declaration[1].decode()
    declared = declaration is not None or encoding != "utf-8-sig" or data.startswith(b"\xef\xbb\xbf")
    return fromstring(data.decode(encoding)), declared


def _reason(data: bytes, error: Exception) -> str:
    if not data.strip():
        return "the file is empty"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no valid {error.encoding}: declare the encoding, or save as UTF-8"
    if isinstance(error, DefusedXmlException):
        return "it declares entities, which can fill the memory"
    return f"it does not parse ({error})"


def _item(element: ElementTree.Element, number: int, path: str, faults: list[Fault], origin: Origin) -> Item | None:
    """The object, or None and a fault."""
    name = clean(_text(_child(element, "name")))
    where = f"{path}, object {number} ({name})" if name else f"{path}, object {number}"

    def fault(kind: str, problem: str, allowed: str) -> None:
        faults.append(Fault(kind, where, problem, allowed, _LENIENT if kind != "non-finite number" else "Fix the file"))

    if not name:
        fault("object without class", "<name> is missing or empty", "a class name")
        return None
    bndbox = _child(element, "bndbox")
    texts = {
        tag: child.text or "" for child in (bndbox if bndbox is not None else []) if (tag := _tag(child)) in _CORNERS
    }
    missing = [tag for tag in _CORNERS if tag not in texts]
    if missing:
        fault("object without box", f"<bndbox> lacks {', '.join(missing)}", ", ".join(_CORNERS))
        return None
    corners = []
    for tag in _CORNERS:
        text = texts[tag].strip()
        if _NOT_FINITE.fullmatch(text) or (_NUMBER.fullmatch(text) and not math.isfinite(float(text))):
            fault("non-finite number", f"{tag} is {text}", "a finite number")
        elif not _NUMBER.fullmatch(text):
            fault("not a number", f"{tag} is {texts[tag]!r}", "a number such as 12 or 45.7")
        else:
            corners.append(float(text))
    if len(corners) < len(_CORNERS):
        return None
    for axis, (low, high) in {"x": corners[::2], "y": corners[1::2]}.items():
        if high < low:
            side = "left of" if axis == "x" else "above"
            fault("inverted box", f"{axis}max {high:g} is {side} {axis}min {low:g}", f"{axis}max >= {axis}min")
            return None
    flags = {}
    for tag in ("difficult", "truncated"):
        text = _text(_child(element, tag))
        flags[tag] = text == "1"
        if text not in ("", "0", "1"):
            fault("not a flag", f"<{tag}> is {text!r}", "0, 1 or empty")
    box = corners if origin == "half-open" else boxes.from_voc([corners], origin)[0].tolist()
    xmin, ymin, xmax, ymax = corners
    written = (xmin, ymin, xmax, ymax)
    return Item(number, name, (box[0], box[1], box[2], box[3]), written, where, **flags)


def _size(element: ElementTree.Element | None) -> tuple[int, int] | None:
    """(width, height); None where a part is missing, not a number, or 0: the image's own size is used then."""
    sides = [_text(_child(element, tag)) if element is not None else "" for tag in ("width", "height")]
    if not all(_NUMBER.fullmatch(side) and math.isfinite(float(side)) for side in sides):
        return None
    width, height = (round(float(side)) for side in sides)
    return (width, height) if width > 0 and height > 0 else None


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element | None:
    """First direct child of that name: an object's parts (VOC 2008 on) have boxes of their own."""
    return next((child for child in element if _tag(child) == name), None)


def _tag(element: ElementTree.Element) -> str:
    """Tag name without namespace, in lower case; '' for a comment."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


def _text(element: ElementTree.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""


def _as_gbk(name: str) -> str | None:
    """The Chinese name that the UTF-8 bytes of a name spell in GBK: such a file parses, to the wrong characters."""
    if name.isascii():
        return None
    try:
        other = name.encode().decode("gbk")
    except UnicodeDecodeError:
        return None
    return other if all(c.isascii() or "\u4e00" <= c <= "\u9fff" for c in other) else None
