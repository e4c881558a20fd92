"""Proposals of a trained region proposal network, with their recall on the test split (Faster R-CNN §3.2, §4.1).

`python -m stages.propose_rpn BLOCK NAME model=FILE`, for example `faster.propose p1`: writes
data/proposals/NAME.parquet, of the images that `splits` uses, metrics and curves; and the rows of the training images
once more, NAME_training.parquet, which trainings read: another number of boxes at test does not change those bytes.
Mirrored images reuse the boxes of the plain ones, mirrored, as in the authors' Python code.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lib.backbones.device import Precision, pick_device
from lib.detectors.faster import network as faster
from lib.detectors.faster.rpn import Proposing
from lib.images.image_set import ImageSet, Splits
from lib.parallel.clock import Clock
from lib.parallel.processes import workers
from lib.proposals import cached, recall
from lib.stage.errors import at
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage


class Propose(Settings):
    """Block `faster.propose`.

    training  : which boxes become proposals in the training splits (authors: all before NMS, 2000 after it)
    test      : the same in the test splits (6000, 300);  precision : of the forward passes
    """

    training: Proposing
    test: Proposing
    precision: Precision


def PARAMS(block: str, name: str, **inputs: str) -> Mapping[str, Any]:
    """The params of a row."""
    return {"splits": Splits, block: Propose}


def main(life: Life) -> None:
    """See the module's docstring."""
    (block, name), tables_folder = life.entry.words, life.dep("data/tables")
    settings, splits = life.params[block], life.params["splits"]
    device = pick_device(life.compute.device, settings.precision)
    image_set = ImageSet(life.data_root, tables_folder, [*splits.train, *splits.test])
    training_ids = set(ImageSet(life.data_root, tables_folder, splits.train).ids)
    proposer = faster.ImageProposer(life.input("model"), device, Clock())

    def prepare(image_id: str) -> tuple[str, faster.ImageInput, float]:
        start = time.perf_counter()
        return image_id, proposer.prepare(image_set.image(image_id)), time.perf_counter() - start

    def propose(image_id: str, prepared: faster.ImageInput, seconds: float) -> cached.Found:
        start = time.perf_counter()
        with at(image_id):
            boxes, scores = proposer(prepared, settings.training if image_id in training_ids else settings.test)
        return cached.Found(image_id, boxes, scores, seconds + time.perf_counter() - start)

    def search(missing: Sequence[str]) -> Iterator[cached.Found]:
        life.announce(f"{len(image_set)} images, {len(training_ids)} of them for training")
        results = device.in_order(prepare, lambda ready: propose(*ready), missing, workers(life.compute))
        yield from life.progress(results, len(image_set), "image", len(image_set) - len(missing))

    target = life.out(f"data/proposals/{name}.parquet")
    # No digest of the settings: the name of the scratch folder holds all that decides the rows.
    keys = {image_id: cached.key(image_id, name) for image_id in image_set.ids}
    seconds = cached.update(target, keys, None, life.scratch / "pieces", search)
    milliseconds = 1000 * fmean(seconds.values()) if seconds else None
    tables.write_json(life.out(f"results/speed/{name}.json"), {"proposals": milliseconds})

    table = ByImage(target, cached.SCHEMA)
    test = ImageSet(life.data_root, tables_folder, splits.test, difficult=False)
    for path, value in recall.Recall.of(test, table).files(name).items():
        tables.write_json(life.out(path), value)
    training = [image_id for image_id in image_set.ids if image_id in training_ids]
    cached.write(life.out(f"data/proposals/{name}_training.parquet"), training, lambda _: table)
    if note := recall.few(table, image_set.ids):
        print(note, flush=True)


if __name__ == "__main__":
    stage(main, PARAMS)
