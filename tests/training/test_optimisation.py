import pytest

from lib.stage import params
from lib.stage.errors import InputError
from lib.training.optimisation import Optimisation, rate

SETTINGS = dict(
    iterations=12, optimiser={"name": "adamw"}, learning_rate=0.01, clip_norm=None, weight_decay=0.01,
    bias_multiplier=2.0, head_multiplier=10.0, schedule={"name": "cosine", "warmup": 0.25}, parts=2,
    checkpoint_every=5,
)
STEP = {"name": "step", "every": 5, "gamma": 0.1}
STEPS = {"name": "steps", "at": [5], "gamma": 0.1, "warmup": 0.0}
PASSES = {"passes": 2.5, "least": 10, "most": 100}


def settings(**changes):
    return Optimisation(**{**SETTINGS, **changes})


def test_schedules():
    steps = settings(schedule=STEP, iterations=20)
    assert [rate(i, steps) for i in (0, 4, 5, 10)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = settings(iterations=20)
    assert [rate(i, cosine) for i in (0, 4, 5)] == pytest.approx([1 / 6, 5 / 6, 1])
    assert rate(12.5, cosine) == pytest.approx(0.5)
    assert rate(19, cosine) < 0.02
    uneven = settings(iterations=20, schedule={"name": "steps", "at": [10, 13], "gamma": 0.1, "warmup": 0.2})
    expected = [1 / 5, 4 / 5, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [rate(i, uneven) for i in (0, 3, 4, 9, 10, 12, 13, 19)] == pytest.approx(expected)
    # Without warm-up, over 4 iterations: half of 1 + cos of 0, 45, 90 and 135 degrees.
    plain = settings(iterations=4, schedule={"name": "cosine", "warmup": 0.0})
    assert [rate(i, plain) for i in range(4)] == pytest.approx([1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])


@pytest.mark.parametrize(("total", "per_batch", "expected"), [
    (40, 2, 50),  # two and a half passes of 20 batches
    (41, 2, 52),  # 51.25, rounded up: the last pass is whole
    (5, 2, 10), (0, 2, 10), (500, 2, 100),  # 7, 0 and 625, in the bounds
])
def test_iterations_of_passes(total, per_batch, expected):
    counted = settings(iterations=PASSES).resolved(total, per_batch)
    assert counted.iterations == counted.steps == expected
    assert counted == settings(iterations=expected)
    assert settings().resolved(total, per_batch) == settings()


def test_the_last_step_comes_before_the_end():
    last = settings(iterations=10, schedule={**STEPS, "at": [5, 9]})
    assert [rate(i, last) for i in (4, 5, 8, 9)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert settings(iterations=0, schedule=STEPS).steps == 0


def test_passes_are_counted_without_rounding_errors():
    """1.1 passes over 100 in batches of 2 are 55, though 1.1 * 100 is a trace above 110 in floating point."""
    assert settings(iterations={"passes": 1.1, "least": 1, "most": 1000}).resolved(100, 2).iterations == 55


def test_passes_that_nobody_resolved_are_no_number():
    with pytest.raises(AssertionError, match="resolved"):
        rate(0, settings(iterations=PASSES))


@pytest.mark.parametrize(("changes", "message"), [
    ({"optimiser": {"name": "adamw", "momentum": 0.9}},
     r"x: train.optimiser.momentum: is 0.9; {name: adamw} has no such setting. Allowed: \['name'\]. Remove it."),
    ({"schedule": {"name": "cosine", "warmup": 0.1, "gama": 0.1}},
     r"train.schedule.gama: is 0.1; {name: cosine} has no such setting. Allowed: \['name', 'warmup'\]. Remove it."),
    ({"schedule": {"name": "step", "every": 5}}, r"train.schedule.gamma: is missing. Add it"),
    ({"schedule": {"name": "step", "every": 0, "gamma": 0.1}},
     r"train.schedule.every: is 0. Allowed: greater than or equal to 1"),
    ({"schedule": {"name": "cosin", "warmup": 0.1}},
     r"schedule.name: is 'cosin'. Allowed: {name: step, every, gamma} or {name: steps, at, gamma, warmup} "
     r"or {name: cosine, warmup}. Did you mean cosine\?"),
    ({"schedule": {"warmup": 0.1}},
     r"train.schedule.name: is missing. Allowed: {name: step, every, gamma} or {name: steps, at, gamma, warmup} "
     r"or {name: cosine, warmup}. Add it."),
    ({"optimiser": "sgd"}, r"train.optimiser: is 'sgd' \(text\). Allowed: .* Write optimiser: {name: sgd, momentum}"),
    ({"iterations": -1}, r"train.iterations: is -1. Allowed: greater than or equal to 0. Change it"),
    ({"iterations": "5"},
     r"train.iterations: is '5' \(text\). Allowed: a valid integer, or {passes, least, most}. Write 5 without quotes"),
    ({"iterations": 1.5}, r"train.iterations: is 1.5. Allowed: a valid integer, or {passes, least, most}"),
    ({"iterations": True}, r"train.iterations: is True. Allowed: a valid integer, or {passes, least, most}"),
    ({"iterations": {**PASSES, "passes": 0}}, r"train.iterations.passes: is 0. Allowed: greater than 0"),
    ({"iterations": {"passes": 1, "least": 5}}, r"train.iterations.most: is missing. Add it"),
    ({"iterations": {**PASSES, "mots": 1}},
     r"train.iterations.mots: is not a setting of this stage. Allowed: \['least', 'most', 'passes'\]. Did you me"),
    ({"iterations": {**PASSES, "most": 9}}, r"train.iterations: is .*'most': 9}. Allowed: least up to most"),
    ({"iterations": PASSES, "schedule": STEP},
     r"train.iterations: is {'passes'.*Allowed: a number beside a schedule {name: step} or {name: steps}, "),
    ({"iterations": PASSES, "schedule": STEPS},
     r"train.iterations: is {'passes'.*{name: steps}, which count iterations"),
    *(({"iterations": iterations, "schedule": {**STEPS, "at": [5, 9]}},
       rf"train.iterations: is {iterations}. Allowed: more than 9, the last of schedule.at, or 0; or earlier steps "
       r"there. Change it") for iterations in (5, 9)),
    ({"schedule": {**STEPS, "at": [5, 0]}}, r"train.schedule.at.1: is 0. Allowed: greater than or equal to 1. Change"),
    *(({"schedule": {**STEPS, "at": at}},
       rf"train.schedule.at: is \[{at[0]}, {at[1]}\]. Allowed: ascending iterations, each once. Change it")
      for at in ([7, 5], [5, 5])),
    ({"optimiser": [1]}, r"train.optimiser: is \[1\]. Allowed: {name: sgd, momentum} or {name: adamw}. Change it"),
])
def test_a_wrong_shape_is_named_with_its_key_and_remedy(changes, message):
    with pytest.raises(InputError, match=message):
        params.validate({"train": {**SETTINGS, **changes}}, {"train": Optimisation}, "x")
