"""The data set, checked, as tables: images, objects, classes, and a report to read.

Reads the folder `data.root`; writes `data/tables` and `results/data_report.md`. All faults are reported at once.
"""

import os
from pathlib import Path

from lib.datasets.cautions import cautions
from lib.datasets.check import load
from lib.datasets.listing import scan
from lib.datasets.report import markdown
from lib.datasets.settings import DataSettings
from lib.parallel.processes import workers
from lib.stage import hashed
from lib.stage.run import Life
from lib.storage import tables
from stages.schemas import stage


class Data(DataSettings):
    """Block `data`: how a data set is read, and `root`, the folder that holds it."""

    root: str


PARAMS = {"data": Data}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params["data"]
    # dvc.yaml's paths as DVC resolves them: ../x is absolute there, ./x is x.
    root = os.path.relpath(settings.root)
    source = life.dep(os.path.abspath(root) if root.startswith("..") else Path(root).as_posix())
    hashed.check(source, scan(source).readable, life.entry.outs)
    dataset = load(source, settings, workers(life.compute), lambda done, total: life.tick(1))
    for caution in cautions(dataset):
        print(f"WARNING: {caution}", flush=True)
    folder = life.out("data/tables")
    tables.write(folder / "images.parquet", dataset.images, tables.IMAGES)
    tables.write(folder / "objects.parquet", dataset.objects, tables.OBJECTS)
    tables.write_json(folder / "classes.json", dataset.classes)
    text = markdown(dataset)
    tables.write_atomic(life.out("results/data_report.md"), lambda file: file.write(text.encode()))


if __name__ == "__main__":
    stage(main, PARAMS)
