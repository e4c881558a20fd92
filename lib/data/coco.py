"""Data sets annotated in COCO's JSON: one file, or one per split.

Annotations of `instances_train2017.json` lie apart from their images in `train2017/`; other exporters put the
file among the images (`train/_annotations.coco.json`). Categories are joined by name, because their numbers
differ between files, have gaps, or are huge. Format: the COCO data page, boxes `[x, y, width, height]`,
0-based.
"""

import math
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

from lib.core.errors import Fault
from lib.data.coco_json import load
from lib.data.listing import Listing, by_stem, nearest, set_of_file, set_of_folder, stem
from lib.data.records import Item, Record, Source, clean

_LENIENT = "Fix the file or set data.faults: lenient"


def read(listing: Listing, paths: list[str]) -> Source:
    """One record per image that `paths` (from `files`) name, in the order of their ids.

    Other images are not part of the set.
    """
    source, records = Source("coco", []), dict[str, Record]()
    names: dict[str, set[str]] = {}
    images_of = by_stem(listing.images)
    for path in paths:
        split = set_of_file(path)
        if split:
            source.sets.add(split)
        elif len(paths) > 1:
            source.faults.append(
                Fault(
                    "split unclear",
                    path,
                    "the name tells no split and there are other files",
                    "train, val or test in each file's name",
                    "Rename the file or move it away",
                )
            )
        data = load(listing, path, source.faults)
        if data is not None:
            names[path] = _read_file(data, path, split, images_of, records, source)
    every = set().union(*names.values())
    for path, found in names.items():
        if found != every:
            source.faults.append(
                Fault(
                    "categories differ between files",
                    path,
                    f"lacks {sorted(every - found)}",
                    f"the same names in {', '.join(names)}",
                    _LENIENT,
                )
            )
    source.records = [records[image_id] for image_id in sorted(records)]
    return source


def _read_file(
    data: dict[str, Any],
    path: str,
    split: str | None,
    images_of: dict[str, list[str]],
    records: dict[str, Record],
    source: Source,
) -> set[str]:
    """Adds the file's images and objects to `records`; returns the names of its categories."""
    categories: dict[int | str | None, str] = {}
    for row in data["categories"]:
        key, name = _key(row, "id"), clean(str(row.get("name") or ""))
        if key is None or not name or categories.get(key, name) != name:
            source.faults.append(
                Fault(
                    "unreadable JSON",
                    f"{path}, category {key}",
                    f"its name is {name!r}",
                    "a number of its own and a name for each category",
                    "Fix the file",
                )
            )
        else:
            categories[key] = name
    by_id: dict[int | str | None, Record] = {}
    for row in data["images"]:
        _add_image(row, path, split, images_of, records, by_id, source.faults)
    known = {_key(row, "id") for row in data["images"]}
    numbers: dict[int | str | None, int] = defaultdict(int)
    repeated = Counter(_key(row, "id") for row in data["annotations"])
    for row in data["annotations"]:
        key, image_id = _key(row, "id"), _key(row, "image_id")
        record = by_id.get(image_id)
        if record is None:
            if image_id is None or image_id not in known:
                source.faults.append(
                    Fault(
                        "annotation without image",
                        f"{path}, annotation {key}",
                        f"image_id {row.get('image_id')!r} is not among the images",
                        "",
                        _LENIENT,
                    )
                )
            continue
        where = f"{path}, annotation {key} ({record.image_id})"
        if key is not None and repeated[key] > 1:
            record.faults.append(
                Fault(
                    "duplicate annotation id",
                    where,
                    f"the id occurs {repeated[key]} times",
                    "each id once",
                    _LENIENT,
                )
            )
        item = _item(row, numbers[image_id], where, categories, record.faults)
        numbers[image_id] += 1
        if item:
            record.items.append(item)
    return set(categories.values())


