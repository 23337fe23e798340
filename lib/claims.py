"""What the paper says, as functions of measured runs. Each returns a verdict and the numbers it rests on."""

import itertools
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from lib import finite
from lib.experiments import Experiment
from lib.explorer import Path
from lib.metrics import LIVE, total_variation
from lib.seeds import derive
from lib.statements import tail_slope
from lib.toy import Toy

LEVEL = 0.95  # "by chance" is what this share of sets of loops stays within in which nothing but chance is at work
TRACKS = 0.05  # largest distance of a share from its exact value that we call agreement
FAR = 0.15  # total variation distance: twice that of the furthest of twenty perfect loops that keep 750 a round
RARE = 1e-6  # a rewarded set of at most this share counts as rare
ROUNDING = 1e-12  # how far float64 sums over a grid may undercut a bound that is tight


@dataclass(frozen=True)
class Claim:
    """One checked statement.

    Attributes:
        statement: what is claimed.
        source: where the paper says it, or "ours" for an expectation of this project.
        holds: the verdict.
        measured: the numbers behind it, for people.
    """

    statement: str
    source: str
    holds: bool
    measured: str


def table(claims: list[Claim], *, measured: bool = False) -> pd.DataFrame:
    """Claims as a table; verdicts alone by default, since they are equal on every machine."""
    rows = [
        {"claim": c.statement, "paper": c.source, "ours": "holds" if c.holds else "does not hold"}
        | ({"measured": c.measured} if measured else {})
        for c in claims
    ]
    return pd.DataFrame(rows, columns=["claim", "paper", "ours", *(["measured"] if measured else [])])


def toy_claims(experiment: Experiment, data: Toy, *, separate: bool) -> list[Claim]:
    """The toy figures' claims: collapse, survival, rising reward, agreement with the exact dynamics.

    Args:
        experiment: all three arms.
        data: its groups are modes or arcs.
        separate: groups are modes with gaps between them, of which one can say that they died; pieces of a
            curve shade into one another, and a count of live ones hangs on where the cut is made.
    """
    curated, mixed, control = (experiment.histories(arm) for arm in ("curated", "mixed", "control"))
    first, last = curated["round"] == 0, curated["round"] == curated["round"].max()
    live_curated, live_mixed = curated["live_groups"][last], mixed["live_groups"].groupby(mixed["round"]).min()
    ratio = curated["var_exp_reward"][last].max() / curated["var_exp_reward"][first].mean()
    value = mixed.pivot(index="round", columns="seed", values="mean_exp_reward").to_numpy()
    gain = (value[1:] - value[0]).min()
    drift = np.abs(_last(control, "rewarded_share") - _first(control, "rewarded_share")).max()
    wander, chance = _last(control, "tv_to_exact").max(), by_chance(experiment, data.rewarded)
    taken = curated["rewarded_share"][last].min(skipna=False)
    died = Claim(
        "curated only: one mode is left alive",
        "Thm 2.1",
        bool((live_curated == 1).all()),
        f"{sorted(live_curated)} of {data.n_groups} live at the end",
    )
    claims = [
        *([died] if separate else []),
        Claim(
            "curated only: the rewarded group takes over (95 % or more)",
            "Toy figures",
            bool(taken >= 0.95),
            f"at least {taken:.3f} at the end; {sorted(live_curated)} of {data.n_groups} groups above 1 %",
        ),
        Claim(
            "curated only: E[e^r] rises every round until it is within 10 % of its top",
            "Lemma 2.2",
            _rises(curated),
            f"{_ends(curated, 'mean_exp_reward')}",
        ),
        Claim(
            "curated only: Var[e^r] falls to a fifth of its start or less",
            "Lemma 2.2",
            ratio <= 0.2,
            f"at most {ratio:.3f} of it",
        ),
        Claim(
            "with real data: every group stays alive",
            "Toy figures",
            bool((live_mixed == data.n_groups).all()),
            f"at least {live_mixed.min()} of {data.n_groups} in every round",
        ),
        Claim(
            "with real data: E[e^r] lies above its start in every round",
            "Thm 2.3",
            bool(gain > 0),
            f"least gain {gain:.3f}",
        ),
        Claim(
            "without choice (K = 1) the rewarded share changes no more than by chance",
            "ours",
            bool(drift <= chance.change),
            f"largest absolute change {drift:.3f}, by chance {chance.change:.3f}",
        ),
    ]
    for arm, name in (("curated", "curated only"), ("mixed", "with real data")):
        gap = worst_gap(experiment, arm)
        claims.append(
            Claim(
                f"{name}: the rewarded share stays within {TRACKS} of the exact dynamics",
                "ours",
                gap <= TRACKS,
                f"largest distance {gap:.3f}",
            )
        )
    return [
        *claims,
        Claim(
            "without choice (K = 1) the shares end no further off than by chance",
            "ours",
            bool(wander <= chance.apart),
            f"total variation distance at most {wander:.3f}, by chance {chance.apart:.3f}",
        ),
    ]


