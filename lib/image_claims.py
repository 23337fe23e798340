"""What the paper says of its CIFAR-10 loops, as functions of measured runs; ours where the source says so."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lib import finite
from lib.claims import LEVEL, TRACKS, Claim
from lib.experiments import Loops
from lib.metrics import entropy, total_variation

NOISE = 0.05  # nats of entropy that we still call unchanged (ten classes: 2.30 when even)
RISE = 0.02  # of gamma: what we call a rise of the mean reward; less may be rounding, amplified by the loop
TAKEN = 0.9  # the share from which a class has taken over; the paper says "towards 1"
STABLE = 1.5  # factor up to which a distance counts as stable
DISTANCE = "frechet_distance_evaluator"


def airplane_claims(
    experiment: Loops, rewarded: int, gamma: float, n_keep: int, menus: str = "disjoint"
) -> list[Claim]:
    """One class is rewarded: its share rises, all others shrink, the mean reward rises, quality degrades.

    Args:
        experiment: arms "curated" and "control".
        rewarded: index of the class.
        gamma: the reward's scale.
        n_keep: images kept each round, which decides what chance alone does.
        menus: how menus are drawn, see `curation.k_choice`.
    """
    source = "CIFAR-10, airplane"
    curated, control = experiment.histories("curated"), experiment.histories("control")
    share = f"share_{rewarded}"
    others = [c for c in curated if c.startswith("share_") and c != share]
    least, left = _last(curated, [share]).min(), float(_change(curated, others).max())
    rise, chance = float(_change(control, [share]).max()), by_chance(control, n_keep, menus).rise(rewarded)
    return [
        Claim(
            f"curated only: the rewarded share rises towards 1 (it ends above {TAKEN:.0%})",
            source,
            bool(least > TAKEN),
            f"{_ends(curated, share)}, least {least:.3f}",
        ),
        Claim(
            "curated only: every other class ends below its start", source, left < 0, f"largest change {left:+.3f}"
        ),
        _rising(curated, source, gamma),
        *_degrades(curated, control, source),
        Claim(
            "without choice (K = 1) the rewarded share rises no more than by chance",
            "ours",
            rise <= chance,
            f"largest rise {rise:.3f}, by chance {chance:.3f}",
        ),
        _follows(experiment, share, TRACKS, "rewarded share"),
    ]


def study_claims(study: dict[str, Loops], rewarded: int, n_keep: int) -> list[Claim]:
    """Whatever K and the menu rule, the rewarded share rises; a larger K is faster.

    Args:
        study: loops by "K = 2, disjoint" and the like, in the order of K.
        rewarded: index of the class.
        n_keep: images kept each round, which decides what chance alone does.
    """
    share = f"share_{rewarded}"
    shares = {name: e.histories("curated").set_index("round")[share] for name, e in study.items()}
    gain = {name: values.iloc[-1] - values.iloc[0] for name, values in shares.items()}
    once = {name: values.loc[1] for name, values in shares.items()}
    least = min(gain, key=gain.get)
    chance = max(by_chance(e.histories("curated"), n_keep).rise(rewarded) for e in study.values())
    by_rule: dict[str, list[float]] = {}
    for name, value in once.items():
        by_rule.setdefault(name.split(", ")[1], []).append(value)
    return [
        Claim(
            "the rewarded share rises by more than chance for every K and both menu rules",
            "ours",
            bool(gain[least] > chance),
            f"least {gain[least]:+.3f} ({least}), by chance {chance:.3f}",
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
        start: class shares at round 0, (classes,).
        ends: those after the last round, (sets, runs, classes): as many sets of as many runs.
    """

    start: np.ndarray
    ends: np.ndarray

    @property
    def loss(self) -> float:
        """Nats of entropy that the runs lose in the mean, exceeded once in twenty times."""
        return _quantile((entropy(self.start) - entropy(self.ends)).mean(axis=1))

    @property
    def apart(self) -> float:
        """Total variation distance of class shares between the two runs furthest apart, likewise."""
        return _quantile(total_variation(self.ends[:, :, None], self.ends[:, None]).max(axis=(1, 2)))

    def rise(self, group: int) -> float:
        """Rise of a class's share in the run in which it rises most, likewise."""
        return _quantile((self.ends[:, :, group] - self.start[group]).max(axis=1))


