"""The folder of `visualize`: each box's maps, numbers and picture, a page of units for each class, filters.

A file is written whole, so that a killed run goes on from those that are there.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from lib.detectors.target import Explainer
from lib.images.image_set import ImageSet
from lib.report import attributions, drawing
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.visualization import units as of_units
from lib.visualization import work

NAMES = {
    "gradient": "gradient", "guided": "guided backpropagation", "deconvnet": "deconvnet", "grad_cam": "Grad-CAM",
    "guided_grad_cam": "guided Grad-CAM", "occlusion": "occlusion", "centre": "centre, the baseline",
}
NETWORKS = {"after": "fine-tuned", "before": "before, the same unit of M0"}
Chosen = Sequence[tuple[int, int]]


class Folder:
    """path : of the outs;  scratch : of the pieces that are no outs;  test : the images that are shown"""

    def __init__(self, path: Path, scratch: Path, test: ImageSet, settings: work.Visualize) -> None:
        self._path, self._scratch, self._test, self._settings = path, scratch, test, settings

    def explain(
        self, explainer: Explainer, fields_of: work.FieldsOf, detections: Mapping[str, pd.DataFrame], seed: int,
        number: int, image_id: str,
    ) -> list[dict[str, Any]]:
        """The pieces of an image's best detections; none, and a picture that says so, where it has none.

        detections : by image id;  seed : of random weights
        """
        path = self._path / f"boxes/{number:02d}.json"
        if path.exists():
            pieces: list[dict[str, Any]] = tables.read_json(path)["boxes"]
            return pieces
        image, pieces = self._test.image(image_id), []
        rows = detections.get(image_id)
        best = [] if rows is None else list(rows.nlargest(self._settings.boxes, "score", keep="first").iterrows())
        for rank, (_, row) in enumerate(best):
            box, label = row[tables.BOX].to_numpy(np.float32), self._test.classes.index(row["class"])
            piece, maps = work.explain(
                explainer, fields_of, self._test, image_id, box, label, self._settings, seed
            )
            name = path.with_name(f"{number:02d}_{rank}")
            halves, data = {kind: heat.astype(np.float16) for kind, heat in _shares(maps).items()}, io.BytesIO()
            np.savez_compressed(data, **halves)  # type: ignore[arg-type]
            tables.write_atomic(name.with_suffix(".npz"), lambda file, data=data: file.write(data.getvalue()))
            boxes = np.float32([box, *([piece["object"]] if piece["right"] else [])])
            title = f"{row['class']} {row['score']:.2f}" + ("" if piece["right"] else ", on no object of its class")
            picture = attributions.panel(image, boxes, title, {NAMES[kind]: heat for kind, heat in maps.items()})
            drawing.write_png(name.with_suffix(".png"), picture)
            pieces.append({"score": float(row["score"]), **piece})
        if not best:
            drawing.write_png(path.with_name(f"{number:02d}_0.png"), attributions.note(image, "no detection to explain"))
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
        self, side: str, explainer: Explainer, fields_of: work.FieldsOf, proposals: ByImage, chosen: Chosen,
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

    def pages(self, chosen: Chosen) -> None:
        """Draws `units/CLASS.png` from what `tops` wrote: a unit's regions before fine-tuning under those after."""
        sides = {side: tables.read_json(self._path / f"units/{side}.json") for side in NETWORKS}
        for label in sorted({label for label, _ in chosen}):
            name, rows = self._test.classes[label], []
            for number in [place for place, pair in enumerate(chosen) if pair[0] == label]:
                for side, text in NETWORKS.items():
                    unit = sides[side][number]
                    regions = [self._region(top, unit["largest"]) for top in unit["tops"]]
                    share = sum(top["right"] for top in unit["tops"])
                    rows.append((f"unit {unit['unit']}, {text}: {share} of {len(regions)} on {name}", regions))
            page = attributions.unit_page(f"What tells {name}", rows, self._settings.units.top)
            drawing.write_png(self._path / f"units/{label:03d}.png", page)

    def filters(self, weights: Mapping[str, Tensor]) -> None:
        """Draws the first convolution, `filters.png`, after fine-tuning above before."""
        sheets = [attributions.filters(kernel.cpu().numpy()) for kernel in weights.values()]
        drawing.write_png(self._path / "filters.png", np.vstack(sheets))

    def _region(self, top: Mapping[str, Any], largest: float) -> attributions.Region:
        share = top["value"] / largest if largest > 0 else 0.0
        box, field = np.float32(top["box"]), np.float32(top["field"])
        return attributions.Region(self._test.image(top["image_id"]), box, field, f"{share:.1f}")


def _shares(maps: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Each map times what makes its largest value 1: half precision would lose a map of small values."""
    return {kind: np.asarray(heat / max(float(heat.max()), 1e-30), np.float32) for kind, heat in maps.items()}
