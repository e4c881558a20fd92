"""SPPnet's fine-tuning: fc6, fc7 and an (N+1)-way softmax on windows of the cached maps, 32 + 96 a batch (SPPnet §4.1).

Reads SPPnet's classifier, the maps, the tables and the proposals, but no image; writes `data/models/spp/cnn.pt` and the
curve of the loss. With `iterations: 0` fc6 and fc7 stay as they were, which is the paper's row without fine-tuning.
"""

from collections.abc import Iterable, Iterator

import torch

from lib.backbones import device
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.finetune import Batches, FineTune, pools
from lib.images.image_set import Photographs, Splits
from lib.pooling.map_store import MapStore
from lib.pooling.pyramid import Window
from lib.stage import run
from lib.stage.params import Seed
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.training import loop as training

PARAMS = {
    "seed": Seed, "splits": Splits, "spp.window": Window, "spp.difficult": bool, "spp.finetune": FineTune,
    "proposals.table": str,
}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    settings, seed = life.params["spp.finetune"], life.params["seed"]
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params["spp.difficult"]
    )
    proposals = ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    maps = MapStore(life.dep("data/features/spp_maps"))
    maps.require_mirrored(settings.mirror)
    windows = pools(photographs, proposals, settings)
    life.announce(f"{settings.iterations} iterations of {settings.batch} windows at {maps.scales} pixels; "
                  f"{len(windows[0])} foreground and {len(windows[1])} background windows")

    torch.manual_seed(seed)
    start = spp_network.load(life.dep("data/models/spp/net.pt"))
    network = spp_network.for_detection(start, photographs.classes, maps.scales, life.params["spp.window"])
    place = device.pick(life.compute.device, settings.precision, training=True)
    batches = Batches(network, maps, photographs, windows, settings, seed, life.name, place)

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        return life.progress(todo, settings.iterations, "batch", done)

    head = network.head
    log = training.train(head, [head.classifier], batches, batches.losses, settings, place, seed, life.name, life.scratch,
                         progress)
    spp_network.save(life.out("data/models/spp/cnn.pt"), network)
    tables.write_json(life.out("results/plots/loss/spp_finetune.json"), log)


if __name__ == "__main__":
    run.stage(main, PARAMS)
