"""Features of every training region, objects first, then proposals (R-CNN paper §2.3; rcnn_cache_pool5_features.m).

`python -m stages.extract METHOD detector=PAPER model=FILE proposals=TABLE images=FOLDER`: PAPER of lib/detectors; `images` is
data/tables where pixels are read, or a store of SPPnet's maps of them. Writes `data/features/METHOD`: half-precision rows
in a few large shards, and for each image which regions they are, which `train_svm` and `fit_boxes` check.
"""

from importlib import import_module

import numpy as np
from pydantic import Field

from lib.backbones import device
from lib.images.image_set import Photographs, Splits
from lib.parallel.ahead import ahead
from lib.parallel.pool import workers
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import shards, tables
from lib.storage.by_image import ByImage
from stages.schemas import stage


class Extract(Settings):
    """Block `METHOD.extract`.

    batch     : regions in one forward pass;  precision : of the forward passes
    shard_mib : size at which a file is closed and the next begun
    """

    batch: int = Field(ge=1)
    precision: device.Precision
    shard_mib: int = Field(ge=1)


PARAMS = {"splits": Splits, "{item}.extract": Extract, "{item}.difficult": bool}


def main(life: Life) -> None:
    """See the module's docstring."""
    method, settings = life.item, life.params[f"{life.item}.extract"]
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"]
    )
    proposals = ByImage(life.input("proposals"), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    place = device.pick(life.compute.device, settings.precision)
    maps = [] if life.role("images") == "data/tables" else [life.input("images")]
    network = import_module(f"lib.detectors.{life.role('detector')}.network")
    extractor = network.Extractor(life.input("model"), place, settings.batch, *maps)

    row_bytes = 2 * sum(extractor.widths.values())
    rows, digests = zip(*(shards.count(photographs.regions(one, proposals)) for one in photographs.ids), strict=True)
    index = shards.plan(photographs.ids, rows, row_bytes, settings.shard_mib * 2**20).assign(regions=digests)
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
    stage(main, PARAMS)
