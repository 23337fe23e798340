import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib import experiments, image_claims, image_figures
from lib.claims import (
    Claim,
    by_chance,
    ends,
    explorer_claim,
    own_claims,
    story_claims,
    table,
    taste_claims,
    tour_claims,
    toy_claims,
    worst_gap,
)
from lib.experiments import Experiment

COLLAPSE, TAKEN, RISE, VARIANCE, SURVIVAL, GAIN, CONTROL, TRACKS_CURATED, TRACKS_MIXED, CHANCE = range(10)


def history(value, variance, live, share):
    return pd.DataFrame({
        "round": range(len(value)), "mean_exp_reward": value, "var_exp_reward": variance,
        "live_groups": live, "rewarded_share": share,
    })  # fmt: skip


def histories():
    """Hand-made histories in which every claim holds."""
    return {
        "curated": history([0.1, 0.5, 0.95, 0.94], [0.1, 0.2, 0.05, 0.01], [8, 5, 2, 1], [0.125, 0.5, 0.95, 1.0]),
        "mixed": history([0.1, 0.3, 0.29, 0.3], [0.1] * 4, [8] * 4, [0.125, 0.3, 0.3, 0.31]),
        "control": history([0.1] * 4, [0.1] * 4, [8] * 4, [0.125, 0.12, 0.15, 0.13]).assign(
            share_0=0.125, share_1=0.875
        ),
    }


def verdicts(change=None, *, seeds=2, change_seed=1):
    """Verdicts of two seeds' runs; `change` = (arm, column, round, value) is applied to one of them."""
    exact, runs = histories(), {arm: [] for arm in histories()}
    for seed in range(seeds):
        own = histories()
        if change and seed == change_seed:
            arm, column, row, value = change
            own[arm].loc[row, column] = value
        for arm in runs:
            config = SimpleNamespace(seed=seed, rounds=3, n_keep=1000, n_pool=1000, menus="disjoint")
            runs[arm].append(SimpleNamespace(history=own[arm], config=config))
    data = SimpleNamespace(n_groups=8, rewarded=0)
    return [claim.holds for claim in toy_claims(Experiment(runs, exact), data, separate=True)]


def test_every_claim_holds_where_it_should():
    assert verdicts() == [True] * 10


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        (COLLAPSE, ("curated", "live_groups", 3, 2)),
        (COLLAPSE, ("curated", "live_groups", 3, 0)),
        (TAKEN, ("curated", "rewarded_share", 3, math.nan)),
        (RISE, ("curated", "mean_exp_reward", 1, 0.1)),
        (RISE, ("curated", "mean_exp_reward", 2, 0.4)),
        (RISE, ("curated", "mean_exp_reward", 3, math.nan)),
        (VARIANCE, ("curated", "var_exp_reward", 3, 0.03)),
        (SURVIVAL, ("mixed", "live_groups", 1, 7)),
        (GAIN, ("mixed", "mean_exp_reward", 1, 0.05)),
        (GAIN, ("mixed", "mean_exp_reward", 3, 0.1)),
        (GAIN, ("mixed", "mean_exp_reward", 3, math.nan)),
        (CONTROL, ("control", "rewarded_share", 3, 0.2)),
        (CONTROL, ("control", "rewarded_share", 3, 0.05)),
        (TRACKS_CURATED, ("curated", "rewarded_share", 1, 0.56)),
        (TRACKS_CURATED, ("curated", "rewarded_share", 1, 0.44)),
        (TRACKS_CURATED, ("curated", "rewarded_share", 1, math.nan)),
        (TRACKS_MIXED, ("mixed", "rewarded_share", 2, 0.36)),
        (CHANCE, ("control", "share_1", 3, 1.0)),  # twice the distance: the hand-made shares need not sum to 1
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_claim_falls_with_the_fact_it_rests_on_and_no_other_does(claim, change, seed):
    if change[2] == 3 and change[3] != change[3]:  # one missing number may upset more than one claim
        assert not verdicts(change, change_seed=seed)[claim]
    else:
        assert verdicts(change, change_seed=seed) == [i != claim for i in range(10)]


