"""The images of some splits with their objects, as every later stage sees them: by key, checked against `prepare`."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from lib.boxes.boxes import Boxes
from lib.images.decode import Image, content_of, decode, read_bytes
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings, Split
from lib.storage import bounds, tables
from lib.storage.by_image import ByImage

SPLITS = ("train", "val", "test")
ProposalsMax = Annotated[int, Field(ge=1)] | None  # proposals of an image that a method uses, its first; None: all


class Splits(Settings):
    """Which splits are for training and which for the final figures, never both.

    train : VOC's trainval is [train, val]; hold val out to choose params on it: train [train], test [val]
    """

    train: list[Split] = Field(min_length=1)
    test: list[Split] = Field(min_length=1)

    @model_validator(mode="after")
    def _apart(self) -> "Splits":
        if both := sorted(set(self.train) & set(self.test)):
            raise ValueError(f"train and test without a common split; {', '.join(both)} is in both")
        return self


def open_image(root: str, image_id: str, content: str, transpose: bool) -> Image:
    """uint8 (H, W, 3) RGB, as `images.read_image`. Raises InputError where the file's hash is not `content`."""
    data = read_bytes(root, image_id)
    if content_of(data) != content:
        raise InputError([Fault("changed image", image_id, "is not the file that prepare read", "", "Run: dvc repro")])
    return decode(data, image_id, transpose)


class ImageSet:
    """Images and objects of some splits.

    root        : the data root, under which image_id is a path
    folder      : with images.parquet, objects.parquet, classes.json
    splits      : names of splits, all where empty
    difficult   : keep objects marked difficult (R-CNN, SPPnet and Fast R-CNN train on them)
    cache_bytes : decoded images kept in memory, most recent ones

    ids, classes : image keys in the table's order; class names, whose positions are the labels from 0
    """

    def __init__(
        self, root: str, folder: Path, splits: Sequence[str] = (), difficult: bool = True, cache_bytes: int = 0
    ) -> None:
        images = tables.read(folder / "images.parquet", tables.IMAGES)
        if splits:
            images = images[images["split"].isin(splits)]
        if images.empty:
            remedy = "Change splits in params.yaml, or the split lists of the data"
            raise InputError(
                [Fault("empty split", str(folder / "images.parquet"), f"has no images in {list(splits)}",
                       f"splits with images, of {SPLITS}", remedy)]
            )
        self.root = Path(root)
        self.table = images.reset_index(drop=True)
        self.ids: list[str] = self.table["image_id"].tolist()
        self.classes = tables.read_names(folder / "classes.json")
        self._rows = {row.image_id: row for row in self.table.itertuples(index=False)}
        objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
        objects = objects[objects["image_id"].isin(self.ids) & ~objects["crowd"]]
        if not difficult:
            objects = objects[~objects["difficult"]]
        self._objects = tables.groups(objects)
        self._cache: OrderedDict[str, Image] = OrderedDict()
        self._cache_bytes, self._cached = cache_bytes, 0

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, image_id: str) -> tuple[int, int]:
        """Width and height of the decoded image."""
        row = self._rows[image_id]
        return int(row.width), int(row.height)

    def image(self, image_id: str) -> Image:
        """uint8 (H, W, 3) RGB; see `open_image`."""
        if image_id in self._cache:
            self._cache.move_to_end(image_id)
            return self._cache[image_id]
        image = open_image(*self.address(image_id))
        if self._cache_bytes:
            self._cache[image_id] = image
            self._cached += image.nbytes
            while self._cached > self._cache_bytes:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        return image

    def address(self, image_id: str) -> tuple[str, str, str, bool]:
        """The arguments of `open_image`, plain values that another process can take."""
        row = self._rows[image_id]
        return str(self.root), image_id, str(row.content), bool(row.transpose)

    def objects(self, image_id: str) -> tuple[Boxes, NDArray[np.int64]]:
        """Boxes float32 (K, 4) and labels int64 (K,) from 0. Crowd regions are never among them; K may be 0."""
        rows = self._objects.get(image_id)
        if rows is None:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        labels = [self.classes.index(name) for name in rows["class"]]
        return tables.boxes(rows), np.array(labels, np.int64)

    def proposals(self, path: Path, most: ProposalsMax = None) -> ByImage:
        """A table of proposals for these images, this pipeline's or another's, of each image its first `most`.

        Raises InputError where it lacks one of them, or a box has no area or is not in its image.
        """
        table = ByImage(path, tables.PROPOSALS, most)
        table.require(self.ids, "Run: dvc repro")
        bounds.check(path, self.table)
        return table

    def regions(self, image_id: str, proposals: ByImage) -> Boxes:
        """float32 (K + P, 4): the image's objects, then its proposals, as features are stored."""
        return np.concatenate([self.objects(image_id)[0], proposals.boxes(image_id)])
