"""Proposals of a trained region proposal network, with the recall they reach on the test split (Faster R-CNN §3.2, §4.1).

`python -m stages.propose_rpn BLOCK NAME model=FILE`, for example `faster.propose p1`: writes data/proposals/NAME.parquet,
metrics and curves; and the rows of the training images once more, NAME_training.parquet, for what learns from them: another
number of boxes at test leaves those bytes alone. Mirrored images reuse the boxes of the plain ones, mirrored, as in the
authors' Python code.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from lib.backbones.device import Precision, pick_device
from lib.detectors.faster import network as faster
from lib.detectors.faster.rpn import Proposing
from lib.images.image_set import ImageSet, Splits
from lib.parallel.ahead import ahead
from lib.parallel.clock import Clock
from lib.parallel.processes import workers
from lib.proposals import cached, recall
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage


class Propose(Settings):
    """Block `faster.propose`: which boxes become proposals of the training splits' images (authors: all before NMS, 2000
    after it) and of the others' (6000, 300);  precision : of the forward passes
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
    image_set = ImageSet(life.data_root, tables_folder)
    learning = set(ImageSet(life.data_root, tables_folder, splits.train).ids)
    device = pick_device(life.compute.device, settings.precision)
    proposer = faster.ImageProposer(life.input("model"), device, Clock())

    def found(image_id: str) -> cached.Found:
        start = time.perf_counter()
        prepared = proposer.prepare(image_set.image(image_id))
        boxes, scores = proposer(prepared, settings.training if image_id in learning else settings.test)
        return cached.Found(image_id, boxes, scores, time.perf_counter() - start)

    def search(missing: Sequence[str]) -> Iterator[cached.Found]:
        life.announce(f"{len(image_set)} images, {len(learning)} of them for training")
        results = ahead(found, missing, *device.side_by_side(workers(life.compute)))
        yield from life.progress(results, len(image_set), "image", len(image_set) - len(missing))

    target = life.out(f"data/proposals/{name}.parquet")
    keys = {one: cached.key(one, name) for one in image_set.ids}  # the scratch folder's name holds what decides the rows
    seconds = cached.update(target, keys, None, life.scratch / "pieces", search)
    milliseconds = 1000 * fmean(seconds.values()) if seconds else None
    tables.write_json(life.out(f"results/speed/{name}.json"), {"proposals": milliseconds})

    table, test = ByImage(target, tables.PROPOSALS), ImageSet(life.data_root, tables_folder, splits.test, difficult=False)
    for path, value in recall.Recall.of(test, table).files(name).items():
        tables.write_json(life.out(path), value)
    with tables.Writer(life.out(f"data/proposals/{name}_training.parquet"), tables.PROPOSALS) as writer:
        for ids in tables.chunks([one for one in image_set.ids if one in learning], cached.GROUP):
            writer.append(pd.concat([table[one] for one in ids], ignore_index=True))
    if note := recall.few(table, image_set.ids):
        print(note, flush=True)


if __name__ == "__main__":
    stage(main, PARAMS)
