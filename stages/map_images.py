"""The trunk's feature map of every training image, once per scale (SPPnet §4.1); later stages read windows of it.

Reads SPPnet's classifier, the tables and the images; writes `data/features/spp_maps`, half precision in a few large
shards. Test images are not here: detection passes each through the trunk once, as any image that it never saw.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from lib.backbones.device import Precision, pick_device
from lib.backbones.inference import for_inference
from lib.detectors.spp import network as spp_network
from lib.images.image_set import ImageSet, Splits
from lib.parallel.processes import workers
from lib.pooling import map_store
from lib.pooling.pyramid import compute_map, scaled
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import tables
from stages.schemas import stage

Scales = Annotated[list[int], Field(min_length=1)]


class MapImages(Settings):
    """Block `spp.maps`.

    mirror    : keep the maps of mirrored images too, for fine-tuning (authors: yes)
    precision : of the forward passes;  shard_mib : size at which a file is closed and the next begun
    """

    mirror: bool
    precision: Precision
    shard_mib: int = Field(ge=1)


PARAMS = {"splits": Splits, "spp.scales": Scales, "spp.maps": MapImages}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, scales = life.params["spp.maps"], life.params["spp.scales"]
    device = pick_device(life.compute.device, settings.precision)
    image_set = ImageSet(life.data_root, life.dep("data/tables"), life.params["splits"].train)
    network = spp_network.load(life.input("model"))
    trunk = for_inference(network.backbone.trunk, device)
    layout = map_store.layout(network.backbone.trunk, image_set.table, scales)
    forms = map_store.variants(scales, settings.mirror)
    cells = int((layout["cells_x"] * layout["cells_y"]).sum()) * (1 + settings.mirror)
    life.announce(f"{len(image_set)} images at {scales} pixels", disk=2 * cells * network.backbone.channels)

    folder, total = life.out("data/features/spp_maps"), len(image_set) * len(forms)
    for number, form in enumerate(forms):
        writer = map_store.writer(folder, layout, form, network.backbone.channels, settings.shard_mib * 2**20)

        def pixels_of(image_id: str, form: map_store.Variant = form) -> np.ndarray:
            image = image_set.image(image_id)
            return scaled(np.ascontiguousarray(image[:, ::-1]) if form.mirrored else image, form.scale)

        def cells_of(pixels: np.ndarray) -> np.ndarray:
            feature_map = compute_map(trunk, pixels, network.backbone.recipe, device).values
            return feature_map.reshape(-1, feature_map.shape[2])

        done = number * len(image_set) + len(image_set) - len(writer.todo)
        maps = device.in_order(pixels_of, cells_of, writer.todo, workers(life.compute))
        for cells_of_map in life.progress(maps, total, "map", done):
            writer.append({map_store.NAME: cells_of_map})
        writer.close()
    tables.write(folder / "maps.parquet", layout, map_store.MAPS)


if __name__ == "__main__":
    stage(main, PARAMS)