def _add_image(
    row: dict[str, Any],
    path: str,
    split: str | None,
    images_of: dict[str, list[str]],
    records: dict[str, Record],
    by_id: dict[int | str | None, Record],
    faults: list[Fault],
) -> None:
    """The image's record, filed under the image's id for the annotations that follow."""
    key, name = _key(row, "id"), row.get("file_name")
    where = f"{path}, image {key}"
    if key is None or not isinstance(name, str):
        faults.append(
            Fault("unreadable JSON", where, f"file_name is {name!r}", "an id and a file_name", "Fix the file")
        )
        return
    found = _locate(name, path, images_of)
    if not found:
        faults.append(
            Fault(
                "listed image missing",
                where,
                f"there is no file {name}",
                "",
                "Add the image, or set data.faults: lenient",
            )
        )
        return
    if len(found) > 1:
        faults.append(
            Fault(
                "two images for one annotation",
                where,
                f"{name} could be {' or '.join(found)}",
                "one such file",
                "Write the folder into file_name, or remove the other",
            )
        )
        return
    if key in by_id or (found[0] in records and records[found[0]].annotation == path):
        faults.append(
            Fault(
                "duplicate image id",
                where,
                f"{name} or its id occurs twice in the file",
                "each image once",
                "Remove one",
            )
        )
        return
    record = records.get(found[0])
    if record is None:
        record = by_id[key] = records[found[0]] = Record(found[0], path, _size(row))
    elif split != "trainval" and "trainval" not in record.sets and record.sets <= {split}:
        faults.append(
            Fault(
                "two annotations for one image",
                where,
                f"{record.annotation} is for {name} too",
                "one file per image",
                "Remove it from one",
            )
        )
    # Of files that overlap (train in trainval) the first gives the objects; two splits are a fault of the
    # splits.
    record.sets |= {split} if split else set()


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _key(row: dict[str, Any], name: str) -> int | str | None:
    """An id; None where it is missing or can be none."""
    value = row.get(name)
    return value if isinstance(value, int | str) else None


def _locate(name: str, path: str, images_of: dict[str, list[str]]) -> list[str]:
    """Files that `file_name` can mean: below the JSON's folder, else nearest to it; folders in the name must match."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    wanted = tuple(parts)
    same_stem = images_of.get(stem(wanted[-1]), []) if wanted else []
    found = [image for image in same_stem if PurePosixPath(image).parts[-len(wanted) :] == wanted]
    if not found:  # Exporters write the folders of the machine on which the labelling was done.
        found = [image for image in same_stem if PurePosixPath(image).name == wanted[-1]]
    if len(found) > 1 and (split := set_of_file(path)):
        found = [image for image in found if set_of_folder(image) == split] or found
    return nearest(path, found)


def _item(
    row: dict[str, Any], number: int, where: str, categories: dict[int | str | None, str], faults: list[Fault]
) -> Item | None:
    """The object, or None and a fault. A missing iscrowd is 0; area and segmentation are not used."""
    name = categories.get(_key(row, "category_id"))
    if name is None:
        faults.append(
            Fault(
                "undeclared category",
                where,
                f"category_id {row.get('category_id')!r} is not declared",
                f"{dict(list(categories.items())[:20])}",
                _LENIENT,
            )
        )
        return None
    box = row.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        faults.append(
            Fault("object without box", where, f"bbox is {box!r}", "[x, y, width, height]", _LENIENT)
        )
        return None
    if not all(isinstance(side, int | float) and not isinstance(side, bool) for side in box):
        faults.append(Fault("not a number", where, f"bbox is {box!r}", "four numbers", _LENIENT))
        return None
    x, y, width, height = map(float, box)
    if not all(map(math.isfinite, (x, y, width, height))):
        faults.append(Fault("non-finite number", where, f"bbox is {box!r}", "finite numbers", "Fix the file"))
        return None
    if width < 0 or height < 0:
        faults.append(
            Fault("inverted box", where, f"bbox is {box!r}", "width and height of 0 or more", _LENIENT)
        )
        return None
    crowd = row.get("iscrowd", 0)
    if crowd not in (0, 1, None):
        faults.append(Fault("not a flag", where, f"iscrowd is {crowd!r}", "0 or 1", _LENIENT))
    return Item(number, name, (x, y, x + width, y + height), crowd=crowd == 1)
