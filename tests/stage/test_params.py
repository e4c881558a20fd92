from typing import Literal

import pytest
from pydantic import Field

from lib.stage import params
from lib.stage.errors import InputError


class Block(params.Settings):
    learning_rate: float = Field(gt=0)
    kind: Literal["linear", "cosine"]
    rows: list[str]
    limit: int | None = None


GOOD = {"block": {"learning_rate": 0.1, "kind": "linear", "rows": ["a"]}}


def write(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def message(values, schema=None):
    with pytest.raises(InputError) as caught:
        params.validate(values, schema or {"block": Block})
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1e3", 1000.0),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("'1e-3'", "1e-3"),
        ("null", None),
        ("true", True),
    ],
)
def test_yaml_1_2(tmp_path, text, value):
    loaded = params.load(write(tmp_path, f"a: {text}\n"))["a"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_classes_named_like_booleans_stay_text(tmp_path):
    assert params.load(write(tmp_path, "a: [no, yes, on, person]\n"))["a"] == ["no", "yes", "on", "person"]


@pytest.mark.parametrize("text", [".nan", ".inf", "-.inf"])
def test_not_finite_is_refused_by_name(tmp_path, text):
    with pytest.raises(InputError, match=r"block\.a: is"):
        params.load(write(tmp_path, f"block:\n  a: {text}\n"))


@pytest.mark.parametrize("text", ["a: [1, 2", "- 1\n- 2\n", ""])
def test_broken_yaml(tmp_path, text):
    with pytest.raises(InputError, match=r"params\.yaml"):
        params.load(write(tmp_path, text))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="cp presets/default.yaml params.yaml"):
        params.load(tmp_path / "params.yaml")


def test_good_values_are_typed():
    block = params.validate(GOOD, {"block": Block, "block.rows": list[str]})
    assert block["block"].learning_rate == 0.1
    assert block["block.rows"] == ["a"]


def test_an_integer_is_a_number_and_text_is_not():
    whole = {"block": {**GOOD["block"], "learning_rate": 1}}
    assert params.validate(whole, {"block": Block})["block"].learning_rate == 1
    text = message({"block": {**GOOD["block"], "learning_rate": "1e-3"}})
    assert "block.learning_rate: is '1e-3' (text)" in text
    assert "Write 0.001 without quotes" in text


def test_unknown_key_with_suggestion():
    text = message({"block": {**GOOD["block"], "learnig_rate": 1.0}})
    assert "block.learnig_rate: is not a setting of this stage" in text
    assert "Did you mean learning_rate?" in text
    assert "?." not in text


def test_all_faults_at_once():
    text = message({"block": {"learning_rate": -1.0, "kind": "cosin", "rows": "a", "limit": 1.5}})
    for part in (
        "learning_rate: is -1.0",
        "greater than 0",
        "kind: is 'cosin'",
        "Did you mean cosine?",
        "rows: is 'a'",
        "limit: is 1.5",
    ):
        assert part in text


def test_an_unknown_key_of_an_inner_block_is_told_by_that_block():
    class Outer(params.Settings):
        inner: Block

    assert message({"outer": {"inner": {**GOOD["block"], "kin": 1}}}, {"outer": Outer}) == (
        "params.yaml: outer.inner.kin: is not a setting of this stage. "
        "Allowed: ['kind', 'learning_rate', 'limit', 'rows']. Did you mean kind?"
    )


def test_the_whole_file_is_the_empty_key():
    assert params.validate(GOOD["block"], {"": Block})[""].kind == "linear"
    assert message({**GOOD["block"], "rowss": 1}, {"": Block}).startswith("params.yaml: rowss: is not a setting")


def test_missing_block_with_suggestion():
    assert "Did you mean block?" in message({"blok": {}, "block": {}}, {"blocks": Block})


def test_setting_that_no_stage_reads():
    faults = params.unread({"rcnn": {"svmm": {"C": 1}, "svm": {"C": 1}}}, {"rcnn.svm"})
    assert len(faults) == 1
    assert "rcnn.svmm.C: is not a setting of any stage" in str(faults[0])
    assert "Did you mean rcnn.svm?" in str(faults[0])


def test_a_key_in_the_wrong_case_and_a_whole_number_in_quotes():
    assert "Did you mean learning_rate?" in message({"block": {**GOOD["block"], "LEARNING_RATE": 1.0}})
    faults = message({"size": "1e8", "rate": "1e-2"}, {"size": int, "rate": float})
    assert "Write 100000000 without quotes" in faults
    assert "Write 0.01 without quotes" in faults


def test_numbers_below_zero_that_numpy_or_joblib_would_take_otherwise():
    text = message(
        {"seed": -1, "compute": {"device": "auto", "workers": -2, "launcher": "loky", "memory_gib": 1.0}},
        {"seed": params.Seed, "compute": params.Compute},
    )
    assert "seed: is -1" in text
    assert text.count("compute.workers: is -2") == 1
    assert "compute.workers: is -2. Allowed: 'auto' or greater than or equal to 0." in text
