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

from lib.backbones import device
from lib.detectors.faster import network as faster
from lib.detectors.faster.rpn import Proposing
from lib.images.image_set import Photographs, Splits
from lib.parallel.ahead import ahead
from lib.parallel.clock import Clock
from lib.parallel.pool import workers
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
    precision: device.Precision


def PARAMS(block: str, name: str, **inputs: str) -> Mapping[str, Any]:
    """The params of a row."""
    return {"splits": Splits, block: Propose}


def main(life: Life) -> None:
    """See the module's docstring."""
    (block, name), tables_folder = life.entry.words, life.dep("data/tables")
    settings, splits = life.params[block], life.params["splits"]
    photographs = Photographs(life.data_root, tables_folder)
    learning = set(Photographs(life.data_root, tables_folder, splits.train).ids)
    place = device.pick(life.compute.device, settings.precision)
    proposer = faster.Proposals(life.input("model"), place, Clock())

    def found(image_id: str) -> cached.Found:
        start = time.perf_counter()
        prepared = proposer.prepare(photographs.image(image_id))
        boxes, scores = proposer(prepared, settings.training if image_id in learning else settings.test)
        return cached.Found(image_id, boxes, scores, time.perf_counter() - start)

    def search(missing: Sequence[str]) -> Iterator[cached.Found]:
        life.announce(f"{len(photographs)} images, {len(learning)} of them for training")
        results = ahead(found, missing, *place.side_by_side(workers(life.compute)))
        yield from life.progress(results, len(photographs), "image", len(photographs) - len(missing))

    target = life.out(f"data/proposals/{name}.parquet")
    keys = {one: cached.key(one, name) for one in photographs.ids}  # the scratch folder's name holds what decides the rows
    seconds = cached.update(target, keys, None, life.scratch / "pieces", search)
    milliseconds = 1000 * fmean(seconds.values()) if seconds else None
    tables.write_json(life.out(f"results/speed/{name}.json"), {"proposals": milliseconds})

    table, test = ByImage(target, tables.PROPOSALS), Photographs(life.data_root, tables_folder, splits.test, difficult=False)
    for path, value in recall.Recall.of(test, table).files(name).items():
        tables.write_json(life.out(path), value)
    with tables.Writer(life.out(f"data/proposals/{name}_training.parquet"), tables.PROPOSALS) as writer:
        for ids in tables.chunks([one for one in photographs.ids if one in learning], cached.GROUP):
            writer.append(pd.concat([table[one] for one in ids], ignore_index=True))
    if note := recall.few(table, photographs.ids):
        print(note, flush=True)


if __name__ == "__main__":
    stage(main, PARAMS)
