"""Data sets annotated in VOC's XML: the development kit's folders, and the output of labelling tools.

Where folders `Annotations` and `JPEGImages` are side by side (once, or once per year: VOC2007, VOC2012), only
they are read. Anywhere else every image and every XML file under the root counts: in one folder, in sibling
folders of any name, nested. The image of an annotation is found by the annotation's own name, IMG.xml or
IMG.jpg.xml for IMG.jpg; `<filename>` is often wrong.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from lib.datasets import voc_lists
from lib.datasets.listing import Listing, by_stem, nearest, stem
from lib.datasets.lists import CALLED_AFTER_SETS
from lib.datasets.records import Record, Source
from lib.datasets.voc_xml import Origin, parse
from lib.images.header import EXTENSIONS
from lib.stage.errors import Fault


def read(listing: Listing, origin: Origin = 1, lists: Mapping[str, str] | None = CALLED_AFTER_SETS) -> Source:
    """One record per image; an image without annotation is a record without objects.

    lists : set -> name of its list, as in `lists.named_lists`; None: no list is read
    """
    images, annotations, notes = _scope(listing)
    records = {image: Record(image) for image in images}
    source = Source("voc", list(records.values()), notes=notes)
    if lists is not None:
        voc_lists.read(listing, images, records, source, lists)
    images_of, others_of = _by_annotation(images), _by_annotation(listing.others)
    for path in annotations:
        matches = nearest(path, images_of.get(stem(path), []))
        if not matches:
            other = nearest(path, others_of.get(stem(path), []))
            fault = Fault(
                "annotation without image",
                path,
                f"no image is called {stem(path)}{f', and {other[0]} is of no format that is read' if other else ''}",
                f"one of {' '.join(EXTENSIONS)}",
                "Convert it to JPEG or PNG" if other else "Add the image, or move the annotation away",
            )
            # With lists it does no harm: no list can name it.
            (source.notes if source.sets else source.faults).append(fault)
        elif len(matches) > 1:
            for image in matches:
                records[image].readable = False
            blamed = next((records[image] for image in matches if records[image].sets), records[matches[0]])
            blamed.faults.append(
                Fault(
                    "two images for one annotation",
                    path,
                    f"{' and '.join(matches)} both bear its name",
                    "one image",
                    "Rename or remove the other",
                )
            )
        elif (record := records[matches[0]]).annotation:
            record.faults.append(
                Fault(
                    "two annotations for one image",
                    path,
                    f"{record.annotation} is for {matches[0]} too",
                    "one annotation per image",
                    "Remove one",
                )
            )
        else:
            _annotate(listing, path, record, origin)
    for record in source.records:
        if record.sets and record.readable and record.annotation is None:
            problem, remedy = "is listed, but has no annotation", "Add it, or take the image off the list"
            remedy += "; data.faults: lenient takes it as an image without objects"
            kind, allowed = "listed image without annotation", "an XML file of its name"
            record.faults.append(Fault(kind, record.image_id, problem, allowed, remedy))
    return source


def _scope(listing: Listing) -> tuple[list[str], list[str], list[Fault]]:
    """Images and annotation files that count, and a note about annotations that do not."""
    homes = [
        str(folder.parent)
        for folder in map(PurePosixPath, sorted(listing.folders))
        if folder.name == "JPEGImages" and str(folder.parent / "Annotations") in listing.folders
    ]
    if not homes:
        return listing.images, listing.xml, []
    images = [path for path in listing.images if _within(path, homes, "JPEGImages")]
    annotations = [path for path in listing.xml if _within(path, homes, "Annotations")]
    others = sorted(set(listing.xml) - set(annotations))
    return (
        images,
        annotations,
        [Fault("file outside the VOC folders", path, "is not read", "files under Annotations") for path in others],
    )


def _by_annotation(files: Sequence[str]) -> dict[str, list[str]]:
    """Files under the stem of their annotation: their own or, as some tools write IMG.jpg.xml, their whole name."""
    names: dict[str, list[str]] = defaultdict(list)
    for file in files:
        names[stem(f"{file}.xml")].append(file)
    return {**names, **by_stem(files)}


def _within(path: str, homes: list[str], folder: str) -> bool:
    return any(PurePosixPath(path).is_relative_to(PurePosixPath(home) / folder) for home in homes)


def _annotate(listing: Listing, path: str, record: Record, origin: Origin) -> None:
    record.annotation = path
    filename = parse(listing.read(path), path, record, origin)
    if filename and PurePosixPath(filename.replace("\\", "/")).name != PurePosixPath(record.image_id).name:
        problem = f"<filename> is {filename}, the image {record.image_id} is used"
        record.notes.append(Fault("filename differs from the annotation's name", path, problem))