@dataclass(frozen=True)
class Chance:
    """What the loops of a perfect model do without any choice: one set of as many in twenty goes further.

    Attributes:
        change: |change| of the rewarded share from the first round to the last, where it is largest in the set.
        apart: total variation distance of the shares from the exact ones at the end, likewise.
        mean: the mean of that distance over the set, likewise.
        usual: that distance on average over all loops.
    """

    change: float
    apart: float
    mean: float
    usual: float


def by_chance(experiment: Experiment, rewarded: int) -> Chance:
    """`Chance` for as many loops as the control has runs, from the exact shares.

    Args:
        experiment: with the control.
        rewarded: number of the rewarded group.
    """
    runs = experiment.runs["control"]
    config = runs[0].config
    start = experiment.exact["control"].filter(like="share_").iloc[0].to_numpy()
    start = start / start.sum()
    sizes = {"n_keep": config.n_keep, "n_pool": config.n_pool, "menus": config.menus}
    ends = finite.neutral(start, config.rounds, runs=len(runs), **sizes)
    rng = np.random.default_rng(derive(0, "first round"))  # of which the shares are measured, too
    first = rng.binomial(config.n_pool, start[rewarded], ends.shape[:2]) / config.n_pool
    change, apart = np.abs(ends[..., rewarded] - first), total_variation(ends, start)
    sets = change.max(axis=1), apart.max(axis=1), apart.mean(axis=1)
    return Chance(*(float(np.quantile(x, LEVEL)) for x in sets), usual=float(apart.mean()))


def ends(experiment: Experiment, columns: list[str]) -> pd.DataFrame:
    """Where each arm ends beside the exact dynamics and a perfect model on as many samples.

    Returns:
        A row for each arm and column: measured (mean over seeds) between least and greatest, exact, and the least
        and greatest of the perfect model's loops; all of the last round.
    """
    rows = {}
    for arm, column in itertools.product(experiment.arms, columns):
        sources = experiment.histories(arm), experiment.exact[arm], experiment.finite[arm]
        runs, exact, perfect = (_last(source, column) for source in sources)
        rows[arm, column] = {
            "least": runs.min(), "measured": runs.mean(), "greatest": runs.max(), "exact": exact[0],
            "perfect least": perfect.min(), "perfect greatest": perfect.max(),
        }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis(["arm", "at the end"])


def worst_gap(experiment: Experiment, arm: str, column: str = "rewarded_share") -> float:
    """Largest |measured - exact| of a column, over rounds and seeds."""
    exact = experiment.exact[arm].set_index("round")[column]
    history = experiment.histories(arm)
    gap = (history[column] - history["round"].map(exact)).abs()
    return float(gap.max(skipna=False))


def _rises(history: pd.DataFrame) -> bool:
    """E[e^r] grows in each round, in every seed, as long as it is below 90 % of e^{r*} = 1."""
    for _, run in history.groupby("seed"):
        value = run.sort_values("round")["mean_exp_reward"].to_numpy()
        if run["mean_exp_reward"].isna().any():
            return False
        if any(after <= before for before, after in pairwise(value) if before < 0.9):
            return False
    return True


def _first(history: pd.DataFrame, column: str) -> np.ndarray:
    return history.loc[history["round"] == 0, column].to_numpy()


def _last(history: pd.DataFrame, column: str) -> np.ndarray:
    return history.loc[history["round"] == history["round"].max(), column].to_numpy()


def _ends(history: pd.DataFrame, column: str) -> str:
    by_round = history.groupby("round")[column].mean()
    return f"{by_round.iloc[0]:.3f} -> {by_round.iloc[-1]:.3f}"


