"""Claims: the interval decides, and without one the number."""

import pytest

from lib.plots.claims import claim, claim_of_test, open_claims, with_ends


@pytest.mark.parametrize(
    ("found", "limits", "verdict"),
    [
        ((0.6, 0.55, 0.65), {"least": 0.5}, "shown"),
        ((0.6, 0.45, 0.75), {"least": 0.5}, "not shown"),
        ((0.4, 0.3, 0.49), {"least": 0.5}, "shown not to hold"),
        ((0.4, 0.3, 0.5), {"most": 0.5}, "shown"),
        ((0.6, 0.51, 0.7), {"most": 0.5}, "shown not to hold"),
        ((0.6,), {"least": 0.5}, "reached"),
        ((0.5,), {"most": 0.5}, "reached"),
        ((11,), {"least": 12}, "missed"),
    ],
)
def test_verdicts(found, limits, verdict):
    assert claim("it", found, **limits)["verdict"] == verdict


def test_a_claim_states_its_number_and_what_is_wanted():
    row = claim("it", with_ends({"x": 0.612, "x_low": 0.55, "x_high": 0.67}, "x"), least=0.5)
    assert row["measured"] == "0.61 [0.55, 0.67]" and row["wanted"] == "at least 0.5"
    assert claim("it", (11,), most=12)["measured"] == "11" and claim("it", (0.03131,), most=0.05)["measured"] == "0.031"


def test_a_corrected_test_decides_and_what_is_open_is_listed():
    row = {"mean": 1.5, "low": -0.1, "high": 3.1, "verdict": "not shown"}
    rows = [claim_of_test("a", row), claim_of_test("b", row | {"verdict": "higher"}), claim("c", (1,), least=2)]
    assert [found["verdict"] for found in rows] == ["not shown", "shown", "missed"]
    assert open_claims(rows).splitlines() == [
        "missed:", "- c: 1", "shown not to hold:", "- nothing", "not shown:", "- a: 1.5 [-0.1, 3.1]"
    ]  # fmt: skip