@pytest.mark.parametrize(
    "change",
    [
        ("curated", "mean_exp_reward", 3, 0.91),
        ("curated", "live_groups", 2, 3),
        ("curated", "rewarded_share", 1, 0.54),
        ("control", "rewarded_share", 3, 0.09),
        ("mixed", "mean_exp_reward", 2, 0.2),
        ("control", "share_1", 3, 0.93),
    ],
)
def test_what_is_not_claimed_may_happen(change):
    assert verdicts(change) == [True] * 10


@pytest.mark.parametrize("menus", ["disjoint", "resample"])
def test_by_chance_is_what_one_set_of_perfect_loops_in_twenty_exceeds(menus):
    config = SimpleNamespace(rounds=4, n_keep=500, n_pool=500, menus=menus)
    exact = pd.DataFrame({"round": range(5), "share_0": 0.3, "share_1": 0.7})
    once, three = (
        by_chance(Experiment({"control": [SimpleNamespace(config=config)] * n}, {"control": exact}), 0)
        for n in (1, 3)
    )
    # Each round of draws adds p (1 - p) / n to the variance of a share, each measurement as much.
    draws = {"disjoint": 4, "resample": 8}[menus]
    spread = np.sqrt(0.3 * 0.7 / 500 * np.array([draws + 2, draws + 1]))
    assert (once.change, once.apart) == pytest.approx(tuple(1.96 * spread), rel=0.03)
    assert once.mean == once.apart
    assert once.usual == pytest.approx(three.usual, rel=0.03) == pytest.approx(0.798 * spread[1], rel=0.03)
    assert three.usual < three.mean < three.apart
    assert (three.change, three.apart) == pytest.approx(tuple(2.39 * spread), rel=0.03)


def test_ends_are_of_the_last_round_and_of_all_seeds():
    run = {"round": [0, 1], "x": [9.0, 1.0]}, {"round": [0, 1], "x": [-9.0, 3.0]}
    runs = [SimpleNamespace(history=pd.DataFrame(r), config=SimpleNamespace(seed=s)) for s, r in enumerate(run)]
    exact = pd.DataFrame({"round": [0, 1], "x": [9.0, 2.5]})
    perfect = pd.DataFrame({"repeat": [0, 0, 1, 1], "round": [0, 1, 0, 1], "x": [9.0, 2.0, -9.0, 4.0]})
    for history in (*(r.history for r in runs), exact):
        history["share_0"] = 1.0
    found = ends(Experiment({"mixed": runs}, {"mixed": exact}, {"mixed": perfect}), ["x"])
    assert found.loc[("mixed", "x")].tolist() == [1.0, 2.0, 3.0, 2.5, 2.0, 4.0]


def test_the_rewarded_group_must_hold_95_percent_in_every_seed():
    assert not verdicts(("curated", "rewarded_share", 3, 0.94))[TAKEN]
    assert verdicts(("curated", "rewarded_share", 3, 0.951))[TAKEN]


def test_worst_gap_is_over_rounds_and_seeds_and_any_column():
    run = SimpleNamespace(history=histories()["mixed"], config=SimpleNamespace(seed=0))
    exact = histories()["mixed"].assign(mean_exp_reward=[0.1, 0.35, 0.29, 0.28])
    experiment = Experiment({"mixed": [run]}, {"mixed": exact})
    assert worst_gap(experiment, "mixed", "mean_exp_reward") == pytest.approx(0.05)
    assert worst_gap(experiment, "mixed") == 0


def test_the_table_shows_verdicts_and_on_request_their_numbers():
    claims = [Claim("it rises", "Thm 1", True, "0.1 -> 0.9"), Claim("it falls", "ours", False, "no")]
    assert list(table(claims).columns) == ["claim", "paper", "ours"]
    assert table(claims)["ours"].tolist() == ["holds", "does not hold"]
    assert table(claims, measured=True)["measured"].tolist() == ["0.1 -> 0.9", "no"]


