"""Data sets annotated in COCO's JSON: one file, or one per split.

Annotations of `instances_train2017.json` lie apart from their images in `train2017/`; other exporters put the
file among the images (`train/_annotations.coco.json`). Categories are joined by name, because their numbers
differ between files, have gaps, or are huge. Format: the COCO data page, boxes `[x, y, width, height]`, 0-based.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from lib.datasets.coco_json import load
from lib.datasets.coco_row import item, key_of, size
from lib.datasets.listing import Listing, by_stem, nearest, set_of_file, set_of_folder, stem
from lib.datasets.records import Record, Source, clean
from lib.stage.errors import Fault

_FIX = "Fix the file"
_LENIENT = "Fix the file or set data.faults: lenient"


def read(listing: Listing, paths: list[str], set_of: Callable[[str], str | None] = set_of_file) -> Source:
    """One record per image that the files at `paths` name. Other images are not part of the data set."""
    source, records = Source("coco", []), dict[str, Record]()
    names: dict[str, set[str]] = {}
    images_of = by_stem(listing.images)
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
        for row in rows:
            key, name = key_of(row, "id"), clean(str(row.get("name") or ""))
            if key is None or not name or self.categories.get(key, name) != name:
                allowed = "an id of its own and a name"
                self.fault("unreadable JSON", f"category {row.get('id')!r}", f"its name is {name!r}", allowed, _FIX)
            else:
                self.categories[key] = name
        return set(self.categories.values())

    def read_images(self, rows: list[dict[str, Any]]) -> None:
        """A record for each image of the file that exists."""
        self.image_keys = {key_of(row, "id") for row in rows} - {None}
        for row in rows:
            key, name = key_of(row, "id"), row.get("file_name")
            what = f"image {row.get('id')!r}"
            if key is None or not isinstance(name, str):
                self.fault("unreadable JSON", what, f"file_name is {name!r}", "an id and a file_name", _FIX)
                continue
            paths = self._locate(name)
            if not paths:
                remedy = "Add the image, or set data.faults: lenient"
                self.fault("listed image missing", what, f"there is no file {name}", "", remedy)
            elif len(paths) > 1:
                problem, remedy = f"{name} could be {' or '.join(paths)}", "Write the folder into file_name"
                self.fault("two images for one annotation", what, problem, "one such file", remedy)
            elif key in self.record_of or paths[0] in self.used_images:
                self.fault("duplicate image id", what, f"{name} or its id occurs twice", "each image once", _FIX)
            else:
                self.used_images.add(paths[0])
                self._add(key, paths[0], row)

    def _add(self, key: int | str, image_id: str, row: dict[str, Any]) -> None:
        record = self.records.get(image_id)
        if record is None:
            record = self.record_of[key] = self.records[image_id] = Record(image_id, self.path, size(row))
        elif record.sets <= {self.split}:
            problem = f"{record.annotation} is for {image_id} too"
            self.fault("two annotations for one image", f"image {key!r}", problem, "one file", "Remove it from one")
        # Where files overlap (train and trainval) the first gives the objects; two splits are a fault of `splits`.
        record.sets |= {self.split} if self.split else set()

    def _locate(self, name: str) -> list[str]:
        """Images that `file_name` can mean, nearest to the JSON file; its folders have to match if any do."""
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
        same_stem = self.images_of.get(stem(parts[-1]), []) if parts else []
        matches = [image for image in same_stem if PurePosixPath(image).parts[-len(parts) :] == parts]
        if not matches:  # Exporters write the folders of the machine on which the labelling was done.
            matches = [image for image in same_stem if PurePosixPath(image).name == parts[-1]]
        if len(matches) > 1 and self.split:
            matches = [image for image in matches if set_of_folder(image) == self.split] or matches
        return nearest(self.path, matches)

    def read_annotations(self, rows: list[dict[str, Any]]) -> None:
        """The objects of the file's images, each numbered within its image."""
        numbers = Counter[int | str | None]()
        repeated = Counter(key_of(row, "id") for row in rows)
        for row in rows:
            key, image_id = key_of(row, "id"), key_of(row, "image_id")
            record = self.record_of.get(image_id)
            if record is None:
                if image_id not in self.image_keys:
                    problem = f"image_id {row.get('image_id')!r} is not among the images"
                    self.fault("annotation without image", f"annotation {key!r}", problem, "", _LENIENT)
                continue
            where = f"{self.path}, annotation {key!r} ({record.image_id})"
            if key is not None and repeated[key] > 1:
                problem = f"the id occurs {repeated[key]} times"
                record.faults.append(Fault("duplicate annotation id", where, problem, "each id once", _LENIENT))
            if annotated := item(row, numbers[image_id], where, self.categories, record.faults):
                record.items.append(annotated)
            numbers[image_id] += 1
