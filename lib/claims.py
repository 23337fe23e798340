"""What the paper says, as functions of measured runs. Each returns a verdict and the numbers it rests on."""

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from lib.experiments import Experiment

TRACKS = 0.05  # largest distance of a share from its exact value that we call agreement


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
    return pd.DataFrame(rows)


def toy_claims(experiment: Experiment, groups: int) -> list[Claim]:
    """The toy figures' claims: collapse, survival, rising reward, agreement with the exact dynamics."""
    curated, mixed, control = (experiment.histories(arm) for arm in ("curated", "mixed", "control"))
    first, last = curated["round"] == 0, curated["round"] == curated["round"].max()
    live_curated, live_mixed = curated["live_groups"][last], mixed["live_groups"].groupby(mixed["round"]).min()
    ratio = curated["var_exp_reward"][last].max() / curated["var_exp_reward"][first].mean()
    gain = (mixed["mean_exp_reward"][last].values - mixed["mean_exp_reward"][first].values).min()
    drift = (control["rewarded_share"][last].values - control["rewarded_share"][first].values).max()
    claims = [
        Claim(
            "curated only: one group is left alive",
            "Thm 2.1",
            bool((live_curated == 1).all()),
            f"{sorted(live_curated)} of {groups} live at the end",
        ),
        Claim(
            "curated only: E[e^r] rises every round until it is within 10 % of its top",
            "Lemma 2.2",
            _rises(curated),
            f"{_ends(curated, 'mean_exp_reward')}",
        ),
        Claim(
            "curated only: Var[e^r] vanishes (to a fifth or less)",
            "Lemma 2.2",
            ratio <= 0.2,
            f"{ratio:.3f} of its start",
        ),
        Claim(
            "with real data: every group stays alive",
            "Thm 2.2, 2.4",
            bool((live_mixed == groups).all()),
            f"at least {live_mixed.min()} of {groups} in every round",
        ),
        Claim("with real data: E[e^r] still ends above its start", "Thm 2.3", gain > 0, f"gain >= {gain:.3f}"),
        Claim(
            "without choice (K = 1) the rewarded share does not rise",
            "ours",
            drift < TRACKS,
            f"largest change {drift:+.3f}",
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
    return claims


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


def _ends(history: pd.DataFrame, column: str) -> str:
    by_round = history.groupby("round")[column].mean()
    return f"{by_round.iloc[0]:.3f} -> {by_round.iloc[-1]:.3f}"
