"""What the SVMs of HOG learn from: warped objects, random windows, and in some rounds over the training images the
windows that they find where no object is (Dalal and Triggs §4; Exemplar-SVM).

Each template has windows of its own size, and so a `Miner` of its own. T templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.detectors.hog.features import Features
from lib.detectors.hog.network import Search, Windows
from lib.detectors.hog.occupied import Occupied
from lib.detectors.hog.pyramid import Store
from lib.linear import svm
from lib.linear.mining import Miner
from lib.linear.task import Given, Mining, Task
from lib.stage.errors import Fault, InputError
from lib.stage.memory import require_memory
from lib.storage import checkpoint

RANDOM = -1  # what the random windows have in place of the number of an image
NOTHING = np.zeros((0, 3), np.int64), np.zeros(0, np.float32)


class Svm(svm.SvmSettings):
    """Block `hog.svm`: the mining, and

    rounds           : how often all training images are mined (Dalal, Triggs: 1; 0: random windows alone)
    per_image        : most windows of a template that an image gives in a round, the hardest
    checkpoint_every : images between checkpoints, from which a killed run resumes
    """

    rounds: int = Field(ge=0)
    per_image: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)


def reads(method: str) -> dict[str, Any]:
    """The settings of the SVMs."""
    return {f"{method}.svm": Svm}


def task(given: Given) -> Task[Mining]:
    """Reads the roles `features`, the places of all training images, and `regions`, what `hog_windows` wrote."""
    settings, path = given.settings, given.path("regions")
    windows, contents = Windows.load(path), checkpoint.load(path, "objects", "positives", "negatives")
    store = Store(given.path("features"), windows.descriptor, windows.pyramid)
    own, drawn = ([len(rows) for rows in contents[name]] for name in ("positives", "negatives"))
    if max(drawn) > settings.max_negatives:
        problem = f"is {settings.max_negatives}, and a template has {max(drawn)} random windows to begin with"
        remedy = f"Raise it, or lower {given.method}.windows.negatives"
        where = f"params.yaml: {given.method}.svm.max_negatives"
        raise InputError([Fault("too few negatives", where, problem, f"{max(drawn)} or more", remedy)])
    work = (f"{len(given.images)} images in {settings.rounds} rounds, {len(windows.templates)} templates of "
            f"{min(windows.lengths)} to {max(windows.lengths)} features, {settings.max_negatives} negatives at most")
    sizes = set(map(given.images.size, given.images.ids))
    need = memory(windows.lengths, own, drawn, settings, len(given.images)) + max(map(store.memory, sizes))

    def begin() -> WindowMining:
        require_memory(need, given.memory, given.stage, "svm.max_negatives")
        negatives = [part.numpy() for part in contents["negatives"]]
        occupied = Occupied.load(path)
        return WindowMining(given, windows, store, occupied, contents["objects"], contents["positives"], negatives)

    return Task(settings.rounds * len(given.images), begin, work, need)


def memory(
    lengths: Sequence[int], positives: Sequence[int], negatives: Sequence[int], settings: Svm, images: int
) -> int:
    """Bytes that the rows of all templates take, and the training of one: a copy of its negatives, and `svm.fit`.

    lengths, positives, negatives : of each template: features, and samples to begin with
    """
    full = settings.max_negatives + settings.retrain_after + settings.per_image  # after which a training makes room
    held, most = 0, 0
    for length, own, drawn in zip(lengths, positives, negatives, strict=True):
        cached = min(full, drawn + settings.rounds * images * settings.per_image)
        held += 4 * length * (own + cached)
        trained = min(cached, settings.max_negatives)
        most = max(most, 4 * length * cached + svm.fit_bytes(own + trained, length))
    return held + most


class WindowMining:
    """Mining of windows that are looked at and forgotten: only those above the threshold become rows.

    objects   : how many each template learns from;  positives : of each, half (P, length)
    negatives : of each, int64 (M, 4) image, level, row, column of windows
    """

    def __init__(
        self, given: Given, windows: Windows, store: Store, occupied: Occupied, objects: Sequence[int],
        positives: Sequence[torch.Tensor], negatives: Sequence[NDArray[np.int64]],
    ) -> None:
        self._given, self._windows, self._store, self._occupied = given, windows, store, occupied
        self.miners = [
            Miner([name], {name: rows.float().numpy()}, given.settings, given.seed, given.memory, [count])
            for name, count, rows in zip(windows.names, objects, positives, strict=True)
        ]
        random = self._random(negatives)
        for miner in self.miners:
            rows = random.pop(0)
            miner.take(RANDOM, np.arange(len(rows)), rows, np.ones((len(rows), 1), bool))

    def _random(self, negatives: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Of each template float32 (M, length): the features of the random windows, all of an image at once."""
        images = self._given.images
        rows = [np.zeros((len(at), length), np.float32)
                for at, length in zip(negatives, self._windows.lengths, strict=True)]
        for number, image_id in enumerate(images.ids):
            places = self._store.read(image_id, images.size(image_id))
            for index, at in enumerate(negatives):
                first, end = np.searchsorted(at[:, 0], [number, number + 1])
                rows[index][first:end] = self._windows.features(index, places, at[first:end, 1:])
        return rows

    def add(self, step: int) -> None:
        """See `task.Mining`; each round has a step for each image."""
        images, settings = self._given.images, self._given.settings
        number = step % len(images)
        places = self._store.read(images.ids[number], images.size(images.ids[number]))
        hits = self._hits(places, number)
        for index, (miner, (at, scores)) in enumerate(zip(self.miners, hits, strict=True)):
            hardest = at[np.sort(np.argsort(-scores, kind="stable")[: settings.per_image])]
            features = self._windows.features(index, places, hardest)
            keys = (hardest[:, 0] << 40) + (hardest[:, 1] << 20) + hardest[:, 2]
            miner.take(number, keys, features, np.ones((len(keys), 1), bool), number + 1 == len(images), step)

    def _hits(
        self, places: Sequence[Features], number: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Negatives of each template above the threshold: int64 (n, 3) level, row, column, and their scores.

        number : of the image
        """
        model, images = self._windows, self._given.images
        levels = self._store.levels(images.size(images.ids[number]))
        search = Search(
            model, [miner.weights[0] for miner in self.miners], np.concatenate([miner.bias for miner in self.miners])
        )
        hits: list[list[tuple[NDArray[np.int64], NDArray[np.float32]]]] = [[NOTHING] for _ in self.miners]
        learning = [miner.positives[0] > 0 for miner in self.miners]  # the others have no SVM and never get one
        floor = np.where(learning, self._given.settings.hard_threshold, np.inf).astype(np.float32)
        for level, index, rows, columns, scores in search.above(places, floor):
            template = model.templates[index]
            boxes = model.boxes(template, levels[level], rows, columns)
            free = self.miners[index].negative(self._occupied.overlaps(number, template.label, boxes))
            at = np.stack([np.full(len(rows), level), rows, columns], axis=1)
            hits[index].append((at[free], scores[free]))
        return [tuple(np.concatenate(parts) for parts in zip(*hit, strict=True)) for hit in hits]  # type: ignore[misc]

    def sections(self) -> Mapping[str, Any]:
        """For `network.Templates`."""
        return {
            "templates": self._windows.names,
            "weights": [torch.from_numpy(miner.weights[0]) for miner in self.miners],
            "bias": torch.tensor([float(miner.bias[0]) for miner in self.miners]),
            "trained": torch.tensor([bool(miner.trained[0]) for miner in self.miners]),
            "pictures": [torch.from_numpy(picture) for picture in self._pictures()],
            "angles": list(self._windows.descriptor.angles),
            "notes": self._windows.notes + [note for miner in self.miners for note in miner.notes],
        }

    def _pictures(self) -> Iterator[Features]:
        """The weights of each template by cell and direction, for whoever draws them: float32 (2, rows, columns, B),
        what is above 0 and what is below, without its sign. They do not cancel: foldHOG's rule."""
        descriptor = self._windows.descriptor
        for miner, template in zip(self.miners, self._windows.templates, strict=True):
            weights = miner.weights[0].reshape(*template.places(descriptor), -1)
            yield np.stack([descriptor.by_cell(np.maximum(sign * weights, 0)) for sign in (1, -1)])

    def log_rows(self) -> list[dict[str, Any]]:
        """Of all templates, in the order of time; `image` counts on over the rounds."""
        rows = [row for miner in self.miners for row in miner.log_rows()]
        return sorted(rows, key=lambda row: int(row["image"]))
