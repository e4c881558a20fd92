"""The settings under which a data set is read: the block `data` of params.yaml, without the root itself."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from lib.datasets.layout import Format
from lib.datasets.records import clean
from lib.datasets.splits import TestFrom
from lib.datasets.voc_xml import Origin
from lib.stage.params import Settings


class Lists(Settings):
    """Names of the data set's split lists: the end of a path without its extension. All None: called after the sets."""

    train: str | None = None
    val: str | None = None
    test: str | None = None


class DataSettings(Settings):
    """How a data set is read.

    format        : auto looks at the files
    classes       : in the order of the labels; None: all that occur, sorted
    box_origin    : VOC only. 1: first pixel is 1; 0: first pixel is 0; half-open: edges, 0 to the width
    faults        : strict stops at any fault, lenient repairs or leaves out
    min_box_size  : pixels; objects with a smaller side are left out
    max_pixels    : width x height above which an image is refused before decoding
    splits        : lists follows the data set's lists or folders if it has any; hash makes all splits
    lists         : of VOC (t1_train is ImageSets/Main/t1_train.txt) or COCO (the annotation file); where any is
                    named, only those are read, and a val that is not named is made of train by the hash
    test_from     : where lists have no test: lists (an error), or hash
    val_fraction, test_fraction : shares of the images where the hash makes splits
    seed          : of the hash
    """

    format: Format = "auto"
    classes: list[str] | None = None
    box_origin: Origin = 1
    faults: Literal["strict", "lenient"] = "strict"
    min_box_size: float = Field(default=2, ge=0)
    max_pixels: int = Field(default=100_000_000, gt=0)
    splits: Literal["lists", "hash"] = "lists"
    lists: Lists = Lists()
    test_from: TestFrom = "lists"
    val_fraction: float = Field(default=0.2, ge=0, le=1)
    test_fraction: float = Field(default=0.2, ge=0, le=1)
    seed: int = 0

    @property
    def followed(self) -> dict[str, str] | None:
        """Name of each set's list as far as `lists` tells; None where lists are not followed."""
        return self.lists.model_dump(exclude_none=True) if self.splits == "lists" else None

    @field_validator("classes")
    @classmethod
    def _clean_names(cls, names: list[str] | None) -> list[str] | None:
        cleaned = [clean(name) for name in names or []]
        if names is not None and (not all(cleaned) or len(set(cleaned)) < len(cleaned) or not cleaned):
            raise ValueError("a list of names, none empty, none twice; null for all classes found")
        return None if names is None else cleaned

    @field_validator("lists")
    @classmethod
    def _names(cls, lists: Lists) -> Lists:
        if not all(name.strip("/ ") for name in lists.model_dump(exclude_none=True).values()):
            raise ValueError("names of split lists, none empty; null for none")
        return lists

    @model_validator(mode="after")
    def _fractions(self) -> "DataSettings":
        if self.val_fraction + self.test_fraction > 1:
            raise ValueError("val_fraction and test_fraction with a sum of at most 1")
        return self

    @model_validator(mode="after")
    def _lists_are_followed(self) -> "DataSettings":
        if self.splits == "hash" and self.lists != Lists():
            raise ValueError("either names in lists or splits: hash, which reads no list")
        return self