def choice_claim(replays: pd.DataFrame) -> Claim:
    """`statements.luce`: every frequency lies within four standard errors of Luce's probability."""
    off = (replays["kept"] - replays["law"]).abs() / replays["error"].clip(lower=ROUNDING)
    worst = float(off.max(skipna=False))
    text = "a choice from a menu follows Luce's rule (within 4 standard errors)"
    return Claim(text, "Fig. 1", worst <= 4, f"largest distance {worst:.1f} standard errors")


def lemma_2_1_claim(table: pd.DataFrame) -> Claim:
    """`statements.lemma_2_1`: the distance falls with K, and like 1/K over its last three values."""
    tails, falls = [], True
    for _, line in table.groupby(["data", "round"]):
        line = line.sort_values("k")
        falls &= bool((line["distance"].diff().iloc[1:] < 0).all())
        tails.append(tail_slope(line["k"][-3:], line["distance"][-3:]))
    near = max(abs(slope + 1) for slope in tails) <= 0.05
    text = "large menus tilt p_t to p_0 e^(t r), with an error like 1/K (slope -1 within 0.05)"
    return Claim(text, "Lemma 2.1", falls and near, f"slopes {min(tails):.3f} to {max(tails):.3f}")


def lemma_2_2_claims(table: pd.DataFrame) -> list[Claim]:
    """`statements.pure_loop`: gain against bound in every round; the variance at the end."""
    rounds = table[table["round"] > 0]
    margin = float((rounds["gain"] - rounds["bound"]).min(skipna=False))
    by_loop = table.sort_values("round").groupby(["data", "k"])["var"]
    left = float((by_loop.last(skipna=False) / by_loop.first(skipna=False)).max(skipna=False))
    return [
        Claim(
            "curated only: each round raises E[e^r] by at least (K-1)/K Var[e^r] / e^(r*)",
            "Lemma 2.2",
            margin >= -ROUNDING,
            f"least gain minus bound {margin:.1e}",
        ),
        Claim(
            "curated only: Var[e^r] vanishes (below 0.1 %)", "Lemma 2.2", left < 1e-3, f"{left:.1e} of its start"
        ),
    ]


def theorem_2_1_claims(table: pd.DataFrame, tail: pd.DataFrame) -> list[Claim]:
    """KL(p* || p_t) falls in every round (`statements.pure_loop`), and ends like 1/t (`statements.collapse`)."""
    lines = [line.sort_values("round") for _, line in table.groupby(["data", "k"])]
    falls = all(bool((line["kl"].diff().iloc[1:] < 0).all()) for line in lines)
    last = max(float(line["kl"].iloc[-1]) for line in lines)
    late = tail[tail["round"] >= tail["round"].max() / 2]
    slopes = [tail_slope(line["round"], line["kl"]) for _, line in late.groupby(["data", "k"])]
    steep = bool(np.abs(np.array(slopes) + 1).max() <= 0.15)
    ends = tail[tail["round"] == tail["round"].max()]
    off = float((ends["rescaled"] / ends["limit"] - 1).abs().max())
    return [
        Claim(
            "curated only: KL(p* || p_t) falls in every round, to below 0.05",
            "Thm 2.1",
            falls and last < 0.05,
            f"at most {last:.4f} at the end",
        ),
        Claim(
            "curated only, on rings: KL ends like 1/t (slope -1 within 0.15), within 10 % of the forecast",
            "ours",
            steep and off <= 0.1,
            f"slopes {min(slopes):.3f} to {max(slopes):.3f}; t (K-1)/K KL within {off:.1%} of its limit",
        ),
    ]


def theorem_2_3_claim(table: pd.DataFrame) -> Claim:
    """`statements.mixed_loop`: the gain over p_ref against its bound, in every round."""
    holds = bool((table["gain"] >= table["gain_bound"] - ROUNDING).all())
    ratio = float((table["gain"] / table["gain_bound"]).min())
    text = "with real data: E[e^r] stays above its start by lambda/(1+lambda)^3 times Lemma 2.2's gain"
    return Claim(text, "Thm 2.3", holds, f"least gain / bound {ratio:.2f}")


def theorem_2_4_claim(table: pd.DataFrame) -> Claim:
    """`statements.mixed_loop`: KL(p_t || p_ref) against its bound, wherever the theorem gives one."""
    covered = table[table["kl_bound"] != np.inf]
    holds = len(covered) > 0 and bool((covered["kl"] <= covered["kl_bound"] + ROUNDING).all())
    ratio = float((covered["kl"] / covered["kl_bound"]).max(skipna=False))
    text = "with real data: KL(p_t || p_ref) <= -log(1 - lambda (K-1)) where lambda < 1/(K-1)"
    return Claim(text, "Thm 2.4", holds, f"{len(covered)} rounds, largest KL / bound {ratio:.3f}")


