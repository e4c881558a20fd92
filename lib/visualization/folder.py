"""What `visualize` leaves: each box's maps and numbers, each unit's top regions, filters; `lib/report` draws them.

    boxes/NN.json : image_id, and of each explained box score, `explained` (the score of the box as a region), class,
                    box, object (None where it found none of its class) and numbers, as of `attribution.Attribution`
    boxes/NN_K.pt : its maps by kind, float16 (H, W) on the pixels of the image, each times what makes its largest
                    value 1
    units/SIDE.json, SIDE after or before fine-tuning: of each chosen unit its class, the largest value of its channel,
                    and its top regions over all images
    filters.pt    : of each side the first convolution, float32 (K, 3, k, k)

A file is written whole, so that a killed run goes on from those that are there.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.detectors.target import Explainer
from lib.images.image_set import ImageSet
from lib.storage import checkpoint, tables
from lib.storage.by_image import ByImage
from lib.visualization import units as of_units
from lib.visualization import work
from lib.visualization.fields import FieldsOf

Chosen = Sequence[tuple[int, int]]


class Folder:
    """path : of the outs;  scratch : of the pieces that are no outs;  test : the images that are shown"""

    def __init__(self, path: Path, scratch: Path, test: ImageSet, settings: work.Visualize) -> None:
        self._path, self._scratch, self._test, self._settings = path, scratch, test, settings

    def explain(
        self, explainer: Explainer, fields_of: FieldsOf, detections: Mapping[str, pd.DataFrame], seed: int,
        number: int, image_id: str,
    ) -> list[dict[str, Any]]:
        """The pieces of an image's best detections; none where it has none.

        detections : by image id;  seed : of random weights
        """
        path = self._path / f"boxes/{number:02d}.json"
        if path.exists():
            pieces: list[dict[str, Any]] = tables.read_json(path)["boxes"]
            return pieces
        pieces = []
        rows = detections.get(image_id)
        best = [] if rows is None else list(rows.nlargest(self._settings.boxes, "score", keep="first").iterrows())
        for rank, (_, row) in enumerate(best):
            box, label = row[tables.BOX].to_numpy(np.float32), self._test.classes.index(row["class"])
            piece, maps = work.explain(explainer, fields_of, self._test, image_id, box, label, self._settings, seed)
            shares = {kind: torch.from_numpy(heat / max(heat.max(), 1e-30)).half() for kind, heat in maps.items()}
            checkpoint.save(path.with_name(f"{number:02d}_{rank}.pt"), shares)
            pieces.append({"score": float(row["score"]), **piece})
        tables.write_json(path, {"image_id": image_id, "boxes": pieces})
        return pieces

    def units(self, choose: Callable[[], list[tuple[int, int]]]) -> list[tuple[int, int]]:
        """The chosen pairs of a class and a unit; chosen once."""
        path = self._scratch / "units.json"
        if not path.exists():
            tables.write_json(path, choose())
        return [(label, unit) for label, unit in tables.read_json(path)]

    def rank(self, side: str, explainer: Explainer, proposals: ByImage, chosen: Chosen, image_id: str) -> Any:
        """The piece of `work.ranked` of an image, with the network before or after fine-tuning."""
        path = self._scratch / f"ranked/{side}/{self._test.ids.index(image_id):06d}.json"
        if not path.exists():
            regions = proposals.boxes(image_id)[: self._settings.units.proposals]
            piece = work.ranked(explainer, self._test, image_id, regions, chosen, self._settings.units)
            tables.write_json(path, piece)
        return tables.read_json(path)

    def tops(
        self, side: str, explainer: Explainer, fields_of: FieldsOf, proposals: ByImage, chosen: Chosen,
        pieces: Mapping[str, Any],
    ) -> float | None:
        """Writes `units/SIDE.json`, each unit's top regions over all images with their fields; returns their purity."""
        best = [work.merged(pieces, number, self._settings.units.top) for number in range(len(chosen))]
        wanted: dict[str, list[tuple[int, int]]] = {}
        for (tops, _), (_, unit) in zip(best, chosen, strict=True):
            for image_id, (row, _, _) in tops:
                wanted.setdefault(image_id, []).append((row, unit))
        seen: dict[tuple[str, int, int], NDArray[np.float32]] = {}
        for image_id, pairs in wanted.items():
            regions = proposals.boxes(image_id)
            made = work.fields_in_image(explainer, fields_of, self._test, image_id, regions, pairs)
            seen |= {(image_id, *pair): field for pair, field in zip(pairs, made, strict=True)}
        rows = [
            {
                "class": self._test.classes[label], "unit": unit, "largest": largest,
                "tops": [
                    {"image_id": image_id, "box": proposals.boxes(image_id)[row].tolist(), "value": value,
                     "field": seen[image_id, row, unit].tolist(), "right": of == label}
                    for image_id, (row, value, of) in tops
                ],
            }
            for (tops, largest), (label, unit) in zip(best, chosen, strict=True)
        ]
        tables.write_json(self._path / f"units/{side}.json", rows)
        return of_units.purity([[row[2] for _, row in tops] for tops, _ in best], [label for label, _ in chosen])

    def filters(self, weights: Mapping[str, Tensor]) -> None:
        """Writes the first convolution by side."""
        checkpoint.save(self._path / "filters.pt", dict(weights))
