"""From the scores of an image's regions to its detections, for all images of a set (R-CNN authors' rcnn_test.m).

Candidate boxes wait in pieces on disk until the threshold of the whole set is known, so memory does not grow with the
number of images, and a killed run goes on. R regions, C classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

from lib.boxes.boxes import clip
from lib.boxes.nms import nms_per_class
from lib.boxes.selection import Scored, Selection
from lib.detection.shortlist import Shortlist
from lib.storage import checkpoint, tables

PIECE = 8  # images whose boxes are written together
SCHEMA = pa.schema([("image_id", pa.string()), ("label", pa.int64()), *list(tables.PROPOSALS)[1:]])


class Candidates:
    """Collects image by image, in a fixed order; `done` images are already in the scratch folder."""

    def __init__(self, scratch: Path, classes: Sequence[str], images: int, selection: Selection) -> None:
        self._scratch, self._classes = scratch, list(classes)
        self._selection = selection
        per_set = selection.per_set * images if selection.per_set else None
        floor = -np.inf if selection.floor is None else selection.floor
        self._shortlist = Shortlist(len(classes), selection.per_image, per_set, floor)
        self._images, self.done = images, 0
        self._waiting: list[pd.DataFrame] = []
        if (scratch / "state.pt").exists():
            state = checkpoint.load(scratch / "state.pt", "done", "shortlist")
            self.done = state["done"]
            self._shortlist.load_state_dict({name: value.numpy() for name, value in state["shortlist"].items()})
        self._next = self.done

    def add(self, image_id: str, size: tuple[int, int], scored: Scored) -> None:
        """What the detector returned for the next image. size : width and height, to which moved boxes are clipped."""
        boxes, scores = scored.boxes, scored.scores
        rows_and_labels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for label in range(len(self._classes)):
            rows = np.flatnonzero(np.isfinite(scores[:, label]))
            if self._selection.nms_before is not None:
                labels = np.zeros(len(rows), np.int64)
                rows = rows[nms_per_class(boxes[rows], scores[rows, label], labels, self._selection.nms_before)]
            rows = rows[self._shortlist.keep(label, scores[rows, label])]
            rows_and_labels.append((rows, np.full(len(rows), label)))
        rows, labels = (np.concatenate(parts) for parts in zip(*rows_and_labels, strict=True))
        moved = clip(scored.refine(rows, labels, boxes[rows]), *size)
        frame = pd.DataFrame(moved, columns=tables.BOX).assign(score=scores[rows, labels], label=labels)
        self._waiting.append(frame.assign(image_id=image_id))
        self._next += 1
        if len(self._waiting) == PIECE or self._next == self._images:
            self._flush()

    def _flush(self) -> None:
        tables.write(self._piece(self.done), pd.concat(self._waiting, ignore_index=True), SCHEMA)
        self._waiting, self.done = [], self._next
        shortlist = {name: torch.from_numpy(value) for name, value in self._shortlist.state_dict().items()}
        checkpoint.save(self._scratch / "state.pt", {"done": self.done, "shortlist": shortlist})

    def _piece(self, start: int) -> Path:
        return self._scratch / f"candidates-{start:07d}.parquet"

    def write(self, path: Path) -> int:
        """Drops boxes below the final thresholds, applies NMS and `most`, writes what is left; returns its count.

        Where fewer images were added than were announced, the limit of the set is that of those that were.
        """
        if self._waiting:
            self._flush()
        if self._selection.per_set:
            self._shortlist.limit(self._selection.per_set * self.done)
        total = 0
        with tables.Writer(path, tables.DETECTIONS) as writer:
            for start in range(0, self.done, PIECE):
                piece = tables.read(self._piece(start), SCHEMA)
                survivors = [self._detections(rows) for _, rows in piece.groupby("image_id", sort=False)]
                if survivors:
                    writer.append(pd.concat(survivors, ignore_index=True))
                    total += sum(map(len, survivors))
        return total

    def _detections(self, rows: pd.DataFrame) -> pd.DataFrame:
        labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
        survives = np.zeros(len(rows), bool)
        for label in np.unique(labels):
            survives[labels == label] = self._shortlist.survives(int(label), scores[labels == label])
        rows = rows[survives]
        labels, scores = labels[survives], scores[survives]
        rows = rows.assign(**{"class": [self._classes[label] for label in labels]})
        detected = nms_per_class(tables.boxes(rows), scores, labels, self._selection.nms)[: self._selection.most]
        return rows.iloc[detected][tables.DETECTIONS.names]
