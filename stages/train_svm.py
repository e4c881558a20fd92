"""One linear SVM per class by hard-negative mining on the cached features (R-CNN paper §2.3 and appendix B).

Reads the features of the method, the tables and the proposals; writes `data/models/METHOD/svm.pt` and the counts of
mined negatives.
"""

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from lib.boxes.boxes import class_overlaps
from lib.boxes.samples import NormSample
from lib.images.image_set import ImageSet, ProposalsMax, Splits
from lib.linear import files as linear
from lib.linear import svm
from lib.linear.feature_norm import measure
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import checkpoint, shards, tables
from stages.schemas import stage


class Svm(svm.SvmSettings):
    """Block `METHOD.svm`: the mining, and

    layer            : whose features the SVMs see
    norm             : what the features are scaled to, and on which sample that is measured
    checkpoint_every : images between checkpoints, from which a killed run resumes
    """

    layer: Literal["pool5", "fc7"]
    norm: NormSample
    checkpoint_every: int = Field(ge=1)


PARAMS = {"seed": Seed, "splits": Splits, "{item}.svm": Svm, "{item}.difficult": bool,
          "{item}.proposals_max": ProposalsMax}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, seed = life.params[f"{life.item}.svm"], life.params["seed"]
    image_set = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{life.item}.difficult"]
    )
    proposals = image_set.proposals(life.input("proposals"), life.params[f"{life.item}.proposals_max"])
    features = shards.Reader(life.input("features"))
    objects = {image_id: image_set.objects(image_id) for image_id in image_set.ids}
    for image_id in image_set.ids:
        features.check(image_id, image_set.regions(image_id, proposals))
    counts = np.bincount(np.concatenate([labels for _, labels in objects.values()]), minlength=len(image_set.classes))
    regions = [features.rows(image_id) for image_id in image_set.ids]
    negatives = min(settings.max_negatives, sum(regions))
    need = svm.mining_bytes(counts.sum(), counts.max(), negatives, negatives, features.width(settings.layer))
    life.announce(f"{len(image_set)} images, {len(image_set.classes)} classes, features {settings.layer}, "
                  f"{negatives} negatives of a class at most", memory=need)
    limit = int(life.compute.memory_gib * 2**30)
    svm.require_memory(need, limit, life.name)
    read = partial(features.read, settings.layer)
    scale = measure(lambda image, rows: read(image_set.ids[image], rows), regions, settings.norm, seed)

    rows = {image_id: slice(len(labels)) for image_id, (_, labels) in objects.items()}
    parts = ((objects[image_id][1], read(image_id, own) * np.float32(scale)) for image_id, own in rows.items())
    miner = svm.Miner(image_set.classes, svm.by_class(image_set.classes, parts), settings, seed, limit)
    state, done = life.scratch / "state.pt", 0
    if state.exists():
        saved = checkpoint.load(state, "done", "miner")
        done = saved["done"]
        miner.load_state_dict({name: value.numpy() for name, value in saved["miner"].items()})
    for position, image_id in enumerate(life.progress(image_set.ids[done:], len(image_set), "image", done), done):
        boxes = image_set.regions(image_id, proposals)
        overlaps = class_overlaps(boxes, *objects[image_id], len(image_set.classes))
        miner.add_image(position, read(image_id) * np.float32(scale), overlaps, last=position + 1 == len(image_set))
        if (position + 1) % settings.checkpoint_every == 0:
            tensors = {name: torch.from_numpy(value) for name, value in miner.state_dict().items()}
            checkpoint.save(state, {"done": position + 1, "miner": tensors})
    for note in miner.notes:
        print(f"note: {note}", flush=True)
    linear.save_classifiers(
        life.out(life.role("makes")), image_set.classes, settings.layer, scale,
        miner.weights, miner.bias, miner.trained, miner.notes,
    )
    tables.write_json(life.out(f"results/plots/mining/{life.item}.json"), miner.log_rows())


if __name__ == "__main__":
    stage(main, PARAMS)
