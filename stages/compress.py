"""Fast R-CNN with fc6 and fc7 as truncated singular value decompositions (paper §3.1; compress_net.py).

Reads the trained detector, writes the smaller one and the errors of its layers. Nothing is retrained.
"""

from lib.backbones import low_rank, model_file
from lib.detectors.fast import network as fast
from lib.stage.errors import Fault, InputError
from lib.stage.run import Life
from lib.storage import tables
from stages.schemas import stage

PARAMS = {"{item}.ranks": list[int]}  # singular values kept of fc6 and of fc7 (paper: 1024, 256)


def main(life: Life) -> None:
    """See the module's docstring."""
    ranks = life.params[f"{life.item}.ranks"]
    network, model = fast.load(life.input("model"))
    section, head = model.sections["head"], network.head
    try:
        report = low_rank.compress(head.layers, ranks)
    except ValueError as error:
        fault = Fault("bad ranks", f"params.yaml: {life.item}.ranks", f"is {ranks}: {error}", "", "Change it")
        raise InputError([fault]) from None
    assert model.scale is not None
    sections = {**model.sections, "head": fast.describe_head(head, section["fc"], section["dropout"], ranks)}
    model_file.save(life.out(life.role("makes")), model.backbone, model.classes, model.scale, **sections)
    tables.write_json(life.out(f"results/plots/svd/{life.name}.json"), report)


if __name__ == "__main__":
    stage(main, PARAMS)
