"""A tiny VOC folder as archives, for the tests of unpacking and fetching."""

import io
import tarfile

KEEP = ["Annotations", "ImageSets/Main", "JPEGImages"]
FILES = {
    "Annotations/a.xml": b"<annotation/>",
    "Annotations/b.xml": b"<annotation></annotation>",
    "JPEGImages/a.jpg": b"A" * 3000,
    "JPEGImages/b.jpg": b"B" * 2000,
    "ImageSets/Main/train.txt": b"a\n",
    "ImageSets/Main/test.txt": b"b\n",
}


def tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            packed.addfile(info)
    return buffer.getvalue()