def threshold_claims(across: pd.DataFrame, rare: pd.DataFrame) -> list[Claim]:
    """`statements.threshold`: over pressures at one share, and over shares on both sides of the threshold."""
    off = float((across["reached"] / across["solved"] - 1).abs().max(skipna=False))
    below, above = across[across["pressure"] < 1], across[across["pressure"] > 1]
    attained = below["ratio"] * (1 - below["pressure"])  # 1 where the density ratio meets its bound
    kept = len(above) > 0 and bool((above["reached"] > 100 * above["share"]).all())
    tight = len(below) > 0 and bool(attained.between(0.95, 1 + 1e-6).all())
    rising, falling = _kl_slopes(rare, above=True), _kl_slopes(rare, above=False)
    # Steady growth with log(1 / p_ref(A)) has no bound; a growth that dies out would have one.
    steady = rising.size > 0 and bool((rising.min(axis=1) > 0.9 * rising.max(axis=1)).all())
    return [
        Claim(
            "below lambda = 1/(K-1) a rare rewarded set grows 1/(1 - lambda (K-1))-fold, above it over 100-fold",
            "ours",
            tight and kept and off < 1e-5,
            f"below: {attained.min():.3f} to {attained.max():.3f} of that factor; above: at least "
            f"{above['ratio'].min():.0f}; from the scalar equation {off:.0e}",
        ),
        Claim(
            f"threshold, p_ref(A) <= {RARE:g}: KL(p_t || p_ref) grows like log(1/p_ref(A)) above it, not below",
            "ours",
            steady and falling.size > 0 and bool(falling.max() <= 0),
            f"slopes {_range(rising, '.3f')} above, {_range(falling, '.1e')} below",
        ),
    ]


def theorem_2_2_claims(table: pd.DataFrame) -> list[Claim]:
    """`parametric.theorem_2_2`: the last contraction against rho^2; all contractions beyond the conditions."""
    rounds = table[table["round"] > 0]
    last = rounds[rounds["covered"]].sort_values("round").groupby(["family", "lam"]).last(skipna=False)
    ratio = float((last["contraction"] / last["bound"]).max(skipna=False))
    worst = float(rounds.loc[~rounds["covered"], "contraction"].max(skipna=False))
    return [
        Claim(
            "no curation, with real data: near theta*, a round leaves at most rho^2 of KL(p_theta* || p_theta_t)",
            "Thm 2.2",
            ratio <= 1 + 1e-6,  # a Gaussian family meets rho^2 with equality
            f"largest factor / rho^2 {ratio:.6f}",
        ),
        Claim(
            "Theorem 2.2's condition on lambda is not necessary: KL falls in every round beyond it, too",
            "ours",
            worst < 1,
            f"largest factor beyond the condition {worst:.3f}",
        ),
    ]


def tour_claims(table: pd.DataFrame, rewarded: int) -> list[Claim]:
    """The paper in two claims, on the exact loop.

    Args:
        table: `statements.round_table` of the loops "curated" and "mixed" in every round, and mean = E[e^r].
        rewarded: the rewarded group.
    """
    curated, mixed = table[table["loop"] == "curated"], table[table["loop"] == "mixed"]
    taken = float(curated[f"share_{rewarded}"].iloc[-1])
    least = float(mixed.filter(like="share_").min(axis=None))
    first, later = float(mixed["mean"].iloc[0]), mixed["mean"].iloc[1:]
    return [
        Claim(
            "curated only: what people like takes over (95 % or more)",
            "Toy figures",
            taken >= 0.95,
            f"{float(curated[f'share_{rewarded}'].iloc[0]):.3f} -> {taken:.3f}",
        ),
        Claim(
            "with real data: everything stays alive (1 % or more)", "Toy figures", least >= LIVE, f"{least:.3f}"
        ),
        Claim(
            "with real data: E[e^r] lies above its start in every round",
            "Thm 2.3",
            float(later.min(skipna=False)) > first,
            f"{first:.3f} -> {later.iloc[-1]:.3f}, least {later.min():.3f}",
        ),
    ]


