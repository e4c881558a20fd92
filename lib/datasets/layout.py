"""From a folder to records: which format it has, or what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lib.datasets import coco, coco_json, voc
from lib.datasets.listing import Listing, scan
from lib.datasets.lists import CALLED_AFTER_SETS, UNUSED, named_lists
from lib.datasets.records import Source
from lib.datasets.voc_xml import Origin
from lib.stage.errors import Fault, InputError

Format = Literal["auto", "voc", "coco"]

_EXPECTED = (
    "images with VOC annotations (an XML file per image: VOC2007/Annotations and VOC2007/JPEGImages, "
    "or any folders), or images with COCO annotations (JSON with images, annotations and categories)"
)


def read(
    root: str | Path,
    format: Format = "auto",
    origin: Origin = 1,
    lists: Mapping[str, str] | None = CALLED_AFTER_SETS,
) -> Source:
    """All records under `root`. Raises InputError where it is missing, empty, of neither or both formats.

    lists : set -> name of its list, as in `lists.named_lists`; None: no list is followed
    """
    root = Path(root)
    if not root.is_dir():
        seen = "is a file" if root.exists() else "does not exist"
        remedy = "Set data.root to the folder of your images, or make the built-in set: dvc repro"
        raise InputError([Fault("no data", str(root), seen, "an existing folder", remedy)])
    listing = scan(root)
    if not listing.images:
        raise _no_data(listing, "holds no images")
    annotated = {"voc": listing.xml, "coco": coco_json.files(listing) if format != "voc" else []}
    if format == "auto":
        # A stray XML file (a project file, say) beside COCO annotations does not make the folder ambiguous.
        xml = [path for path in listing.xml if _is_annotation(listing, path)] if annotated["coco"] else listing.xml
        if xml and annotated["coco"]:
            files = annotated["coco"]
            holdings = f"{len(xml)} VOC annotations ({xml[0]}) and {len(files)} COCO files ({files[0]})"
            raise InputError(
                [
                    Fault(
                        "two formats",
                        str(root),
                        f"holds {holdings}",
                        "one format",
                        "Set data.format to voc or coco",
                    )
                ]
            )
        format = "coco" if annotated["coco"] else "voc"
    lacking = coco_json.lacking(listing, annotated["coco"]) if format == "coco" or not listing.xml else {}
    if not annotated[format]:
        problem = (
            f"holds {len(listing.images)} images but no annotations"
            if not (listing.xml or annotated["coco"])
            else f"holds no {format} annotations"
        )
        raise _no_data(listing, problem + "".join(f"; {path} {reason}" for path, reason in lacking.items()))
    source = voc.read(listing, origin, lists) if format == "voc" else _coco(listing, annotated["coco"], lacking, lists)
    source.notes += [Fault("hidden or of a tool", path, "is skipped") for path in listing.skipped]
    return source


def _coco(listing: Listing, paths: list[str], lacking: dict[str, str], lists: Mapping[str, str] | None) -> Source:
    """The annotation files at `paths`, or those of them that `lists` names; the others are noted."""
    if not lists:
        source = coco.read(listing, paths)
        unnamed = []
    else:
        faults: list[Fault] = []
        set_of = named_lists(lists, dict.fromkeys(paths, ""), lacking, faults)
        source = coco.read(listing, sorted(set_of), set_of.get)
        source.sets |= set(lists)
        source.faults += faults
        unnamed = [path for path in paths if path not in set_of]
    reasons = lacking | dict.fromkeys(unnamed, "is not named in data.lists")
    source.notes += [Fault(UNUSED, path, f"{reason}: not used") for path, reason in sorted(reasons.items())]
    return source


def _is_annotation(listing: Listing, path: str) -> bool:
    return b"<annotation" in listing.read(path)[:4096].replace(b"\0", b"")


def _no_data(listing: Listing, problem: str) -> InputError:
    kinds = ", ".join(f"{count} {extension}" for extension, count in sorted(listing.extensions.items())) or "no files"
    top = ", ".join(sorted(folder for folder in listing.folders if "/" not in folder and folder != ".")[:10])
    description = f"{problem}; found {kinds}" + (f" in the folders {top}" if top else "")
    return InputError(
        [
            Fault(
                "no data",
                str(listing.root),
                description,
                _EXPECTED,
                "Set data.root to the folder of the data set; convert other formats, HEIC say, to JPEG or PNG",
            )
        ]
    )
