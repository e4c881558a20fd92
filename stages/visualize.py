"""What a detector's network looks at: maps of its best detections, its units' top regions, numbers on both.

`python -m stages.visualize METHOD detector=PAPER by=KEY model=FILE scores=FILE before=M0 proposals=TABLE`: KEY says
what scores the classes, `seed` where there is a softmax alone. The box of a detection is explained as a region. Writes
`results/metrics/visualization/METHOD.json`, how far the maps may be believed, and `data/visualization/METHOD`: boxes/
(of each box its maps in pixels of the image, shares of their maximum, its numbers, a picture), units/, filters.png.
"""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Literal

from lib.backbones.device import pick_device
from lib.images.image_set import ImageSet, Splits
from lib.parallel.processes import workers
from lib.report import attributions, gallery
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import tables
from lib.visualization import work
from lib.visualization.fields import FieldsOf
from lib.visualization.folder import Folder
from stages.schemas import stage


def PARAMS(method: str, by: str, **roles: str) -> Mapping[str, Any]:
    """The params of a row."""
    scores = {} if by == "seed" else {by: Literal["svm", "softmax"]}
    return {"seed": Seed, "splits": Splits, "visualize": work.Visualize, **scores}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, splits, folder = life.params["visualize"], life.params["splits"], life.dep("data/tables")
    test, train = (ImageSet(life.data_root, folder, names) for names in (splits.test, splits.train))
    detections = tables.groups(tables.read(life.dep(f"data/detections/{life.item}.parquet"), tables.DETECTIONS))
    device = pick_device(life.compute.device, "float32")
    margins = life.role("by") != "seed" and life.params[life.role("by")] == "svm"
    files = {role: life.input(role) for role in ("model", "scores")}
    explainer = import_module(f"lib.detectors.{life.role('detector')}.explain").Explainer(files, margins, device)
    explained = gallery.spread(test.ids, settings.images)
    shown, learnt = (gallery.spread(images.ids, settings.units.images) for images in (test, train))
    life.announce(f"{len(explained)} images explained, {settings.units.count} units on {len(shown)} images")
    path = life.out(f"data/visualization/{life.item}")
    out = Folder(path, life.scratch, test, settings)

    explain = partial(out.explain, explainer, FieldsOf(), detections, life.params["seed"])
    numbered = list(enumerate(explained))
    done = device.in_order(lambda pair: pair, lambda pair: explain(*pair), numbered, workers(life.compute))
    pieces = [piece for part in life.progress(done, len(numbered), "image") for piece in part]

    proposals = test.proposals(life.input("proposals")), train.proposals(life.input("proposals"))
    chosen = out.units(lambda: work.choose_units(explainer, train, learnt, proposals[1], settings.units))
    purity = {}
    sides = {"after": explainer, "before": explainer.before(life.input("before"))}
    for side, network in sides.items():
        rank = partial(out.rank, side, network, proposals[0], chosen)
        ranked = device.in_order(lambda image_id: image_id, rank, shown, workers(life.compute))
        made = dict(zip(shown, life.progress(ranked, len(shown), "image"), strict=True))
        purity[f"purity_{side}"] = out.tops(side, network, FieldsOf(), proposals[0], chosen, made)
    out.filters({side: network.filters for side, network in sides.items()})
    attributions.draw(path, test)
    figures = {**work.summary(pieces), "units": purity}
    tables.write_json(life.out(f"results/metrics/visualization/{life.item}.json"), figures)
    pointing = {kind: numbers["pointing"] for kind, numbers in figures.items() if kind in (*work.KINDS, work.CENTRE)}
    print(f"{life.name}: pointing {pointing}, units {purity}")


if __name__ == "__main__":
    stage(main, PARAMS)
