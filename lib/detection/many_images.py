"""A detector run on many images: what the stages `detect` and `predict` share, from pixels to candidates.

R regions of an image, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Protocol

from lib.backbones.device import Device
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, check_scores
from lib.detection.candidates import Candidates
from lib.images.decode import Image
from lib.parallel.clock import Clock
from lib.stage.errors import at

Guard = Callable[[str], AbstractContextManager[Any]]


class Detector(Protocol):
    """What each folder of lib/detectors calls `Detector`: read-only, may be called from several threads.

    classes         : names, in the order of the scores
    wants_proposals : it scores proposals of another method, and finds no regions of its own
    """

    classes: list[str]
    wants_proposals: bool

    def prepare(self, image: Image, proposals: Any, /) -> Any:
        """The part that needs no network.

        image : uint8 (H, W, 3);  proposals : float32 (R, 4) of the image, or None where the detector wants none
        """

    def __call__(self, prepared: Any, /) -> Scored:
        """The scored boxes of an image."""


def detect(
    detector: Detector,
    todo: Sequence[str],
    read: Callable[[str], Image],
    regions: Callable[[str, Image], Boxes] | None,
    candidates: Candidates,
    clock: Clock,
    device: Device,
    workers: int,
    guard: Guard = nullcontext,
) -> Iterator[str | None]:
    """Adds the scored boxes of the images `todo`, in order, to `candidates`; yields each
    image's id when it is done, None for one that failed.

    The first image is run once before the clock counts: kernels compile and libraries choose their algorithms on it.

    read    : decodes the image of an id;  regions : its proposals, called only where the detector wants them
    workers : threads, see `Device.in_order`; the result does not depend on their number
    guard   : image id -> context in which the image is worked on; where it holds back an error, as
              `errors.Failures` does, the image is left out and the others go on
    Raises ValueError for a detector that wants proposals where there are none, InputError where a score is NaN or plus
    infinity, naming the image.
    """
    if detector.wants_proposals and regions is None:
        raise ValueError("the detector wants proposals, and none are given")

    def prepare(image_id: str) -> tuple[tuple[int, int], Any]:
        with clock.host("decode"):
            image = read(image_id)
        boxes = regions(image_id, image) if regions is not None and detector.wants_proposals else None
        return (image.shape[1], image.shape[0]), detector.prepare(image, boxes)

    def score(image_id: str, ready: tuple[tuple[int, int], Any]) -> tuple[str, tuple[int, int], Scored]:
        with at(image_id):
            scored = detector(ready[1])
            check_scores(scored.scores)
        return image_id, ready[0], scored

    def guarded(work: Callable[..., Any], image_id: str, *ready: Any) -> Any:
        with guard(image_id):
            return work(image_id, *ready)
        return None

    with suppress(Exception):  # what fails here fails again below
        list(device.in_order(prepare, lambda ready: score(todo[0], ready), todo[:1], 1))
    clock.reset()
    results = device.in_order(
        lambda image_id: (image_id, guarded(prepare, image_id)),
        lambda pair: None if pair[1] is None else guarded(score, *pair),
        todo, workers,
    )
    for result in results:
        if result is not None:
            with clock.host("select"):
                candidates.add(*result)
        yield result and result[0]