def by_chance(history: pd.DataFrame, n_keep: int, menus: str = "disjoint") -> Chance:
    """`Chance` for loops that start, and are as long and as many, as those of a history."""
    start = _start(history, [c for c in history if c.startswith("share_")])
    start = start.round(4) / start.round(4).sum()  # stored tables have few digits, and give the same draws
    rounds, n_pool, runs = int(history["round"].max()), int(history["n_pool"].max()), history["seed"].nunique()
    return Chance(start, finite.neutral(start, rounds, n_keep, n_pool, runs, menus))


def _quantile(values: np.ndarray) -> float:
    return float(np.quantile(values, LEVEL))


def bias_claims(experiment: Loops, judge: str, gamma: float, n_keep: int, menus: str = "disjoint") -> list[Claim]:
    """No class is named in the reward, and the shares grow uneven all the same; real data prevents it.

    Args:
        experiment: all three arms.
        judge: name of the reward's classifier, for the statements.
        gamma: the reward's scale.
        n_keep: images kept each round, which decides what chance alone does.
        menus: how menus are drawn, see `curation.k_choice`.
    """
    source = "CIFAR-10, confidence"
    curated, mixed, control = (experiment.histories(arm) for arm in ("curated", "mixed", "control"))
    lost, alone = (float(_fall(history).mean()) for history in (curated, control))
    worst = float((_start(mixed, ["entropy"]) - mixed["entropy"]).max(skipna=False))
    claims = [
        *_uneven(curated, control, source, by_chance(control, n_keep, menus).loss),
        _gains("curated only", curated, source, gamma),
        Claim(
            f"with real data: entropy never falls by more than {NOISE} nats",
            source,
            worst <= NOISE,
            f"largest fall {worst:.3f}",
        ),
        _gains("with real data", mixed, source, gamma),
        Claim(
            "curated only: mean loss of class entropy greater than the control's",
            "ours",
            lost > alone,
            f"{lost:.3f} against {alone:.3f}",
        ),
        _follows(experiment, "entropy", NOISE, "entropy"),
    ]
    return [Claim(f"[{judge}] {c.statement}", c.source, c.holds, c.measured) for c in claims]


def _uneven(curated: pd.DataFrame, control: pd.DataFrame, source: str, chance: float) -> list[Claim]:
    """Class entropy lost with and without choice, against what a perfect model loses by chance."""
    lost, alone = _fall(curated), _fall(control)
    spread = [f" ({each.min():.3f} to {each.max():.3f})" if len(lost) > 1 else "" for each in (lost, alone)]
    return [
        Claim(
            "curated only: mean loss of class entropy beyond chance",
            source,
            bool(lost.mean() > chance),
            f"{lost.mean():.3f} nats{spread[0]}, by chance {chance:.3f}",
        ),
        Claim(
            "without choice (K = 1): mean loss of class entropy within chance",
            "ours",
            bool(alone.mean() <= chance),
            f"{alone.mean():.3f} nats{spread[1]}, by chance {chance:.3f}",
        ),
    ]


