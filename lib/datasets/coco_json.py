"""COCO's JSON files: which files they are, and their content, with every number finite and every name text."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from lib.datasets.coco_row import LISTS, key_of, place
from lib.datasets.listing import Listing
from lib.datasets.walk import is_text
from lib.stage.errors import Fault

_KEYS = (b'"images"', b'"annotations"')
_IDS = (("images", "id"), ("categories", "id"), ("annotations", "image_id"), ("annotations", "category_id"))
_USED = {"file_name", "name", "id", "image_id", "category_id"}


class _NotFinite(str):
    """A bare NaN or Infinity. Kept as text, so that no arithmetic takes it for a number and its position is known."""


def files(listing: Listing) -> list[str]:
    """The annotation files. COCO's own captions and keypoints repeat the images and are left out."""
    paths = [path for path in listing.json if _looks_like_coco(listing.read(path))]
    instances = [path for path in paths if PurePosixPath(path).name.startswith("instances")]
    return instances or paths


def lacking(listing: Listing, paths: list[str]) -> dict[str, str]:
    """What is missing in each file beside those at `paths` that has one of `images` and `annotations` alone."""
    others = {path: listing.read(path).replace(b"\0", b"") for path in listing.json if path not in paths}
    missing = {path: [key.decode() for key in _KEYS if key not in data] for path, data in others.items()}
    return {path: f"lacks {keys[0]}" for path, keys in missing.items() if len(keys) == 1}


def _looks_like_coco(data: bytes) -> bool:
    return all(key in data for key in _KEYS) or all(key in data.replace(b"\0", b"") for key in _KEYS)


def load(listing: Listing, path: str, faults: list[Fault]) -> dict[str, Any] | None:
    """The file's content; None, and faults, where it is not JSON in COCO's layout, or holds numbers that are not
    finite, names that are no text, or ids that are neither whole numbers nor text."""
    try:
        data = json.loads(listing.read(path), parse_constant=_NotFinite)
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is no valid {error.encoding}"
        faults.append(Fault("unreadable JSON", path, problem, "JSON in UTF-8", "Save it as UTF-8"))
        return None
    except (ValueError, RecursionError) as error:
        faults.append(Fault("unreadable JSON", path, f"it does not parse ({error})", "JSON", "Export it again"))
        return None
    in_layout = isinstance(data, dict) and all(
        isinstance(rows := data.get(key), list) and all(isinstance(row, dict) for row in rows) for key in LISTS
    )
    if not in_layout:
        problem = "images, annotations and categories are not all lists of objects"
        faults.append(Fault("unreadable JSON", path, problem, "COCO's layout", "Export it again, or move it away"))
        return None
    wrong = list(_wrong_values(data, path))
    faults += wrong
    return None if wrong else dict(data)


def _wrong_values(data: dict[str, Any], path: str) -> Iterator[Fault]:
    """Faults that no row can be read with: the joins and the arithmetic would go on with other values."""
    names = {key_of(row, "id"): row.get("file_name") for row in data["images"]}

    def where(position: tuple[Any, ...]) -> str:
        keys = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in position).lstrip(".")
        if not _in_row(position):
            return f"{path}, {keys}"
        rows, index = position[:2]
        row = data[rows][index]
        image = row.get("file_name") if rows == "images" else names.get(key_of(row, "image_id"))
        return f"{path}, {keys}, {place(rows, index, row, image)}"

    for position, text in _texts(data):
        if isinstance(text, _NotFinite):
            yield Fault("non-finite number", where(position), f"is {text}", "a finite number", "Fix the file")
        elif _in_row(position) and position[2] in _USED and not is_text(text):
            yield Fault("name is no text", where(position), f"is {text!a}", "text in UTF-8", "Export the file again")
    for rows, key in _IDS:
        values = [row.get(key) for row in data[rows]]
        unread = [key_of(row, key) is None for row in data[rows]]
        wrong = [index for index, value in enumerate(values) if value is not None and unread[index]]
        if wrong:
            problem = f"is {values[wrong[0]]!r}; {len(wrong)} of {len(values)} {rows} have such ids"
            allowed, remedy = "a whole number or text", "Write 1 instead of 1.0, or export the file again"
            yield Fault("not an id", where((rows, wrong[0], key)), problem, allowed, remedy)


def _in_row(position: tuple[Any, ...]) -> bool:
    return len(position) > 2 and position[0] in LISTS


def _texts(value: Any, position: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text of the content with its position, such as ("annotations", 4, "bbox", 0)."""
    if isinstance(value, str):
        yield position, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(child, str | dict | list):
                yield from _texts(child, (*position, key))