def test_verdicts_are_plain_booleans():
    assert all(type(v) is bool or isinstance(v, np.bool_) for v in verdicts())


def own_verdicts(change=None):
    """Verdicts of one run in each arm on two groups; `change` = (arm, column, round, value)."""
    shares = {"curated": [0.5, 1.0], "mixed": [0.5, 0.7], "control": [0.5, 0.5]}
    runs, exact = {}, {}
    for arm, share in shares.items():
        columns = {"round": range(2), "share_0": share, "share_1": [1 - x for x in share]}
        exact[arm] = pd.DataFrame(columns)
        live = [sum(x >= 0.01 for x in pair) for pair in zip(share, columns["share_1"], strict=True)]
        measured = exact[arm].assign(mean_reward=share, mean_exp_reward=share, live_groups=live)
        if change and change[0] == arm:
            measured.loc[change[2], change[1]] = change[3]
        runs[arm] = [SimpleNamespace(history=measured, config=SimpleNamespace(seed=0))]
    return [claim.holds for claim in own_claims("x", Experiment(runs, exact))]


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        (0, ("curated", "live_groups", 1, 2)),
        (0, ("curated", "mean_reward", 1, 0.4)),
        (0, ("curated", "mean_reward", 1, math.nan)),
        (1, ("mixed", "live_groups", 0, 1)),
        (1, ("mixed", "mean_exp_reward", 1, 0.5)),
        (2, ("curated", "share_0", 1, 0.6)),
        (2, ("mixed", "share_0", 0, math.nan)),
    ],
)
def test_each_claim_about_ones_own_loop_can_fail(claim, change):
    assert own_verdicts() == [True] * 3
    assert [i for i, holds in enumerate(own_verdicts(change)) if not holds] == [claim]


def test_the_tours_claims_hold_and_can_fail():
    table = pd.DataFrame({
        "loop": ["curated", "curated", "mixed", "mixed"], "round": [0, 1, 0, 1],
        "share_0": [0.5, 0.02, 0.5, 0.3], "share_1": [0.5, 0.98, 0.5, 0.7], "mean": [0.5, 1.0, 0.5, 0.7],
    })  # fmt: skip
    assert [claim.holds for claim in tour_claims(table, 1)] == [True, True, True]
    assert [claim.holds for claim in tour_claims(table, 0)] == [False, True, True]
    table.loc[3, "share_0"] = 0.005
    assert [claim.holds for claim in tour_claims(table, 1)] == [True, False, True]
    table.loc[3, ["share_0", "mean"]] = 0.3, 0.5
    assert [claim.holds for claim in tour_claims(table, 1)] == [True, True, False]


def test_a_loop_that_stands_still_keeps_no_promise():
    row = {
        "seed": 0,
        "mean_reward": 1.0,
        "entropy": 2.0,
        "frechet_distance_evaluator": 1.0,
        "precision": 0.5,
        "recall": 0.5,
    }
    row |= {f"share_{i}": 0.1 for i in range(10)} | {"n_pool": 1024}
    still = pd.DataFrame([row | {"round": t} for t in range(3)])
    arms = dict.fromkeys(experiments.ARMS, still)

    def held(check, *options, **change):
        tables = arms | change
        loops = SimpleNamespace(arms=tuple(tables), finite=arms, histories=tables.get)
        return "".join("T" if claim.holds else "F" for claim in check(loops, *options))

    assert held(image_claims.airplane_claims, 0, 5.0, 256) == "FFFFFFTT"
    rising = still.assign(share_0=[0.1, 0.2, 0.3])
    assert held(image_claims.airplane_claims, 0, 5.0, 256, control=rising) == "FFFFFFFT"
    assert held(image_claims.airplane_claims, 0, 5.0, 256, curated=rising)[-1] == "F"  # beyond all perfect models
    assert held(image_claims.bias_claims, "fitted", 15.0, 256) == "FTFTFFT"
    assert held(image_claims.quality_claims) == "TFTFFFT"
    assert held(image_claims.repeat_claims, 15.0, 256) == "FT"
    study = {f"K = {k}, disjoint": SimpleNamespace(histories=arms.get) for k in (2, 4)}
    assert [claim.holds for claim in image_claims.study_claims(study, 0, 256)] == [False, False]


