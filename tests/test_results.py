"""Results: stable JSON, refusals, Wilson's interval."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError
from scipy.stats import binomtest

from octavo.errors import UserError
from octavo.numbers.results import ClassResult, Contribution, Interval, Report, SystemResult, wilson


def report(**changes: object) -> Report:
    """A small report; `changes` replace fields."""
    half = Interval(value=0.5, low=0.25, high=0.75)
    fields: dict[str, object] = {
        "split": "val",
        "n": 4,
        "classes": ("naïve", "b"),
        "headline": "accuracy",
        "rule": "by hand",
        "rules": {"accuracy": "share"},
        "level": 0.95,
        "replicates": 10,
        "seed": 0,
        "combine": "greedy",
        "fitted_on": "holdout",
        "flattered": False,
        "majority": 0.5,
        "systems": (
            SystemResult(name="a", kind="member", metrics={"nll": half, "accuracy": half}),
            SystemResult(name="ensemble", kind="ensemble", metrics={"accuracy": half}),
        ),
        "best_member": "a",
        "gain": Interval(value=0.0, low=None, high=None),
        "contributions": (Contribution(member="a", weight=1.0, leave_one_out=None),),
        "per_class": (
            ClassResult(name="b", support=0, predicted=0, accuracy=None, precision=None, recall=None, f1=None),
        ),
    }
    return Report.model_validate(fields | changes)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 30), (30, 30), (1, 30), (2068, 2500), (7, 9)])
def test_wilson_equals_scipy(hits: int, n: int, level: float) -> None:
    expected = binomtest(hits, n).proportion_ci(level, method="wilson")
    got = wilson(hits, n, level)
    assert got.value == pytest.approx(hits / n, abs=1e-9)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=2e-9)


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="hits"):
        wilson(hits, n)


def test_round_trip_and_stable_text() -> None:
    first = report()
    text = first.to_json()
    assert Report.from_json(text) == first
    assert Report.from_json(text).to_json() == text
    assert text.endswith("}\n") and "naïve" in text
    keys = list(json.loads(text))
    assert keys == sorted(keys)


def test_order_of_metrics_does_not_change_the_text() -> None:
    systems = report().systems
    turned = systems[0].model_copy(update={"metrics": dict(reversed(systems[0].metrics.items()))})
    assert report(systems=(turned, systems[1])).to_json() == report().to_json()


def test_numbers_differing_in_the_last_bits_give_equal_text() -> None:
    assert 0.1 + 0.2 != 0.3
    assert report(majority=0.1 + 0.2).to_json() == report(majority=0.3).to_json()
    assert '"majority": 0.0,' in report(majority=-1e-15).to_json()  # and no minus zero


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_are_finite(bad: float) -> None:
    with pytest.raises(ValidationError):
        report(majority=bad)


def test_interval_ends() -> None:
    with pytest.raises(ValidationError, match="both"):
        Interval(value=0.5, low=0.1, high=None)
    with pytest.raises(ValidationError, match="above"):
        Interval(value=0.5, low=0.6, high=0.1)
    assert Interval(value=0.2, low=0.1, high=0.3).excludes_zero
    assert Interval(value=-0.2, low=-0.3, high=-0.1).excludes_zero
    assert not Interval(value=0.2, low=0.0, high=0.3).excludes_zero
    assert not Interval(value=0.2, low=None, high=None).excludes_zero


def test_results_are_frozen_and_refuse_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        report().n = 5  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError, match="wall_seconds"):
        report(wall_seconds=3.0)


def test_ensemble_is_found() -> None:
    assert report().ensemble.kind == "ensemble"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "nonsense"])
def test_broken_file_is_told_by_name(text: str) -> None:
    with pytest.raises(UserError, match=r"^runs/x/metrics\.json: .*evaluate again$"):
        Report.from_json(text, "runs/x/metrics.json")
