"""Features of the training regions, objects first, then proposals (R-CNN paper §2.3; rcnn_cache_pool5_features.m).

`python -m stages.extract METHOD detector=PAPER model=FILE proposals=TABLE images=FOLDER layer=KEY more_than=KEY
norm=KEY`: PAPER of lib/detectors; data/tables where pixels are read, or a store of SPPnet's feature maps of them; which
params say what box regressors read here, the layer of the SVMs where there are none. Writes `data/features/METHOD`: in
half precision the SVMs' layer of all regions, the regressors' of theirs, and a digest of the regions of each image.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Literal

import torch
from pydantic import Field

from lib.backbones.device import Precision, pick_device
from lib.boxes.samples import NormSample, RegressorSample, readers
from lib.images.image_set import ImageSet, ProposalsMax, Splits
from lib.parallel.processes import workers
from lib.stage.params import Seed, Settings
from lib.stage.run import Life
from lib.storage import shards
from stages.schemas import stage

Layer = Literal["pool5", "fc7"]


class Extract(Settings):
    """Block `METHOD.extract`: regions in a forward pass, its precision; size at which a file is closed."""

    batch: int = Field(ge=1)
    precision: Precision
    shard_mib: int = Field(ge=1)


def PARAMS(method: str, layer: str, more_than: str, norm: str, **roles: str) -> Mapping[str, Any]:
    """The params of a row."""
    regressors = {more_than: float, norm: NormSample} if norm != layer else {}
    own = {f"{method}.extract": Extract, f"{method}.difficult": bool, f"{method}.proposals_max": ProposalsMax}
    return {"seed": Seed, "splits": Splits, **own, f"{method}.svm.layer": Layer, layer: Layer, **regressors}


def main(life: Life) -> None:
    """See the module's docstring."""
    method, settings = life.item, life.params[f"{life.item}.extract"]
    image_set = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"]
    )
    proposals = image_set.proposals(life.input("proposals"), life.params[f"{method}.proposals_max"])
    device = pick_device(life.compute.device, settings.precision)
    maps = [] if life.role("images") == "data/tables" else [life.input("images")]
    network = import_module(f"lib.detectors.{life.role('detector')}.network")
    extractor = network.Extractor(life.input("model"), device, settings.batch, *maps)

    layer, more_than, norm = (life.params[life.role(name)] for name in ("layer", "more_than", "norm"))
    of_boxes = life.role("norm") != life.role("layer")
    regressors = {layer: RegressorSample(more_than, norm, life.params["seed"], len(image_set))} if of_boxes else {}
    layers = readers(life.params[f"{method}.svm.layer"], regressors, extractor.widths, method)

    def rows() -> Iterator[shards.Rows]:
        for position, image_id in enumerate(image_set.ids):
            regions, objects = image_set.regions(image_id, proposals), image_set.objects(image_id)[0]
            masks = {layer: sample.mask(position, regions, objects) for layer, sample in layers.items()}
            yield shards.Rows(masks, shards.digest(regions))

    widths = {layer: extractor.widths[layer] for layer in layers}
    index = shards.plan(image_set.ids, rows(), widths, settings.shard_mib * 2**20)
    disk = shards.size(index, widths)
    parts = "".join(f", {layer} {size / 2**20:,.0f} MiB" for layer, size in disk.items())
    writer = shards.Writer(life.out(f"data/features/{method}"), index, widths)
    left = shards.size(index[index["image_id"].isin(writer.todo)], widths)
    life.announce(f"{len(index)} images, {index['rows'].sum()} regions{parts}", disk=sum(left.values()))

    def prepare(image_id: str) -> Any:
        regions = image_set.regions(image_id, proposals)
        if maps:
            return extractor.recall(image_id, image_set.size(image_id), regions)
        return extractor.prepare(image_set.image(image_id), regions)

    results = device.in_order(
        prepare, lambda ready: extractor.features(ready, torch.float16), writer.todo, workers(life.compute)
    )
    for image_features in life.progress(results, len(index), "image", len(index) - len(writer.todo)):
        writer.append(image_features)
    writer.close()


if __name__ == "__main__":
    stage(main, PARAMS)