def quality_claims(experiment: Loops) -> list[Claim]:
    """With real data quality is kept and precision rises; without, it degrades."""
    source = "CIFAR-10, quality"
    mixed, control = experiment.histories("mixed"), experiment.histories("control")
    grown, alone = _growth(mixed), _growth(control)
    gain, kept = (float(_change(mixed, [column]).min()) for column in ("precision", "recall"))
    return [
        Claim(
            f"with real data: the Fréchet distance never exceeds {STABLE} times its start",
            source,
            grown <= STABLE,
            f"at most {grown:.2f} times",
        ),
        Claim(
            "with real data: precision ends above its start",
            source,
            gain > 0,
            f"{_ends(mixed, 'precision')}, least change {gain:+.3f}",
        ),
        Claim(
            f"with real data: recall ends no more than {TRACKS} below its start",
            source,
            kept >= -TRACKS,
            f"{_ends(mixed, 'recall')}, least change {kept:+.3f}",
        ),
        *_degrades(experiment.histories("curated"), control, source),
        Claim(
            f"without choice (K = 1) the Fréchet distance stays within {STABLE} times its start",
            "ours",
            alone <= STABLE,
            f"at most {alone:.2f} times",
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
    curated, control = experiment.histories("curated"), experiment.histories("control")
    chance = by_chance(control, n_keep, menus)
    # that they grow uneven is no matter of repetition
    return [*_agreement(curated, gamma, chance), *_uneven(curated, control, "CIFAR-10, confidence", chance.loss)]


def _agreement(curated: pd.DataFrame, gamma: float, chance: Chance) -> list[Claim]:
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
            "CIFAR-10, repeats",
            apart <= chance.apart,
            f"largest total variation distance {apart:.3f}, by chance {chance.apart:.3f}",
        ),
        Claim(
            f"mean confidence differs by at most {TRACKS} between runs in every round",
            "CIFAR-10, repeats",
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
    gain = float(_change(history, ["mean_reward"]).min())
    return Claim(
        f"{arm}: the mean reward rises by at least {RISE:.0%} of its top",
        source,
        gain >= RISE * gamma,
        f"{_ends(history, 'mean_reward')}, least change {gain:+.3f}",
    )


def _degrades(curated: pd.DataFrame, control: pd.DataFrame, source: str) -> list[Claim]:
    """Quality goes with choice; that it goes further than without is what would be curation's doing."""
    ends, start = _last(curated, [DISTANCE]), _start(curated, [DISTANCE])[0]
    lost = float(_change(curated, ["recall"]).max())
    further, alone = (float(_last(history, [DISTANCE]).mean()) for history in (curated, control))
    left, kept = (float(_last(history, ["recall"]).mean()) for history in (curated, control))
    return [
        Claim(
            f"curated only: the Fréchet distance ends above {STABLE} times its start",
            source,
            bool(ends.min() > STABLE * start),
            f"{_ends(curated, DISTANCE)}, least {ends.min():.3f}",
        ),
        Claim(
            f"curated only: recall falls by more than {TRACKS}",
            source,
            lost < -TRACKS,
            f"{_ends(curated, 'recall')}, least fall {-lost:.3f}",
        ),
        Claim(
            "curated only: mean distance ends higher, mean recall lower, than the control's",
            "ours",
            further > alone and left < kept,
            f"distance {further:.3f} against {alone:.3f}, recall {left:.3f} against {kept:.3f}",
        ),
    ]


def _growth(history: pd.DataFrame) -> float:
    """Largest Fréchet distance of all rounds and seeds, in terms of its start."""
    return float(history[DISTANCE].max(skipna=False) / _start(history, [DISTANCE])[0])


def _follows(experiment: Loops, column: str, near: float, name: str) -> Claim:
    """The mean of the curated runs, in every round, between the least and the greatest perfect model, or near."""
    by_round = experiment.histories("curated").pivot(index="round", columns="seed", values=column)
    chance, mean = experiment.finite["curated"].groupby("round")[column], by_round.mean(axis=1, skipna=False)
    outside = np.maximum(chance.min() - mean, mean - chance.max()).clip(lower=0)
    beyond = float(outside.max(skipna=False))
    return Claim(
        f"curated only: mean {name} within {near} of what perfect models do",
        "ours",
        beyond <= near,
        f"largest distance {beyond:.3f}",
    )


def _fall(history: pd.DataFrame) -> np.ndarray:
    """Entropy lost until the last round, for each seed."""
    return -_change(history, ["entropy"])[:, 0]


def _change(history: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Last round less `_start`, for each seed: (seeds, columns)."""
    return _last(history, columns) - _start(history, columns)


def _start(history: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Round 0 in the mean over the seeds, (columns,): they share p_0, and differ there by the draw alone."""
    return history.loc[history["round"] == 0, columns].mean(skipna=False).to_numpy()


def _last(history: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return history[history["round"] == history["round"].max()].sort_values("seed")[columns].to_numpy()


def _ends(history: pd.DataFrame, column: str) -> str:
    by_round = history.groupby("round")[column].mean()
    return f"{by_round.iloc[0]:.3f} -> {by_round.iloc[-1]:.3f}"
