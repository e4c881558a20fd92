"""A window for each class, objects warped to it, and random windows besides (voc-dpm, model/root_model.m, warppos.m).

Reads the tables and the images; writes `data/models/hog/windows.pt`, and how well the windows fit the objects.
"""

import numpy as np
import torch

from lib.detectors.hog.features import Descriptor
from lib.detectors.hog.network import Windows
from lib.detectors.hog.occupied import Occupied
from lib.detectors.hog.pyramid import Pyramid
from lib.detectors.hog.samples import Collection
from lib.detectors.hog.windows import WindowSettings
from lib.images.image_set import ImageSet, Splits
from lib.stage.memory import require_memory
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import checkpoint, tables
from stages.schemas import stage

PARAMS = {
    "seed": Seed, "splits": Splits, "hog.descriptor": Descriptor, "hog.pyramid": Pyramid,
    "hog.windows": WindowSettings, "hog.difficult": bool,
}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, seed = life.params["hog.windows"], life.params["seed"]
    descriptor, pyramid = life.params["hog.descriptor"], life.params["hog.pyramid"]
    images = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params["hog.difficult"]
    )
    occupied = Occupied.read(life.dep("data/tables"), images.ids, images.classes)
    collected = Collection(images, occupied, descriptor, pyramid, settings)
    model = Windows(images.classes, descriptor, pyramid, collected.templates)
    life.announce(f"{len(images)} images, {len(model.templates)} templates", memory=collected.memory)
    require_memory(collected.memory, life.compute.memory_gib * 2**30, life.name, "hog.windows.copies")
    rows = collected.fit()
    for note in model.notes:
        print(f"note: {note}", flush=True)
    for row, name in zip(rows, model.names, strict=True):
        row["template"] = name
        if row["fits"] < row["objects"]:
            print(f"WARNING: {life.name}: {name}: no window has an IoU of 0.5 with {row['objects'] - row['fits']} of "
                  f"{row['objects']} objects: raise hog.pyramid.upscale or hog.windows.components, or lower "
                  "hog.windows.cells", flush=True)
        if not row["positives"]:
            print(f"note: {name}: hog.windows.smallest leaves out all of its {row['objects']} objects.", flush=True)
    for number in life.progress(range(len(images)), len(images), "image"):
        collected.add(number, np.random.default_rng((seed, number)))
    samples = {name: [torch.from_numpy(part) for part in parts] for name, parts in collected.samples().items()}
    contents = {**model.sections(), "occupied": occupied.sections(), "objects": collected.objects, **samples}
    checkpoint.save(life.out("data/models/hog/windows.pt"), contents)
    tables.write_json(life.out("results/plots/windows/hog.json"), rows)


if __name__ == "__main__":
    stage(main, PARAMS)
