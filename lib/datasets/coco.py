"""Data sets annotated in COCO's JSON: one file, or one per split.

Annotations of `instances_train2017.json` lie apart from their images in `train2017/`; other exporters put the
file among the images (`train/_annotations.coco.json`). Categories are joined by name, because their numbers
differ between files, have gaps, or are huge. Format: the COCO data page, boxes `[x, y, width, height]`, 0-based.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from lib.datasets.coco_json import load
from lib.datasets.coco_row import item, key_of, place, size
from lib.datasets.listing import Listing, nearest, set_of_file, set_of_folder
from lib.datasets.records import Record, Source, clean
from lib.stage.errors import Fault

_FIX = "Fix the file"
_LENIENT = "Fix the file or set data.faults: lenient"


def read(listing: Listing, paths: list[str], set_of: Callable[[str], str | None] = set_of_file) -> Source:
    """One record per image that the files at `paths` name. Other images are not part of the data set."""
    source, records = Source("coco", []), dict[str, Record]()
    names: dict[str, set[str]] = {}
    images_of = _by_name(listing.images)
    for path in paths:
        split = set_of(path)
        if split:
            source.sets.add(split)
        elif len(paths) > 1:
            problem, allowed = f"tells no split, and there are {len(paths)} files", "train, val or test in its name"
            remedy = "Rename it, move it away, or name the files in data.lists"
            source.faults.append(Fault("split unclear", path, problem, allowed, remedy))
        data = load(listing, path, source.faults)
        if data is not None:
            file = _File(path, split, images_of, records, source.faults)
            names[path] = file.read_categories(data["categories"])
            file.read_images(data["images"])
            file.read_annotations(data["annotations"])
    all_names = set[str]().union(*names.values())
    for path, names_in_file in names.items():
        if names_in_file != all_names:
            problem, allowed = f"lacks {sorted(all_names - names_in_file)}", f"the same names in {', '.join(names)}"
            source.faults.append(Fault("categories differ between files", path, problem, allowed, _LENIENT))
    source.records = list(records.values())
    return source


class _File:
    """Reads one annotation file into `records`, which all files share."""

    def __init__(
        self,
        path: str,
        split: str | None,
        images_of: dict[str, list[str]],
        records: dict[str, Record],
        faults: list[Fault],
    ) -> None:
        self.path, self.split = path, split
        self.images_of, self.records = images_of, records
        self.faults = faults
        self.categories: dict[int | str | None, str] = {}
        self.image_keys: set[int | str | None] = set()
        self.record_of: dict[int | str | None, Record] = {}
        self.used_images: set[str] = set()

    def fault(self, kind: str, what: str, problem: str, allowed: str, remedy: str) -> None:
        self.faults.append(Fault(kind, f"{self.path}, {what}", problem, allowed, remedy))

    def read_categories(self, rows: list[dict[str, Any]]) -> set[str]:
        """Names of the categories."""
        for index, row in enumerate(rows):
            key, name = key_of(row, "id"), clean(str(row.get("name") or ""))
            if key is None or not name or self.categories.get(key, name) != name:
                allowed = "an id of its own and a name"
                what = place("categories", index, row, None)
                self.fault("unreadable JSON", what, f"its name is {name!r}", allowed, _FIX)
            else:
                self.categories[key] = name
        return set(self.categories.values())

    def read_images(self, rows: list[dict[str, Any]]) -> None:
        """A record for each image of the file that exists."""
        self.image_keys = {key_of(row, "id") for row in rows} - {None}
        for index, row in enumerate(rows):
            key, name = key_of(row, "id"), row.get("file_name")
            what = place("images", index, row, name)
            if key is None or not isinstance(name, str):
                problem = f"id is {row.get('id')!r} and file_name {name!r}"
                self.fault("unreadable JSON", what, problem, "an id and a file_name", _FIX)
                continue
            paths = self._locate(name)
            if not paths:
                remedy = "Add the image, or set data.faults: lenient"
                self.fault("listed image missing", what, f"there is no file {name}", "", remedy)
            elif len(paths) > 1:
                problem, remedy = f"{name} could be {' or '.join(paths)}", "Write the folder into file_name"
                self.fault("two images for one annotation", what, problem, "one such file", remedy)
            elif key in self.record_of or paths[0] in self.used_images:
                problem = f"its id or its image {paths[0]} occurs twice"
                self.fault("duplicate image id", what, problem, "each image once", _FIX)
            else:
                self.used_images.add(paths[0])
                self._add(key, paths[0], what, row)

    def _add(self, key: int | str, image_id: str, what: str, row: dict[str, Any]) -> None:
        record = self.records.get(image_id)
        if record is None:
            record = self.record_of[key] = self.records[image_id] = Record(image_id, self.path, what, size(row))
        elif record.sets <= {self.split}:
            problem = f"{record.where} is for {image_id} too"
            self.fault("two annotations for one image", what, problem, "one file", "Remove it from one")
        # Where files overlap (train and trainval) the first gives the objects; two splits are a fault of `splits`.
        record.sets |= {self.split} if self.split else set()

    def _locate(self, name: str) -> list[str]:
        """Images that `file_name` can mean, nearest to the JSON file.

        Its folders have to match if any do: exporters write those of the machine on which the labelling was done.
        The same letters go before another normal form of Unicode, and that before capitals.
        """
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        candidates = self.images_of.get(_folded(parts[-1]), []) if parts else []
        for length in (len(parts), 1):
            for spelling in _SPELLINGS:
                wanted = [*map(spelling, parts[-length:])]
                matches = [
                    image for image in candidates if [*map(spelling, PurePosixPath(image).parts[-length:])] == wanted
                ]
                if len(matches) > 1 and self.split:
                    matches = [image for image in matches if set_of_folder(image) == self.split] or matches
                if matches:
                    return nearest(self.path, matches)
        return []

    def read_annotations(self, rows: list[dict[str, Any]]) -> None:
        """The objects of the file's images, each numbered within its image."""
        numbers = Counter[int | str | None]()
        repeated = Counter(key_of(row, "id") for row in rows)
        for index, row in enumerate(rows):
            key, image_id = key_of(row, "id"), key_of(row, "image_id")
            record = self.record_of.get(image_id)
            if record is None:
                if image_id not in self.image_keys:
                    problem = f"image_id {row.get('image_id')!r} is not among the images"
                    what = place("annotations", index, row, None)
                    self.fault("annotation without image", what, problem, "", _LENIENT)
                continue
            where = f"{self.path}, {place('annotations', index, row, record.image_id)}"
            if key is not None and repeated[key] > 1:
                problem = f"the id occurs {repeated[key]} times"
                record.faults.append(Fault("duplicate annotation id", where, problem, "each id once", _LENIENT))
            if annotated := item(row, numbers[image_id], where, self.categories, record.faults):
                record.items.append(annotated)
            numbers[image_id] += 1


def _folded(name: str) -> str:
    """What names have in common that differ in capitals or in Unicode's normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


_SPELLINGS: tuple[Callable[[str], str], ...] = (str, lambda name: unicodedata.normalize("NFC", name), _folded)


def _by_name(images: Iterable[str]) -> dict[str, list[str]]:
    """Images under each name without folders, `_folded`."""
    images_of: dict[str, list[str]] = defaultdict(list)
    for image in images:
        images_of[_folded(PurePosixPath(image).name)].append(image)
    return images_of
