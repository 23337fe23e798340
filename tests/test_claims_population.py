"""Notebook 01's claims come out both ways: true tables hold, tables broken in one place do not."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lib import claims, parametric, statements

SCENES = statements.scenes(64, 10.0)
REPLAYS = statements.luce(torch.tensor([0.0, -1.0, -2.0]), 500, seed=0)
TILTED = statements.lemma_2_1(SCENES, (256, 1024, 4096), (1,))
PURE = statements.pure_loop(SCENES, (2, math.inf), 40)
TAIL = statements.collapse(10.0, (2, math.inf), 40)
MIXED = statements.mixed_loop(SCENES, [(2, 0.5), (4, 0.2), (4, 1.0)], 5)
ACROSS = statements.threshold((2, 4), (0.5, 0.9, 1.1, 2.0), (1e-6,))
RARE = statements.threshold((2,), (0.9, 1.5), (1e-3, 1e-6, 1e-9, 1e-12))
REAL = parametric.mixture((0.0, 2.5), (0.8, 0.2))
STABLE = parametric.theorem_2_2((parametric.LOGISTIC, parametric.GAUSSIAN), REAL, (1.0, 4.0), 2.0, 12)


def broken(table: pd.DataFrame, column: str, row: int, value: float) -> pd.DataFrame:
    """A copy with one entry replaced."""
    table = table.reset_index(drop=True)
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    "claim",
    [
        claims.choice_claim(REPLAYS),
        claims.lemma_2_1_claim(TILTED),
        *claims.lemma_2_2_claims(PURE),
        *claims.theorem_2_1_claims(PURE, TAIL),
        claims.theorem_2_3_claim(MIXED),
        claims.theorem_2_4_claim(MIXED),
        *claims.threshold_claims(ACROSS, RARE),
        *claims.theorem_2_2_claims(STABLE),
    ],
    ids=lambda claim: claim.statement,
)
def test_true_tables_hold(claim):
    assert claim.holds
    assert isinstance(claim.holds, bool)
    assert claim.measured


@pytest.mark.parametrize(
    ("claim", "table", "column"),
    [
        (lambda t: claims.lemma_2_1_claim(t), TILTED, "distance"),
        (lambda t: claims.lemma_2_2_claims(t)[0], PURE, "gain"),
        (lambda t: claims.lemma_2_2_claims(t)[1], PURE, "var"),
        (lambda t: claims.theorem_2_1_claims(t, TAIL)[0], PURE, "kl"),
        (lambda t: claims.theorem_2_1_claims(PURE, t)[1], TAIL, "kl"),
        (lambda t: claims.theorem_2_3_claim(t), MIXED, "gain"),
        (lambda t: claims.theorem_2_4_claim(t), MIXED, "kl"),
        (lambda t: claims.theorem_2_4_claim(t), MIXED, "kl_bound"),
        (lambda t: claims.theorem_2_2_claims(t)[0], STABLE, "contraction"),
    ],
)
def test_what_was_not_computed_does_not_hold(claim, table, column):
    assert claim(table).holds
    last = table["round"] == table["round"].max()
    assert not claim(table.assign(**{column: table[column].mask(last)})).holds


def test_choice_fails_for_a_wrong_law():
    uniform = REPLAYS.assign(kept=1 / 3)
    assert not claims.choice_claim(uniform).holds


def test_lemma_2_1_fails_for_a_wrong_rate_or_a_rise():
    assert not claims.lemma_2_1_claim(TILTED.assign(distance=TILTED["k"] ** -0.5)).holds
    assert not claims.lemma_2_1_claim(broken(TILTED, "distance", 2, 1.0)).holds


def test_lemma_2_2_fails_below_the_bound_and_forgives_rounding():
    bound = PURE["bound"].iloc[5]
    assert not claims.lemma_2_2_claims(broken(PURE, "gain", 5, bound - 1e-9))[0].holds
    assert claims.lemma_2_2_claims(broken(PURE, "gain", 5, bound - 1e-13))[0].holds
    assert not claims.lemma_2_2_claims(PURE.assign(var=0.1))[1].holds


def test_theorem_2_1_fails_for_a_rise_a_stall_or_another_rate():
    assert not claims.theorem_2_1_claims(broken(PURE, "kl", 10, 1e3), TAIL)[0].holds
    assert not claims.theorem_2_1_claims(PURE.assign(kl=1 - PURE["round"] * 1e-3), TAIL)[0].holds
    late = TAIL.assign(kl=1 / (1.0 + 100 * TAIL["round"]))
    assert claims.theorem_2_1_claims(PURE, late)[1].holds
    assert not claims.theorem_2_1_claims(PURE, TAIL.assign(kl=np.exp(-0.3 * TAIL["round"])))[1].holds


@pytest.mark.parametrize("size", [96, 128, 192])  # grids on which cells next to the rim would decide the rate
def test_theorem_2_1_comes_out_alike_on_every_grid(size):
    found = claims.theorem_2_1_claims(statements.pure_loop(statements.scenes(size, 10.0), (2,), 40), TAIL)
    assert [claim.holds for claim in found] == [True, True]


def test_theorem_2_3_fails_for_too_small_a_gain():
    assert not claims.theorem_2_3_claim(broken(MIXED, "gain", 3, 0.0)).holds


def test_theorem_2_4_fails_above_the_bound_and_without_one():
    assert not claims.theorem_2_4_claim(broken(MIXED, "kl", 0, 5.0)).holds
    outside = MIXED[np.isinf(MIXED["kl_bound"])]
    assert not claims.theorem_2_4_claim(outside).holds


def test_threshold_fails_when_nothing_happens_there():
    calm = ACROSS.assign(reached=ACROSS["share"], solved=ACROSS["share"], ratio=1.0)
    assert not claims.threshold_claims(calm, RARE)[0].holds
    assert not claims.threshold_claims(ACROSS[ACROSS["pressure"] < 1], RARE)[0].holds
    assert not claims.threshold_claims(ACROSS.assign(solved=2 * ACROSS["solved"]), RARE)[0].holds


def test_sharpness_fails_for_a_growth_that_dies_out_or_spreads_below():
    dying = RARE.assign(kl=1 / (1 + RARE["share"] ** 0.1))
    assert not claims.threshold_claims(ACROSS, dying)[1].holds
    assert not claims.threshold_claims(ACROSS, RARE.assign(kl=-np.log(RARE["share"])))[1].holds
    assert not claims.threshold_claims(ACROSS, RARE[RARE["share"] > 1e-9])[1].holds  # one share shows no growth


def test_sharpness_is_judged_at_each_setting_and_where_the_set_is_rare():
    """A stronger pressure grows faster, and a set that is not rare grows slower: neither is a growth that ends."""
    rare = statements.threshold((2, 4), (0.5, 0.9, 1.2, 3.0), (1e-2, 1e-6, 1e-8, 1e-12))
    assert claims.threshold_claims(ACROSS, rare)[1].holds


def test_theorem_2_2_fails_for_a_slow_round_or_divergence():
    assert not claims.theorem_2_2_claims(STABLE.assign(bound=0.9 * STABLE["bound"]))[0].holds
    outside = STABLE.index[~STABLE["covered"] & STABLE["contraction"].notna()][0]
    assert not claims.theorem_2_2_claims(broken(STABLE, "contraction", outside, 1.2))[1].holds
    assert not claims.theorem_2_2_claims(STABLE[STABLE["covered"]])[1].holds
