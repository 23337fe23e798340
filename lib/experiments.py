"""One function a figure: which data, generator, reward and arms. Returns what a notebook plots."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import finite, metrics, population, rewards, toy
from lib.checks import require
from lib.generators.ddpm import Ddpm
from lib.loop import Config, Run, Task, retrain
from lib.profiles import Profile, Toys
from lib.runs import merged, tensors_sha256
from lib.seeds import derive

ARMS = ("curated", "mixed", "control")  # curated data only; with real data; K = 1, no choice at all


class Loops(Protocol):
    """Arms beside what they are held against: an `Experiment`, or `recorded.Record` read from its table."""

    exact: dict[str, pd.DataFrame]
    finite: dict[str, pd.DataFrame]

    @property
    def arms(self) -> tuple[str, ...]: ...
    def histories(self, arm: str) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Experiment:
    """What a loop figure needs.

    Attributes:
        runs: for each arm, one run a seed.
        exact: for each arm, the exact dynamics with the columns of a run's history.
        finite: for each arm, histories of a perfect model on as many samples (`lib.finite`), where computed.
    """

    runs: dict[str, list[Run]]
    exact: dict[str, pd.DataFrame]
    finite: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that were run."""
        return tuple(self.runs)

    def histories(self, arm: str) -> pd.DataFrame:
        """The histories of an arm's seeds in one table, with columns `seed` and `tv_to_exact`: the total
        variation distance between measured and exact group shares of the round."""
        tables = [
            run.history.assign(seed=run.config.seed, tv_to_exact=tv_to_exact(run.history, self.exact[arm]))
            for run in self.runs[arm]
        ]
        return pd.concat(tables, ignore_index=True)

    @property
    def provenance(self) -> dict:
        """Where its runs come from; see `provenance`."""
        return provenance(self)


def provenance(*experiments: Experiment) -> dict:
    """Where the runs of one figure come from, as `runs.merged` tells it; one that several share counts once."""
    found = {run.folder: run for e in experiments for arm in e.runs.values() for run in arm}.values()
    return merged([run.provenance for run in found]) | {
        "runs": len(found),
        "seeds": sorted({run.config.seed for run in found}),
        "inputs": {name: value for run in found for name, value in run.config.task.inputs.items()},
    }


def tv_to_exact(history: pd.DataFrame, exact: pd.DataFrame) -> np.ndarray:
    """Total variation distance between the group shares of each row and the exact ones of its round, (rows,)."""
    shares = [c for c in exact if c.startswith("share_")]
    return metrics.total_variation(history[shares], exact.set_index("round").loc[history["round"], shares])


