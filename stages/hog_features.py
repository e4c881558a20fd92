"""The descriptors of the training images at all sizes, once (Dalal and Triggs §6; voc-dpm, features/featpyramid.m).

Reads the tables and the images; writes `data/features/hog`, half precision in a few large shards. Test images are not
here: detection describes each once.
"""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from lib.detectors.hog import pyramid
from lib.detectors.hog.features import Descriptor
from lib.images.image_set import ImageSet, Splits
from lib.parallel.ahead import ahead
from lib.parallel.processes import workers
from lib.stage.memory import require_memory
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import shards
from stages.schemas import stage


class Features(Settings):
    """Block `hog.features`: size at which a file is closed and the next begun."""

    shard_mib: int = Field(ge=1)


PARAMS = {"splits": Splits, "hog.descriptor": Descriptor, "hog.pyramid": pyramid.Pyramid, "hog.features": Features}


def main(life: Life) -> None:
    """See the module's docstring."""
    descriptor, sizes = life.params["hog.descriptor"], life.params["hog.pyramid"]
    images = ImageSet(life.data_root, life.dep("data/tables"), life.params["splits"].train)
    levels = {image_id: sizes.levels(*images.size(image_id), descriptor) for image_id in images.ids}
    widths = {pyramid.NAME: descriptor.width}

    def rows() -> Iterator[shards.Rows]:
        for image_id in images.ids:
            places = sum(level.rows * level.columns for level in levels[image_id])
            yield shards.Rows({pyramid.NAME: np.ones(places, bool)})

    index = shards.plan(images.ids, rows(), widths, life.params["hog.features"].shard_mib * 2**20)
    writer = shards.Writer(life.out("data/features/hog"), index, widths)
    threads = workers(life.compute)
    memory = (threads + 1) * max(pyramid.memory(levels[image_id], descriptor) for image_id in images.ids)
    left = shards.size(index[index["image_id"].isin(writer.todo)], widths)
    life.announce(f"{len(images)} images, {index['rows'].sum()} places of {descriptor.width} features",
                  disk=left[pyramid.NAME], memory=memory)
    require_memory(memory, life.compute.memory_gib * 2**30, life.name, "hog.pyramid.upscale or compute.workers")

    def describe(image_id: str) -> np.ndarray:
        ends = np.cumsum([0, *(level.rows * level.columns for level in levels[image_id])])
        every = np.empty((ends[-1], descriptor.width), np.float16)
        described = pyramid.describe(images.image(image_id), levels[image_id], descriptor)
        for first, end, places in zip(ends[:-1], ends[1:], described, strict=True):
            every[first:end] = places.reshape(-1, descriptor.width)
        return every

    done = len(index) - len(writer.todo)
    places = ahead(describe, writer.todo, threads)
    for image_places in life.progress(places, len(index), "image", done):
        writer.append({pyramid.NAME: image_places})
    writer.close()


if __name__ == "__main__":
    stage(main, PARAMS)
