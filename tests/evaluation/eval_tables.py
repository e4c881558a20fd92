"""Short ways to write the tables that the evaluation tests score."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

OBJECT_COLUMNS = ["image_id", "object", "class", "x1", "y1", "x2", "y2", "difficult", "truncated", "crowd"]
DETECTION_COLUMNS = ["image_id", "class", "x1", "y1", "x2", "y2", "score"]


def images_table(*ids: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": pd.Series(list(ids), dtype=str)})


def objects_table(*rows: tuple, columns: Sequence[str] = OBJECT_COLUMNS) -> pd.DataFrame:
    """Rows of (image_id, class, box, flag ...); a flag is "difficult" or "crowd"."""
    return pd.DataFrame(
        [
            (i, n, c, *box, "difficult" in flags, False, "crowd" in flags)
            for n, (i, c, box, *flags) in enumerate(rows)
        ],
        columns=columns,
    )


def detections_table(*rows: tuple) -> pd.DataFrame:
    """Rows of (image_id, class, box, score)."""
    return pd.DataFrame([(i, c, *box, score) for i, c, box, score in rows], columns=DETECTION_COLUMNS)


def random_tables(
    seed: int, images: int = 6, classes: Sequence[str] = ("a", "b", "c"), size: int = 40
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Small whole-number boxes and few scores, so that ties of overlap and score and an IoU of 1/2 occur."""
    rng = np.random.default_rng(seed)
    ids = [f"{number:03d}.jpg" for number in rng.permutation(images)]

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, size, (count, 2))
        return np.hstack([corner, corner + rng.integers(1, size, (count, 2))]).astype(float)

    objects, detections = [], []
    for image in ids:
        for box in boxes(int(rng.integers(0, 6))):
            name = str(rng.choice(classes))
            flags = [flag for flag, share in (("difficult", 0.25), ("crowd", 0.1)) if rng.random() < share]
            objects.append((image, name, box, *flags))
            for _ in range(rng.integers(0, 4)):
                near = box + rng.integers(-2, 3, 4)
                near[2:] = np.maximum(near[2:], near[:2] + 1)
                detections.append((image, name, near, rng.integers(0, 8) / 8))
        detections += [
            (image, str(rng.choice(classes)), box, rng.integers(0, 8) / 8)
            for box in boxes(int(rng.integers(0, 5)))
        ]
    objects_frame = objects_table(*objects)
    objects_frame["object"] = objects_frame.groupby("image_id").cumcount()
    return images_table(*ids), objects_frame, detections_table(*detections)


def shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)
