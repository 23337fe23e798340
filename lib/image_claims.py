"""What the paper says of its CIFAR-10 loops, as functions of measured runs; ours where the source says so."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lib import finite
from lib.claims import DRIFTS, TRACKS, Claim, worst_gap
from lib.experiments import Loops
from lib.metrics import entropy, total_variation

NOISE = 0.05  # nats of entropy that we still call unchanged with real data (ten classes: 2.30 when even)
CLEAR = 0.15  # nats of entropy that we still call agreement with the exact dynamics
LEVEL = 0.95  # "more than chance" is more than this share of loops in which nothing but chance is at work
RISE = 0.02  # of gamma: what we call a rise of the mean reward; less may be rounding, amplified by the loop
FOLLOWS = 0.1  # largest distance of a share from its exact value; 1,024 choices err by 0.015 a round
STABLE = 1.5  # factor up to which a distance counts as stable


def airplane_claims(experiment: Loops, rewarded: int, gamma: float) -> list[Claim]:
    """One class is rewarded: its share rises, all others shrink, the mean reward rises, quality degrades."""
    curated, control = experiment.histories("curated"), experiment.histories("control")
    share = f"share_{rewarded}"
    others = [c for c in curated if c.startswith("share_") and c != share]
    left, gap = (
        float((_last(curated, others) - _first(curated, others)).max()),
        worst_gap(experiment, "curated", share),
    )
    drift = float((_last(control, [share]) - _first(control, [share])).max())
    return [
        Claim(
            "curated only: the rewarded class ends above 90 %",
            "CIFAR-10, airplane",
            bool((_last(curated, [share]) > 0.9).all()),
            _ends(curated, share),
        ),
        Claim(
            "curated only: every other class ends below its start",
            "CIFAR-10, airplane",
            left < 0,
            f"largest change {left:+.3f}",
        ),
        _rising(curated, "CIFAR-10, airplane", gamma),
        *_degrades(curated, "CIFAR-10, airplane"),
        Claim(
            f"without choice (K = 1) the rewarded share does not rise by {DRIFTS} or more",
            "ours",
            drift < DRIFTS,
            f"largest change {drift:+.3f}",
        ),
        Claim(
            f"curated only: the rewarded share stays within {FOLLOWS} of the exact dynamics",
            "ours",
            gap <= FOLLOWS,
            f"largest distance {gap:.3f}",
        ),
    ]


def study_claims(study: dict[str, Loops], rewarded: int) -> list[Claim]:
    """Whatever K and the menu rule, the rewarded share rises; a larger K is faster."""
    share = f"share_{rewarded}"
    shares = {name: e.histories("curated").set_index("round")[share] for name, e in study.items()}
    gain = {name: values.iloc[-1] - values.iloc[0] for name, values in shares.items()}
    once = {name: values.loc[1] for name, values in shares.items()}
    least = min(gain, key=gain.get)
    by_rule: dict[str, list[float]] = {}
    for name, value in once.items():  # names are "K = 2, disjoint", in the order of K
        by_rule.setdefault(name.split(", ")[1], []).append(value)
    return [
        Claim(
            "the rewarded share rises for every K and both menu rules",
            "ours",
            bool(gain[least] > 0),
            f"least {gain[least]:+.3f} ({least})",
        ),
        Claim(
            "after one round it is larger for a larger K",
            "ours",
            all(bool((np.diff(values) > 0).all()) for values in by_rule.values()),
            ", ".join(f"{name}: {value:.3f}" for name, value in once.items()),
        ),
    ]


@dataclass(frozen=True)
class Chance:
    """What drawing and keeping samples does by itself, with a perfect model and without any choice.

    Attributes:
        loss: nats of entropy that the most uneven of as many runs loses, exceeded once in twenty times.
        apart: total variation distance of class shares between the two runs furthest apart, likewise.
    """

    loss: float
    apart: float


def by_chance(history: pd.DataFrame, n_keep: int, menus: str = "disjoint") -> Chance:
    """`Chance` for loops that start, and are as long and as many, as those of a history."""
    shares = [c for c in history if c.startswith("share_")]
    start = _first(history, shares).mean(axis=0)
    start /= start.sum()
    rounds, n_pool, runs = int(history["round"].max()), int(history["n_pool"].max()), history["seed"].nunique()
    ends = finite.neutral(start, rounds, n_keep, n_pool, runs, menus)
    loss = (entropy(start) - entropy(ends)).max(axis=1)
    apart = total_variation(ends[:, :, None], ends[:, None]).max(axis=(1, 2))
    return Chance(float(np.quantile(loss, LEVEL)), float(np.quantile(apart, LEVEL)))


def bias_claims(experiment: Loops, judge: str, gamma: float, n_keep: int, menus: str = "disjoint") -> list[Claim]:
    """No class is named in the reward, and the shares grow uneven all the same; real data prevents it.

    Args:
        experiment: all three arms.
        judge: name of the reward's classifier, for the statements.
        gamma: the reward's scale.
        n_keep: images kept each round, which decides what chance alone does.
        menus: how menus are drawn, see `curation.k_choice`.
    """
    source, ours = "CIFAR-10, confidence", "ours"
    curated, mixed, control = (experiment.histories(arm) for arm in ("curated", "mixed", "control"))
    fall = {arm: _fall(experiment.histories(arm)) for arm in experiment.arms}
    exact = _fall(experiment.exact["curated"].assign(seed=0))
    chance = by_chance(control, n_keep, menus).loss
    claims = [
        Claim(
            "curated only: every run loses more class entropy than by chance",
            source,
            bool(fall["curated"].min() > chance),
            f"{_ends(curated, 'entropy')}, least loss {fall['curated'].min():.3f}, by chance {chance:.3f}",
        ),
        _gains("curated only", curated, source, gamma),
        Claim(
            f"with real data: entropy never falls by more than {NOISE} nats",
            source,
            bool(_worst_fall(mixed) <= NOISE),
            f"largest fall {_worst_fall(mixed):.3f}",
        ),
        _gains("with real data", mixed, source, gamma),
        Claim(
            "without choice (K = 1) no run loses more class entropy than by chance",
            ours,
            bool(fall["control"].max() <= chance),
            f"{_ends(control, 'entropy')}, largest loss {fall['control'].max():.3f}, by chance {chance:.3f}",
        ),
        Claim(
            "curated only loses more entropy than the control",
            ours,
            bool(fall["curated"].mean() > fall["control"].mean()),
            f"{fall['curated'].mean():.3f} against {fall['control'].mean():.3f}",
        ),
        Claim(
            f"curated only: the loss of entropy is the exact dynamics' to {CLEAR} nats",
            ours,
            bool(abs(fall["curated"].mean() - exact.mean()) <= CLEAR),
            f"{fall['curated'].mean():.3f} against {exact.mean():.3f}",
        ),
    ]
    return [Claim(f"[{judge}] {c.statement}", c.source, c.holds, c.measured) for c in claims]


def quality_claims(experiment: Loops) -> list[Claim]:
    """With real data quality is kept and precision rises; without, it degrades."""
    source = "CIFAR-10, quality"
    mixed, control = experiment.histories("mixed"), experiment.histories("control")
    column = "frechet_distance_evaluator"
    grown = _growth(mixed)
    gain, kept = (float((_last(mixed, [c]) - _first(mixed, [c])).min()) for c in ("precision", "recall"))
    return [
        Claim(
            f"with real data: the Fréchet distance never exceeds {STABLE} times its start",
            source,
            grown <= STABLE,
            f"at most {grown:.2f} times",
        ),
        Claim("with real data: precision ends above its start", source, gain > 0, _ends(mixed, "precision")),
        Claim(
            f"with real data: recall ends no more than {TRACKS} below its start",
            source,
            kept >= -TRACKS,
            _ends(mixed, "recall"),
        ),
        *_degrades(experiment.histories("curated"), source),
        Claim(
            f"without choice (K = 1) the Fréchet distance stays within {STABLE} times its start",
            "ours",
            _growth(control) <= STABLE,
            _ends(control, column),
        ),
    ]


def repeat_claims(experiment: Loops, gamma: float, n_keep: int, menus: str = "disjoint") -> list[Claim]:
    """Independent runs of the curated-only confidence loop, of a reward gamma * confidence, agree.

    Args:
        experiment: arms "curated" and "control", one run a seed.
        gamma: the reward's scale.
        n_keep: images kept each round, which decides how far chance alone drives runs apart.
        menus: how menus are drawn, see `curation.k_choice`.
    """
    several = experiment.histories("curated")["seed"].nunique() > 1
    source = "CIFAR-10, repeats" if several else "CIFAR-10, confidence"  # one run repeats nothing
    curated, control = experiment.histories("curated"), experiment.histories("control")
    alone, fall, chance = _fall(control), _fall(curated), by_chance(control, n_keep, menus)
    return [
        *_agreement(curated, source, gamma, chance),
        Claim(
            "every run loses more class entropy than by chance",
            source,
            bool(fall.min() > chance.loss),
            f"{fall.min():.3f} to {fall.max():.3f}, by chance {chance.loss:.3f}",
        ),
        Claim(
            "without choice (K = 1) no run loses more class entropy than by chance",
            "ours",
            bool(alone.max() <= chance.loss),
            f"{alone.min():.3f} to {alone.max():.3f}, by chance {chance.loss:.3f}",
        ),
    ]


def _agreement(curated: pd.DataFrame, source: str, gamma: float, chance: Chance) -> list[Claim]:
    """Of runs with one another; [] where there is only one."""
    if curated["seed"].nunique() == 1:
        return []
    shares = [c for c in curated if c.startswith("share_")]
    ends = [run.sort_values("round")[shares].to_numpy()[-1] for _, run in curated.groupby("seed")]
    apart = max(float(total_variation(a, b)) for a, b in combinations(ends, 2))
    confidence = curated.pivot(index="round", columns="seed", values="mean_reward").to_numpy() / gamma
    spread = float(np.ptp(confidence, axis=1).max())
    return [
        Claim(
            "any two runs end as close in class shares as chance lets them",
            source,
            apart <= chance.apart,
            f"largest total variation distance {apart:.3f}, by chance {chance.apart:.3f}",
        ),
        Claim(
            f"mean confidence differs by at most {TRACKS} between runs in every round",
            source,
            spread <= TRACKS,
            f"largest {spread:.3f}",
        ),
    ]


def _rising(curated: pd.DataFrame, source: str, gamma: float) -> Claim:
    """The mean reward grows in each round, in every seed, until it is within 10 % of its greatest value gamma."""
    by_round = curated.pivot(index="round", columns="seed", values="mean_reward")
    steps = by_round.diff().shift(-1)[by_round < 0.9 * gamma]
    least = float(steps.min().min()) if by_round.notna().all(axis=None) else float("nan")
    return Claim(
        "curated only: the mean reward rises every round until within 10 % of its top",
        source,
        least > 0,
        f"{_ends(curated, 'mean_reward')}, least step {least:+.3f}",
    )


def _gains(arm: str, history: pd.DataFrame, source: str, gamma: float) -> Claim:
    gain = float((_last(history, ["mean_reward"]) - _first(history, ["mean_reward"])).min())
    return Claim(
        f"{arm}: the mean reward rises by at least {RISE:.0%} of its top",
        source,
        gain >= RISE * gamma,
        _ends(history, "mean_reward"),
    )


def _degrades(curated: pd.DataFrame, source: str) -> list[Claim]:
    growth = _growth(curated, worst=False)
    lost = float((_last(curated, ["recall"]) - _first(curated, ["recall"])).max())
    return [
        Claim(
            f"curated only: the Fréchet distance ends above {STABLE} times its start",
            source,
            growth > STABLE,
            _ends(curated, "frechet_distance_evaluator"),
        ),
        Claim(
            f"curated only: recall falls by more than {TRACKS}", source, lost < -TRACKS, _ends(curated, "recall")
        ),
    ]


def _growth(history: pd.DataFrame, worst: bool = True) -> float:
    """Fréchet distance over its start: the largest of all rounds and seeds, or the least of the last round."""
    ratios = history.pivot(index="round", columns="seed", values="frechet_distance_evaluator")
    ratios = ratios / ratios.loc[0]
    return float(ratios.to_numpy().max() if worst else ratios.iloc[-1].to_numpy().min())


def _fall(history: pd.DataFrame) -> np.ndarray:
    """Entropy lost between the first and the last round, for each seed."""
    by_round = history.pivot(index="round", columns="seed", values="entropy").to_numpy()
    return by_round[0] - by_round[-1]


def _worst_fall(history: pd.DataFrame) -> float:
    by_round = history.pivot(index="round", columns="seed", values="entropy").to_numpy()
    return float((by_round[0] - by_round).max())


def _first(history: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return history[history["round"] == 0].sort_values("seed")[columns].to_numpy()


def _last(history: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return history[history["round"] == history["round"].max()].sort_values("seed")[columns].to_numpy()


def _ends(history: pd.DataFrame, column: str) -> str:
    by_round = history.groupby("round")[column].mean()
    return f"{by_round.iloc[0]:.3f} -> {by_round.iloc[-1]:.3f}"
