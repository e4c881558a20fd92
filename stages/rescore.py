"""A method's detections on the test split, rescored by another's (YOLO paper §4.3), with the milliseconds of each part.

`python -m stages.rescore METHOD detections=TABLE confirmed_by=TABLE`, both of `detect`, whose names are their methods'.
No image is looked at: METHOD has no detector of its own, and `predict` does not know it. Writes
`data/detections/METHOD.parquet` and `results/speed/METHOD.json`, with the time of both methods as parts.
"""

import pandas as pd

from lib.detection.rescoring import Rescore, rescored
from lib.parallel.clock import Clock
from lib.stage.errors import Fault, InputError
from lib.stage.run import Life
from lib.storage import tables
from stages.schemas import stage

PARAMS = {"{item}.rescore": Rescore}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, clock, parts = life.params[f"{life.item}.rescore"], Clock(), dict[str, float | None]()
    both = {role: life.input(role) for role in ("detections", "confirmed_by")}
    for path in both.values():
        milliseconds = tables.read_json(life.dep(f"results/speed/{path.stem}.json")).values()
        measured = [value for value in milliseconds if value is not None]
        parts[path.stem] = sum(measured) if measured else None  # none where `detect` had only its last part to do
    detections, others = (tables.read(path, tables.DETECTIONS) for path in both.values())
    if not detections["score"].between(0, 1).all():
        where, problem = f"{life.item}: detections", "have scores below 0 or above 1"
        raise InputError([Fault("not probabilities", where, problem, "scores from 0 to 1, as those of fast and faster",
                                "Rescore another method's detections")])
    of_others, pieces = tables.groups(others), [detections.iloc[:0]]
    for image_id, of_image in detections.groupby("image_id", sort=False):
        with clock.host("rescore"):
            pieces.append(rescored(of_image, of_others.get(image_id, others.iloc[:0]), settings))
    tables.write(life.out(f"data/detections/{life.item}.parquet"), pd.concat(pieces), tables.DETECTIONS)
    tables.write_json(life.out(f"results/speed/{life.item}.json"), {**parts, **clock.milliseconds(len(pieces) - 1)})


if __name__ == "__main__":
    stage(main, PARAMS)