def bounds(finite: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Least and greatest value in each round of every column, over the repeats of a `finite` table."""
    by_round = finite.drop(columns="repeat").groupby("round", as_index=False)
    return {"least": by_round.min(), "greatest": by_round.max()}


def long_table(experiment: Experiment, floor: dict[str, float] | None = None, **columns: str) -> pd.DataFrame:
    """Measured and exact histories of every arm in one table, told apart by `arm`, `kind` and `columns`.

    Kinds "finite least" and "finite greatest" are the `bounds` of a perfect model on as many samples; what real
    data would score, `floor`, is a row of kind "real".
    """
    parts = [pd.DataFrame([floor]).assign(arm="none", kind="real", **columns)] if floor else []
    for arm in experiment.arms:
        parts.append(experiment.histories(arm).drop(columns="seconds").assign(arm=arm, kind="measured", **columns))
        parts.append(experiment.exact[arm].assign(arm=arm, kind="exact", **columns))
    for arm, table in experiment.finite.items():
        for bound, rows in bounds(table).items():
            parts.append(rows.assign(arm=arm, kind=f"finite {bound}", **columns))
    table = pd.concat(parts, ignore_index=True)
    first = ["arm", "kind", *columns, "seed", "round"]
    return table[first + [column for column in table if column not in first]]


def stored_points(experiment: Experiment, rounds: list[int]) -> pd.DataFrame:
    """The stored points of each arm's first seed at some rounds: columns arm, round, x1, x2."""
    parts = []
    for arm, runs in experiment.runs.items():
        for t in rounds:
            points = pd.DataFrame(runs[0].samples(t).numpy(), columns=["x1", "x2"]).round(3)
            parts.append(points.assign(arm=arm, round=t))
    return pd.concat(parts, ignore_index=True)[["arm", "round", "x1", "x2"]]


def toy_experiment(name: str, profile: Profile, seed: int, arms: tuple[str, ...] = ARMS) -> Experiment:
    """The toy figures: a DDPM retrained on curated points, beside the exact dynamics on a grid.

    Args:
        name: "gaussians" (notebook 02) or "moons" (notebook 03).
        profile: its `toy` section is used.
        seed: the first of `profile.toy.seeds` consecutive seeds.
        arms: some of `ARMS`.
    """
    require(name in toy.TOYS, "name", name, f"one of {', '.join(toy.TOYS)}")
    require_choice(arms, [seed])
    data, settings = toy.TOYS[name](), profile.toy
    runs = {arm: [] for arm in arms}
    for s in range(seed, seed + settings.seeds):
        task = toy_task(data, settings, s)
        for arm in arms:
            runs[arm].append(retrain(toy_config(task, settings, arm, s)))
    exact = {arm: exact_history(data, settings, arm) for arm in arms}
    return Experiment(runs, exact, {arm: finite_histories(data, settings, arm, exact[arm], seed) for arm in arms})


def toy_study(
    name: str, profile: Profile, seed: int, key: str, values: tuple, arm: str
) -> dict[object, Experiment]:
    """The same single run with one setting of the `toy` section changed: {value: experiment}."""
    changed = {
        v: profile.model_copy(update={"toy": profile.toy.model_copy(update={"seeds": 1, key: v})}) for v in values
    }
    return {value: toy_experiment(name, other, seed, (arm,)) for value, other in changed.items()}


def require_choice(arms: tuple[str, ...], seeds: list[int]) -> None:
    """Refuse unknown arms, and seeds that are no integers >= 0."""
    for arm in arms:
        require(arm in ARMS, "arm", arm, f"one of {', '.join(ARMS)}")
    for seed in seeds:
        require(type(seed) is int and seed >= 0, "seed", seed, "an integer >= 0")


def arm_parameters(arm: str, k: int, lam: float) -> tuple[int, float]:
    """(K, lambda) of an arm."""
    return {"curated": (k, math.inf), "mixed": (k, lam), "control": (1, math.inf)}[arm]


def toy_task(data: toy.Toy, settings: Toys, seed: int) -> Task:
    """What the arms of one seed share: real points, a DDPM, the distance reward, labels by mode."""
    rewarded = data.rewarded

    def measure(x: Tensor, label: Tensor) -> dict[str, float]:
        return _toy_columns(data, x.numpy(), label.numpy(), rewarded)

    chosen = settings.model_dump()
    learn = {key: chosen[key] for key in ("n_real", "first_steps", "batch", "width")}
    refit = {key: chosen[key] for key in ("gamma", "round_steps", "variance")}
    real = data.sample(settings.n_real, seed=derive(seed, "real"))
    return Task(
        name=data.name,
        settings={"generator": {"data": data.name, "seed": seed} | learn, "round": refit},
        real=real,
        generator=lambda s: Ddpm(seed=s, width=settings.width, variance=settings.variance),
        fit_first={"steps": settings.first_steps, "batch": 2 * settings.batch, "lr": 3e-3},
        fit_round={"steps": settings.round_steps, "batch": settings.batch, "lr": 2e-3},
        reward=lambda x: rewards.distance(x, data.centre, settings.gamma, data.r_min),
        label=data.label,
        groups=data.n_groups,
        measure=measure,
        inputs={f"{settings.n_real} points of {data.name}, seed {seed}": tensors_sha256(real)},
    )


def toy_config(task: Task, settings: Toys, arm: str, seed: int) -> Config:
    """One arm of a toy figure."""
    k, lam = arm_parameters(arm, settings.k, settings.lam)
    return Config(
        task,
        rounds=settings.rounds,
        k=k,
        lam=lam,
        n_pool=settings.n_keep * k,
        n_keep=settings.n_keep,
        seed=seed,
        menus=settings.menus,
        start=settings.start,
        n_store=1000,
    )


def exact_history(data: toy.Toy, settings: Toys, arm: str) -> pd.DataFrame:
    """The exact dynamics of an arm on a grid, p_0 = p_ref = the data's density; columns of a run's history."""
    k, lam = arm_parameters(arm, settings.k, settings.lam)
    prob, reward, columns = _on_grid(data, settings)
    path = population.trajectory(prob, reward, k, settings.rounds, lam, prob)
    return pd.DataFrame([{"round": t} | columns(p) for t, p in enumerate(path)])


def finite_histories(
    data: toy.Toy, settings: Toys, arm: str, exact: pd.DataFrame, seed: int, repeats: int = finite.REPEATS
) -> pd.DataFrame:
    """Histories of a perfect model on as many samples as the arm's runs draw, beside its `exact` dynamics."""
    k, lam = arm_parameters(arm, settings.k, settings.lam)
    prob, reward, columns = _on_grid(data, settings)
    loop = prob, population.Rewards(reward), k, settings.rounds, settings.n_keep
    mixed = {"lam": lam, "prob_ref": prob, "seed": seed, "repeats": repeats}
    n_pool = settings.n_keep * k
    drawn = n_pool if settings.menus == "resample" else None
    found = finite.histories(columns, n_pool, *loop, n_pool=drawn, **mixed)
    return found.assign(tv_to_exact=tv_to_exact(found, exact))


def _on_grid(data: toy.Toy, settings: Toys) -> tuple[np.ndarray, np.ndarray, Callable]:
    """The data's density and the reward on the cells of a grid, (n,), and what is measured of weights on them."""
    cells = toy.grid(data, settings.grid)
    reward = rewards.distance(torch.as_tensor(cells.points), data.centre, settings.gamma, data.r_min).numpy()

    def columns(prob: np.ndarray) -> dict[str, float]:
        row = metrics.reward_moments(reward, prob) | metrics.group_columns(cells.labels, data.n_groups, prob)
        return row | _toy_columns(data, cells.points, cells.labels, data.rewarded, prob)

    return cells.prob, reward, columns


def _toy_columns(data: toy.Toy, x: np.ndarray, label: np.ndarray, rewarded: int, weights=None) -> dict[str, float]:
    """Share of the rewarded group, mass on the reward's flat top, spread inside the rewarded group."""
    inside = label == rewarded
    top = np.linalg.norm(x - np.array(data.centre), axis=1) <= data.r_min
    return {
        "rewarded_share": float(np.average(inside, weights=weights)),
        "top_mass": float(np.average(top, weights=weights)),
        "in_mode_std": metrics.spread(x[inside], None if weights is None else weights[inside]),
    }
