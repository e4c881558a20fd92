"""Features of every training region, objects first, then proposals (R-CNN paper §2.3; rcnn_cache_pool5_features.m).

`python -m stages.extract METHOD detector=PAPER model=FILE proposals=TABLE images=FOLDER`: PAPER of lib/detectors;
`images` is data/tables where pixels are read, or a store of SPPnet's feature maps of them. Writes
`data/features/METHOD`: half-precision rows in a few large shards, and for each image a digest of its regions, which
`train_svm` and `fit_boxes` check.
"""

from importlib import import_module

import numpy as np
from pydantic import Field

from lib.backbones.device import Precision, pick_device
from lib.images.image_set import ImageSet, Splits
from lib.parallel.ahead import ahead
from lib.parallel.processes import workers
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import shards
from stages.schemas import stage


class Extract(Settings):
    """Block `METHOD.extract`.

    batch     : regions in one forward pass;  precision : of the forward passes
    shard_mib : size at which a file is closed and the next begun
    """

    batch: int = Field(ge=1)
    precision: Precision
    shard_mib: int = Field(ge=1)


PARAMS = {"splits": Splits, "{item}.extract": Extract, "{item}.difficult": bool}


def main(life: Life) -> None:
    """See the module's docstring."""
    method, settings = life.item, life.params[f"{life.item}.extract"]
    image_set = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"]
    )
    proposals = image_set.proposals(life.input("proposals"))
    device = pick_device(life.compute.device, settings.precision)
    maps = [] if life.role("images") == "data/tables" else [life.input("images")]
    network = import_module(f"lib.detectors.{life.role('detector')}.network")
    extractor = network.Extractor(life.input("model"), device, settings.batch, *maps)

    row_bytes = 2 * sum(extractor.widths.values())
    counts = (shards.count(image_set.regions(image_id, proposals)) for image_id in image_set.ids)
    rows, digests = zip(*counts, strict=True)
    index = shards.plan(image_set.ids, rows, row_bytes, settings.shard_mib * 2**20).assign(regions=digests)
    life.announce(f"{len(rows)} images, {sum(rows)} regions", disk=sum(rows) * row_bytes)
    writer = shards.Writer(life.scratch / "features", index, extractor.widths)
    done = len(rows) - len(writer.todo)

    def features(image_id: str) -> dict[str, np.ndarray]:
        regions = image_set.regions(image_id, proposals)
        if maps:
            return extractor.features(extractor.recall(image_id, image_set.size(image_id), regions))
        return extractor.features(extractor.prepare(image_set.image(image_id), regions))

    results = ahead(features, writer.todo, *device.side_by_side(workers(life.compute)))
    for image_features in life.progress(results, len(rows), "image", done):
        writer.append(image_features)
    writer.close()
    (life.scratch / "features").rename(life.out(f"data/features/{method}"))


if __name__ == "__main__":
    stage(main, PARAMS)
