"""`stages.prepare`: what it refuses before it reads a file; what it writes is tested by tests/datasets."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.repo import Repo

from lib.stage.errors import InputError
from lib.stage.params import Compute
from lib.storage import tables
from stages import prepare
from tests.datasets.conftest import Voc, object_xml


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty DVC repository, the working folder, whose `.dvcignore` has one line."""
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True).close()
    (tmp_path / ".dvcignore").write_text(".scratch\n")
    return tmp_path


def prepare_from(root, folder):
    """Runs the stage on a data set of two images under `root`; returns its folder of outputs."""
    voc = Voc(folder / root)
    for number in range(2):
        voc.add(str(number), object_xml())
    voc.lists(train=["0"], test=["1"])
    life = SimpleNamespace(
        params={"data": prepare.Data(root=root, val_fraction=0)}, dep=Path,
        out=lambda path: folder / "made" / path, tick=lambda count: None,
        compute=Compute(device="cpu", workers=0, launcher="loky", memory_gib=1.0),
        entry=SimpleNamespace(outs=("data/tables", "results/data_report.md")),
    )  # fmt: skip
    (folder / "made/data/tables").mkdir(parents=True)
    prepare.main(life)
    return folder / "made"


def test_a_data_set(folder, capsys):
    made = prepare_from("data/mine", folder)
    assert tables.read_json(made / "data/tables/classes.json") == ["dog"]
    assert len(tables.read(made / "data/tables/objects.parquet", tables.OBJECTS)) == 2
    assert (made / "results/data_report.md").read_text().startswith("# Data report\n\n2 images, 2 objects")
    assert "WARNING: Split val has no images." in capsys.readouterr().out


def test_case_101_a_root_that_dvc_does_not_hash(folder):
    with pytest.raises(InputError, match=r"\.dvcignore:1:\.scratch: hides 6 files .* Take the line out"):
        prepare_from(".scratch/mine", folder)
    assert not list((folder / "made/data/tables").iterdir())


def test_case_113_a_root_with_the_outputs(folder):
    with pytest.raises(InputError, match="data.root data: holds data/tables, which is made from it"):
        prepare_from("data", folder)