@pytest.mark.parametrize("column", ["mean_reward", "entropy", "frechet_distance_evaluator", "share_3"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_round_that_was_not_measured_keeps_no_promise(column, seed):
    """As if every claim on images held: rises and falls in each of two runs; then one number is missing."""
    row = {"entropy": 2.0, "frechet_distance_evaluator": 1.0, "precision": 0.5, "recall": 0.5, "n_pool": 1024}
    row |= {f"share_{i}": 0.1 for i in range(10)}
    whole = pd.DataFrame([row | {"round": t, "seed": s, "mean_reward": 1.0 + t} for s in (0, 1) for t in range(3)])
    gap = whole.assign(**{column: whole[column].mask((whole["seed"] == seed) & (whole["round"] == 2))})

    def holds(table):
        loops = SimpleNamespace(arms=experiments.ARMS, finite={"curated": whole}, histories=lambda arm: table)
        name, check = {
            "mean_reward": ("rises every round", lambda: image_claims.airplane_claims(loops, 3, 5.0, 256)),
            "entropy": ("entropy never falls", lambda: image_claims.bias_claims(loops, "", 15.0, 256)),
            "frechet_distance_evaluator": ("never exceeds", lambda: image_claims.quality_claims(loops)),
            "share_3": ("of what perfect models do", lambda: image_claims.airplane_claims(loops, 3, 5.0, 256)),
        }[column]
        return next(claim.holds for claim in check() if name in claim.statement)

    assert holds(whole)
    assert not holds(gap)


def test_runs_are_held_against_their_common_start():
    """Two runs of one p_0, which differ in round 0 by the draw: both end above what it has in the mean."""
    rows = [(0, 0, 0.8), (1, 0, 0.95), (0, 1, 0.9), (1, 1, 0.89)]
    history = pd.DataFrame(rows, columns=["round", "seed", "precision"])
    assert image_claims._change(history, ["precision"])[:, 0] == pytest.approx([0.1, 0.04])


def test_what_the_explorer_claims_falls_with_what_it_rests_on():
    assert explorer_claim(pd.DataFrame({"difference": [0.001, 0.009]})).holds
    assert not explorer_claim(pd.DataFrame({"difference": [0.001, 0.011]})).holds

    def held(pure, mixed):
        stories = {
            name: SimpleNamespace(setting=SimpleNamespace(lam=lam), curves=pd.DataFrame({"mean": mean}))
            for name, lam, mean in (("pure", math.inf, pure), ("mixed", 1.0, mixed))
        }
        return [claim.holds for claim in story_claims(stories)]

    assert held([0.1, 0.9, 0.96], [0.1, 0.5, 0.6]) == [True, True, True]
    assert held([0.1, 0.97, 0.96], [0.1, 0.5, 0.6]) == [False, True, True]
    assert held([0.1, 0.9, 0.96], [0.1, 0.6, 0.5]) == [True, False, True]
    assert held([0.1, 0.9, 0.94], [0.1, 0.5, 0.6]) == [True, True, False]
    assert held([0.1, 0.9, 0.96], [0.1, 0.5, 0.96]) == [True, True, False]


def test_the_curators_claims_are_about_most_clicks_and_say_how_many():
    study = pd.DataFrame({"clicks": [8, 100], "agreement": [0.1, 0.9], "distance": [0.9, 0.1], "same_place": True})
    assert [claim.holds for claim in taste_claims(study)] == [True, True]
    assert all("100 clicks" in claim.statement for claim in taste_claims(study))
    assert [claim.holds for claim in taste_claims(study.replace(0.9, 0.8))] == [False, True]
    assert [claim.holds for claim in taste_claims(study.assign(distance=0.2))] == [True, False]
    assert [claim.holds for claim in taste_claims(study.assign(same_place=False))] == [True, False]


def test_a_real_line_lies_where_real_images_score():
    rows = {"round": [0, 1], "seed": 0, "recall": [0.5, 0.4]}
    loops = SimpleNamespace(arms=("curated",), histories=lambda arm: pd.DataFrame(rows), exact={}, finite={})
    [axis] = image_figures.arm_curves(loops, ["recall"], "x", {"recall": 0.8}).axes
    assert [line.get_ydata() for line in axis.lines if line.get_linestyle() == "-."] == [[0.8, 0.8]]


ENDS = {  # first and last value of each column, in every run: all claims hold
    "curated": {"share_0": (0.1, 0.95), "share_1": (0.9, 0.05), "mean_reward": (1.0, 4.0), "entropy": (0.69, 0.1),
                "frechet_distance_evaluator": (1.0, 3.0), "precision": (0.5, 0.5), "recall": (0.6, 0.3)},
    "mixed": {"share_0": (0.5, 0.5), "share_1": (0.5, 0.5), "mean_reward": (1.0, 2.0), "entropy": (0.69, 0.69),
              "frechet_distance_evaluator": (1.0, 1.0), "precision": (0.5, 0.6), "recall": (0.6, 0.6)},
    "control": {"share_0": (0.5, 0.5), "share_1": (0.5, 0.5), "mean_reward": (1.0, 1.0), "entropy": (0.69, 0.69),
                "frechet_distance_evaluator": (1.0, 1.0), "precision": (0.5, 0.5), "recall": (0.6, 0.6)},
}  # fmt: skip
CHECKS = {
    "airplane": lambda loops: image_claims.airplane_claims(loops, 0, 5.0, 1000),
    "bias": lambda loops: image_claims.bias_claims(loops, "fitted", 5.0, 1000),
    "quality": image_claims.quality_claims,
    "repeat": lambda loops: image_claims.repeat_claims(loops, 5.0, 1000),
}


def image_verdicts(check, seed=None, arm=None, column=None, last=None):
    """Verdicts on two runs of one round; in one of them a column ends elsewhere."""
    tables = {}
    for name, columns in ENDS.items():
        rows = [
            {"seed": s, "round": t, "n_pool": 4000} | {c: value[t] for c, value in columns.items()}
            for s in (0, 1) for t in (0, 1)
        ]  # fmt: skip
        tables[name] = pd.DataFrame(rows)
    perfect = {name: table.copy() for name, table in tables.items()}
    if arm:
        at = (tables[arm]["seed"] == seed) & (tables[arm]["round"] == 1)
        tables[arm].loc[at, column] = last
    loops = SimpleNamespace(arms=tuple(tables), finite=perfect, histories=tables.get)
    return [claim.holds for claim in CHECKS[check](loops)]


@pytest.mark.parametrize(
    ("check", "claim", "change"),
    [
        ("airplane", 0, ("curated", "share_0", 0.89)),
        ("airplane", 1, ("curated", "share_1", 0.91)),
        ("airplane", 2, ("curated", "mean_reward", 0.9)),
        ("airplane", 3, ("curated", "frechet_distance_evaluator", 1.4)),
        ("airplane", 4, ("curated", "recall", 0.58)),
        ("airplane", 5, ("curated", "recall", 1.0)),
        ("airplane", 5, ("control", "frechet_distance_evaluator", 6.0)),
        ("airplane", 6, ("control", "share_0", 0.61)),
        ("airplane", 7, ("curated", "share_0", 0.8)),
        ("bias", 0, ("curated", "entropy", 1.29)),
        ("bias", 1, ("control", "entropy", 0.19)),
        ("bias", 2, ("curated", "mean_reward", 1.05)),
        ("bias", 3, ("mixed", "entropy", 0.6)),
        ("bias", 4, ("mixed", "mean_reward", 1.05)),
        ("bias", 5, ("curated", "entropy", 1.29)),
        ("bias", 6, ("curated", "entropy", 0.3)),
        ("quality", 0, ("mixed", "frechet_distance_evaluator", 1.6)),
        ("quality", 1, ("mixed", "precision", 0.5)),
        ("quality", 2, ("mixed", "recall", 0.5)),
        ("quality", 6, ("control", "frechet_distance_evaluator", 1.6)),
        ("repeat", 0, ("curated", "share_0", 0.7)),
        ("repeat", 1, ("curated", "mean_reward", 3.5)),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_claim_of_several_runs_falls_with_any_of_them(check, claim, change, seed, monkeypatch):
    monkeypatch.setattr(image_claims.finite, "NEUTRAL", 500)
    assert all(image_verdicts(check))
    assert not image_verdicts(check, seed, *change)[claim]


def test_the_study_of_k_falls_with_any_of_its_settings():
    def held(**gains):
        study = {}
        for name, gain in ({"2_a": 0.1, "4_a": 0.2, "2_b": 0.1, "4_b": 0.2} | gains).items():
            k, rule = name.split("_")
            table = pd.DataFrame({"round": [0, 1], "seed": 0, "n_pool": 4000, "share_0": [0.1, 0.1 + gain]})
            table["share_1"] = 1 - table["share_0"]
            study[f"K = {k}, {rule}"] = SimpleNamespace(histories={"curated": table}.get)
        return [claim.holds for claim in image_claims.study_claims(study, 0, 1000)]

    assert held() == [True, True]
    assert held(**{"2_b": 0.01}) == [False, True], "no more than by chance"
    assert held(**{"4_a": 0.05}) == held(**{"4_b": 0.05}) == [True, False]


def test_the_curators_claims_fall_with_any_of_the_runs():
    study = pd.DataFrame({"clicks": 100, "agreement": [0.9, 0.9], "distance": 0.1, "same_place": [True, True]})
    for column, value, verdicts in (
        ("agreement", 0.8, [False, True]),
        ("distance", 0.2, [True, False]),
        ("same_place", False, [True, False]),
    ):
        for run in (0, 1):
            broken = study.copy()
            broken.loc[run, column] = value
            assert [claim.holds for claim in taste_claims(broken)] == verdicts


@pytest.mark.parametrize(
    ("claim", "arm", "column", "last"),
    [
        (0, "curated", "mean_reward", 0.4),
        (0, "curated", "live_groups", 2),
        (1, "mixed", "mean_exp_reward", 0.4),
        (1, "mixed", "live_groups", 1),
        (2, "mixed", "tv_to_exact", 0.2),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_claims_about_ones_own_loop_fall_with_any_of_its_runs(claim, arm, column, last, seed):
    row = {"share_0": 0.5, "share_1": 0.5, "live_groups": 2, "tv_to_exact": 0.0}
    rows = [
        row | {"seed": s, "round": t, "mean_reward": 0.5 + t / 4, "mean_exp_reward": 0.5 + t / 4}
        for s in (0, 1) for t in (0, 1)
    ]  # fmt: skip
    tables = {name: pd.DataFrame(rows) for name in ("curated", "mixed")}
    tables["curated"].loc[tables["curated"]["round"] == 1, "live_groups"] = 1
    loops = SimpleNamespace(histories=tables.get)
    assert [c.holds for c in own_claims("x", loops)] == [True] * 3
    tables[arm].loc[(tables[arm]["seed"] == seed) & (tables[arm]["round"] == 1), column] = last
    assert [c.holds for c in own_claims("x", loops)] == [i != claim for i in range(3)]
