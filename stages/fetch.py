"""Fetches one public data set: data/NAME/VOCdevkit.

Reads data/NAME/source.yaml and what the environment variable RCNN_DATA names, if it is set.
"""

import os

from lib.fetch.fetch import AT_HAND, fetch, read_source
from lib.stage.run import Life
from stages.schemas import stage

PARAMS: dict[str, object] = {}


def main(life: Life) -> None:
    """Takes what is at hand, downloads the rest; a killed download resumes from the scratch folder."""
    source = read_source(life.dep(f"data/{life.item}/source.yaml"))
    target = f"data/{life.item}/VOCdevkit"
    at_hand = os.environ.get(AT_HAND)
    life.announce(f"{source.folder}{f', looked for in {at_hand}' if at_hand else ''}", disk=source.disk)
    fetch(source, life.out(target), life.scratch / "downloads", at_hand, life.previous(target))


if __name__ == "__main__":
    stage(main, PARAMS)
