"""Features of every training region, objects first, then proposals (R-CNN paper §2.3; rcnn_cache_pool5_features.m).

`python -m stages.extract METHOD MODULE`, MODULE of lib/detectors. Reads the row's model, the tables, the proposals and the images, or SPPnet's maps of them where the row depends on
such a store; writes `data/features/METHOD`: half-precision rows in a few large shards.
"""

from importlib import import_module

import numpy as np
from pydantic import Field

from lib.backbones import device
from lib.images.image_set import Photographs, Splits
from lib.parallel.ahead import ahead
from lib.parallel.pool import workers
from lib.stage import run
from lib.stage.params import Settings
from lib.storage import shards, tables
from lib.storage.by_image import ByImage


class Extract(Settings):
    """Block `METHOD.extract`.

    batch     : regions in one forward pass;  precision : of the forward passes
    shard_mib : size at which a file is closed and the next begun
    """

    batch: int = Field(ge=1)
    precision: device.Precision
    shard_mib: int = Field(ge=1)


PARAMS = {"splits": Splits, "{item}.extract": Extract, "{item}.difficult": bool, "proposals.table": str}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    method, module = life.args
    detectors, settings = import_module(f"lib.detectors.{module}"), life.params[f"{method}.extract"]
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"]
    )
    proposals = ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    place = device.pick(life.compute.device, settings.precision)
    maps = life.deps("_maps")
    extractor = detectors.Extractor(life.deps(".pt")[0], place, settings.batch, *maps)

    rows = [len(photographs.regions(one, proposals)) for one in photographs.ids]
    row_bytes = 2 * sum(extractor.widths.values())
    index = shards.plan(photographs.ids, rows, row_bytes, settings.shard_mib * 2**20)
    life.announce(f"{len(rows)} images, {sum(rows)} regions", disk=sum(rows) * row_bytes)
    writer = shards.Writer(life.scratch / "features", index, extractor.widths)
    done = len(rows) - len(writer.todo)

    def features(image_id: str) -> dict[str, np.ndarray]:
        regions = photographs.regions(image_id, proposals)
        if maps:
            return extractor.features(extractor.recall(image_id, photographs.size(image_id), regions))
        return extractor.features(extractor.prepare(photographs.image(image_id), regions))

    rows_by_image = ahead(features, writer.todo, *place.side_by_side(workers(life.compute)))
    for found in life.progress(rows_by_image, len(rows), "image", done):
        writer.append(found)
    writer.close()
    (life.scratch / "features").rename(life.out(f"data/features/{method}"))


if __name__ == "__main__":
    run.stage(main, PARAMS)