def own_claims(name: str, experiment: Experiment) -> list[Claim]:
    """Does a loop collapse, do real data hold it, and is it choice that moves it? For any task.

    Args:
        name: of the experiment, in front of each claim.
        experiment: all three arms.
    """
    curated, mixed = experiment.histories("curated"), experiment.histories("mixed")
    groups = len(curated.filter(like="share_").columns)
    live = int(curated[curated["round"] == curated["round"].max()]["live_groups"].max())
    kept = int(mixed["live_groups"].min())
    gain = float((_last(mixed, "mean_exp_reward") - _first(mixed, "mean_exp_reward")).min())
    rise = float((_last(curated, "mean_reward") - _first(curated, "mean_reward")).min())
    far = float(pd.concat([curated, mixed])["tv_to_exact"].max(skipna=False))
    return [
        Claim(
            f"{name}: curated only, the mean reward rises and groups die out",
            "ours",
            rise > 0 and live < groups,
            f"rise {rise:.3g}; {live} of {groups} groups live at the end",
        ),
        Claim(
            f"{name}: with real data every group stays alive, and E[e^r] ends above its start",
            "ours",
            gain > 0 and kept == groups,
            f"gain {gain:.3g}; at least {kept} of {groups} groups in every round",
        ),
        Claim(
            f"{name}: with choice, group shares stay within {FAR} (total variation) of the exact dynamics",
            "ours",
            far <= FAR,
            f"largest distance {far:.3f}",
        ),
    ]


def explorer_claim(table: pd.DataFrame) -> Claim:
    """`explorer.coarseness`: the explorer's curves against those on the profile's grid."""
    worst = float(table["difference"].max())
    text = "the explorer's E[e^r] is that of the full grid, to 0.01, in every story and round"
    return Claim(text, "ours", worst <= 0.01, f"largest difference {worst:.4f}")


def story_claims(stories: dict[str, Path]) -> list[Claim]:
    """`explorer.STORIES`: E[e^r] rises everywhere; only real data keep it from its top, 1."""
    rises, ends = {False: [], True: []}, {False: [], True: []}
    for path in stories.values():
        mixed, mean = bool(np.isfinite(path.setting.lam)), path.curves["mean"]
        rises[mixed].append(float(mean.diff().iloc[1:].min(skipna=False)))
        ends[mixed].append(float(mean.iloc[-1]))
    return [
        *(
            Claim(
                f"explorer: E[e^r] rises in every round of every story {name} real data",
                source,
                min(rises[mixed]) >= -ROUNDING,
                f"least rise {min(rises[mixed]):.1e}",
            )
            for mixed, name, source in ((False, "without", "Lemma 2.2"), (True, "with", "ours"))
        ),
        Claim(
            "explorer: every story without real data ends with E[e^r] above 0.95 (of 1), with them none",
            "ours",
            min(ends[False]) > 0.95 > max(ends[True]),
            f"at least {min(ends[False]):.3f}; at most {max(ends[True]):.3f}",
        ),
    ]


def taste_claims(table: pd.DataFrame) -> list[Claim]:
    """`taste.study`: the learned reward and the loop taken with it, at the largest number of clicks."""
    many = table[table["clicks"] == table["clicks"].max()]
    agreement, distance = float(many["agreement"].min()), float(many["distance"].max())
    clicks = int(many["clicks"].iloc[0])
    return [
        Claim(
            f"curator: {clicks} clicks recover the shape of the reward (correlation 0.85 or more)",
            "ours",
            agreement >= 0.85,
            f"at least {agreement:.3f} in {len(many)} runs",
        ),
        Claim(
            f"curator: after {clicks} clicks the loop ends as with the true reward (TV below 0.15)",
            "ours",
            distance < 0.15 and bool(many["same_place"].all()),
            f"largest distance {distance:.3f}",
        ),
    ]


def _kl_slopes(rare: pd.DataFrame, *, above: bool) -> np.ndarray:
    """Slope of the final KL over log(1 / p_ref(A)), from each share of at most RARE to the next smaller one.

    Returns:
        (settings, steps): a row for each (K, pressure) on one side of the threshold.
    """
    side = rare[((rare["pressure"] > 1) == above) & (rare["share"] <= RARE)]
    by_share = side.pivot_table(index=["k", "pressure"], columns="share", values="kl", dropna=False)
    return -np.diff(by_share.to_numpy(), axis=1) / np.diff(np.log(by_share.columns.to_numpy(float)))


def _range(values: np.ndarray, digits: str) -> str:
    return f"{values.min():{digits}} to {values.max():{digits}}" if values.size else "none"
