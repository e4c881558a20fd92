"""The params of all stages at once, and the values that dvc.yaml puts into its own commands."""

import pytest

from lib.stage import pipeline, schemas
from lib.stage.pipeline import Entry

VALUES = {"seed": 3, "rcnn": {"C": 0.1}, "proposals": {"table": "a.parquet"}, "data": {"root": "own set"}}
COMPUTE = {"compute": {"device": "cpu", "workers": 0, "launcher": "loky", "memory_gib": 1.0}}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """(declared params, what the script reads, changes of the values) -> the messages."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("cmd: x proposals=${proposals.table}\ndeps: ['${data.root}']\n")

    def run(declared, schema, **changes):
        entry = Entry("svm@rcnn", "stages.train_svm", ("rcnn",), declared, (), (), ())
        monkeypatch.setattr(pipeline, "entries", lambda: {"svm@rcnn": entry})
        values = {**VALUES, **COMPUTE, **changes}
        return [str(fault) for fault in schemas.faults(values, {"svm@rcnn": schema})]

    return run


def test_nothing_is_wrong(check):
    assert check(("seed", "rcnn.C"), {"seed": int, "{item}.C": float}) == []


def test_what_a_script_reads_and_dvc_yaml_lacks_is_named_with_the_remedy(check):
    (message,) = check(("rcnn.C",), lambda item: {"seed": int, f"{item}.C": float}, seed=3)[:1]
    assert message == "dvc.yaml: svm@rcnn: params: lacks seed, which stages.train_svm reads. Add them there."


def test_what_dvc_yaml_lists_and_no_script_reads_is_named(check):
    messages = check(("seed", "rcnn.C"), {"{item}.C": float})
    assert len(messages) == 1
    assert "lists seed, which stages.train_svm does not read. Allowed: rcnn.C. Remove them there." in messages[0]


def test_all_faults_come_at_once(check):
    messages = check(("rcnn.C",), {"seed": int, "{item}.C": float}, rcnn={"C": "high"})
    assert any("lacks seed" in message for message in messages)
    assert any("rcnn.C: is 'high'" in message for message in messages)


@pytest.mark.parametrize("path", ["my sets/p.parquet", "it's.parquet", ""])
def test_a_path_that_would_be_two_words_of_a_command_is_refused(check, path):
    (message,) = check(("seed", "rcnn.C"), {"seed": int, "{item}.C": float}, proposals={"table": path})
    assert message.startswith("params.yaml: proposals.table: is ")


def test_a_folder_that_is_only_a_dep_may_have_blanks(check):
    assert check(("seed", "rcnn.C"), {"seed": int, "{item}.C": float}, data={"root": "my own set"}) == []
