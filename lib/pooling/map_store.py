"""The trunk's maps of whole images on disk: computed once per image and scale, then read by window (SPPnet §4.1).

A store is a folder: one `shards` store per scale, and per scale mirrored where mirrored images are kept too, whose rows
are the cells of an image in row-major order; and `maps.parquet`, which says where the cells lie.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import nn

from lib.pooling.pyramid import Axis, Map, axis, scaled_sides
from lib.stage.errors import Fault, InputError
from lib.storage import shards, tables

NAME = "map"
MAPS = pa.schema(
    [
        ("image_id", pa.string()),
        ("scale", pa.int32()),
        *((f"{what}_{side}", kind) for side in "xy" for what, kind in (("cells", pa.int32()), ("first", pa.float64()))),
        ("stride", pa.int32()),
    ]
)


class Variant(NamedTuple):
    """One of the forms in which each image is kept: its shorter side in pixels, and whether it is mirrored."""

    scale: int
    mirrored: bool

    @property
    def folder(self) -> str:
        """Name of its shards inside the store."""
        return f"{self.scale}-mirrored" if self.mirrored else str(self.scale)


def variants(scales: Sequence[int], mirrored: bool) -> list[Variant]:
    """All forms, in the order in which they are computed."""
    return [Variant(scale, flipped) for flipped in ((False, True) if mirrored else (False,)) for scale in scales]


def layout(trunk: nn.Module, images: pd.DataFrame, scales: Sequence[int]) -> pd.DataFrame:
    """A frame of schema `MAPS`, image by image; a mirrored image has the axes of the original.

    images : with image_id, width and height in pixels
    """
    axes: dict[int, Axis] = {}
    records = []
    for scale in scales:
        for row in images.itertuples(index=False):
            x, y = (axes.setdefault(side, axis(trunk, side)) for side in scaled_sides(row.width, row.height, scale))
            records.append((row.image_id, scale, x.cells, x.first, y.cells, y.first, x.stride))
    return pd.DataFrame(records, columns=MAPS.names)


def writer(folder: Path, maps: pd.DataFrame, variant: Variant, channels: int, shard_bytes: int) -> shards.Writer:
    """The writer of one form of all images; give it `{NAME: cells}` for each image of its `todo`."""
    rows = maps[maps["scale"] == variant.scale]
    all_cells = (shards.Rows({NAME: np.ones(cells, bool)}) for cells in rows["cells_x"] * rows["cells_y"])
    index = shards.plan(rows["image_id"].tolist(), all_cells, {NAME: channels}, shard_bytes)
    return shards.Writer(folder / variant.folder, index, {NAME: channels})


class MapStore:
    """Reads a store; a map's cells stay on disk until they are read. Threads may share a store."""

    def __init__(self, folder: Path) -> None:
        self._maps = {
            (row.image_id, row.scale): (
                Axis(row.cells_x, row.first_x, row.stride), Axis(row.cells_y, row.first_y, row.stride)
            )
            for row in tables.read(folder / "maps.parquet", MAPS).itertuples(index=False)
        }
        self.scales = list(dict.fromkeys(scale for _, scale in self._maps))
        stored = [variant for variant in variants(self.scales, True) if (folder / variant.folder).exists()]
        self._shards = {variant: shards.Reader(folder / variant.folder) for variant in stored}
        self.mirrored = any(variant.mirrored for variant in stored)

    def require_mirrored(self, probability: float) -> None:
        """Raises InputError if mirrored windows are to be sampled and the store holds no mirrored maps."""
        if probability and not self.mirrored:
            raise InputError(
                [Fault("no mirrored maps", "params.yaml: spp.finetune.mirror",
                       f"is {probability}, but spp.maps.mirror is false",
                       "0, or above 0 with spp.maps.mirror: true", "Change one of them")]
            )

    def __contains__(self, image_id: str) -> bool:
        return (image_id, self.scales[0]) in self._maps

    def map(self, image_id: str, scale: int, mirrored: bool = False) -> Map:
        """The map of an image; KeyError where the store has none."""
        x, y = self._maps[image_id, scale]
        rows = self._shards[Variant(scale, mirrored)].view(NAME, image_id)
        return Map(np.asarray(rows).reshape(y.cells, x.cells, -1), x, y)
