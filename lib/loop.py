"""Algorithm 1 of arXiv:2407.09499: retrain a generative model on its own curated samples.

Knows no images and no points: what is generated, rewarded and counted comes from a `Task`.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Protocol

import pandas as pd
from torch import Tensor

from lib import distributed, runs
from lib.checks import NotFinite, require
from lib.curation import MENUS, k_choice
from lib.generators.training import Mixture, progress
from lib.metrics import group_columns, reward_moments
from lib.seeds import derive

STARTS = ("warm", "cold")
MODEL = "model."  # what the names of a generator's weights begin with in a round's file


class Generator(Protocol):
    """What the loop asks of a generative model; samples are tensors with one row each."""

    def fit(self, data: Tensor | Mixture, steps: int, *, seed: int) -> list[float]: ...
    def sample(self, n: int, *, seed: int) -> Tensor: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Task:
    """What one family of runs shares.

    Attributes:
        name: used in folder names.
        settings: JSON-able; everything in the fields below that could differ between two tasks.
        real: D_real, (n, ...).
        generator: seed -> an untrained generator.
        fit_first: options of the fit of p_0 (steps and the generator's own).
        fit_round: options of the fit of each later round.
        reward: samples -> r, (n,) float.
        label: samples -> group of each, (n,) int64, in 0..groups-1 (a mode, or a class by the evaluator).
        groups: number of groups.
        measure: (samples, labels) -> further columns of the history.
        first: () -> the state_dict of a p_0 shared by all seeds; None: each seed fits its own.
        inputs: SHA-256 of data and weights that the runs read, by name; told in their provenance.
    """

    name: str
    settings: dict
    real: Tensor
    generator: Callable[[int], Generator]
    fit_first: dict
    fit_round: dict
    reward: Callable[[Tensor], Tensor]
    label: Callable[[Tensor], Tensor]
    groups: int
    measure: Callable[[Tensor, Tensor], dict[str, float]]
    first: Callable[[], dict[str, Tensor]] | None = None
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """One run of the loop.

    Attributes:
        task: see `Task`.
        rounds: T, retraining rounds, >= 0.
        k: menu size K, >= 1; 1 is the control without any choice.
        lam: lambda, synthetic to real ratio, >= 0; math.inf trains on curated samples only.
        n_pool: samples drawn from the model each round.
        n_keep: curated samples kept each round.
        seed: of everything random.
        menus: "disjoint" or "resample", see `curation.k_choice`.
        start: each round trains on from the last model ("warm") or anew ("cold").
        n_store: samples of each round kept on disk for figures.
    """

    task: Task
    rounds: int
    k: int
    lam: float
    n_pool: int
    n_keep: int
    seed: int
    menus: str = "disjoint"
    start: str = "warm"
    n_store: int = 2048

    def __post_init__(self):
        require(isinstance(self.rounds, int) and self.rounds >= 0, "rounds", self.rounds, "an integer >= 0")
        require(isinstance(self.k, int) and self.k >= 1, "k", self.k, "an integer >= 1")
        require(self.lam >= 0, "lam", self.lam, ">= 0 (inf for curated data only)")
        require(self.menus in MENUS, "menus", self.menus, f"one of {', '.join(MENUS)}")
        require(self.start in STARTS, "start", self.start, f"one of {', '.join(STARTS)}")
        for name in ("n_pool", "n_keep"):
            require(isinstance(getattr(self, name), int), name, getattr(self, name), "an integer >= 1")
        require(self.n_pool >= 1, "n_pool", self.n_pool, ">= 1")
        require(isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "an integer >= 0")
        most = self.n_pool // self.k if self.menus == "disjoint" else self.n_keep
        require(
            1 <= self.n_keep <= most,
            "n_keep",
            self.n_keep,
            f"in 1..{most}: {self.n_pool} samples fill {most} menus of {self.k}",
        )

    def settings(self) -> dict:
        """JSON-able: everything that tells this run from another; a longer run goes on from a shorter one."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("task", "rounds")}
        return {"task": self.task.settings} | own | {"lam": str(self.lam)}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        history: one row a round, 0..T: counts delivered, reward moments, group shares, entropy, the task's
            own columns, mean loss over the last tenth of training, seconds.
        config: what was run.
        provenance: where and with what; see `runs.provenance`.
    """

    history: pd.DataFrame
    config: Config
    provenance: dict
    _stored: list[dict[str, Tensor]]
    _store: runs.Store

    @property
    def folder(self) -> Path:
        """Where its rounds are kept."""
        return self._store.folder

    def samples(self, round: int) -> Tensor:
        """The first n_store samples drawn from the model of a round."""
        return self._stored[round]["samples"]

    def pool(self, round: int) -> tuple[Tensor, Tensor]:
        """Rewards (n_pool,) and labels (n_pool,) of everything drawn in a round."""
        return self._stored[round]["reward"], self._stored[round]["label"]

    def weights(self, round: int) -> dict[str, Tensor]:
        """The generator's state_dict after a round, read from the run's folder."""
        return _weights(self._store.load(_name(round))[0])


def retrain(config: Config, *, run_dir: Path | None = None) -> Run:
    """Run Algorithm 1, or go on with it, or return it at once when it is done.

    Args:
        config: what to run.
        run_dir: where finished rounds are kept; by default the run's own folder under `paths.runs()`.

    Returns:
        The run, equal however often it was interrupted: bit for bit on one CPU, on a GPU up to rounding.
    """
    runs.require_unchanged()
    task, seed = config.task, config.seed
    names = [_name(t) for t in range(config.rounds + 1)]
    settings = config.settings()
    store = runs.Store(run_dir, settings) if run_dir else runs.find(task.name, settings, names)
    generator = task.generator(derive(seed, "generator"))
    rounds, infos, pool = [], [], None
    with store.lock(), _told(rounds):
        for t in progress(range(config.rounds + 1), desc=f"{task.name}, K = {config.k}, lambda = {config.lam}"):
            done = store.load(names[t])
            if done is None:
                began = time.perf_counter()
                if t == 0:
                    curated, losses = [], []
                    generator.load_state_dict(fit_first(task, seed))
                else:
                    if pool is None:  # the last round was read back: same weights and seed, same pool
                        generator.load_state_dict(_weights(rounds[-1]))
                        pool = generator.sample(config.n_pool, seed=derive(seed, "sample", round=t - 1))
                    curated = _curate(config, t, pool, rounds[-1]["reward"])
                    if config.start == "cold":
                        generator = task.generator(derive(seed, "generator", round=t))
                    data = mix(curated, task.real, config.lam)
                    losses = generator.fit(data, seed=derive(seed, "fit", round=t), **task.fit_round)
                pool = generator.sample(config.n_pool, seed=derive(seed, "sample", round=t))
                tensors, row = distributed.on_first(partial(_measure, config, generator, pool))
                row = {"round": t, "n_pool": len(pool), "n_curated": len(curated)} | row
                row |= {"loss": _tail_mean(losses), "seconds": time.perf_counter() - began}
                done = tensors, {"row": row, "provenance": runs.provenance(generator, seconds=row["seconds"])}
                store.save(names[t], *done)
            else:
                pool = None
            if rounds:  # the weights of one round are enough to go on
                rounds[-1] = {key: value for key, value in rounds[-1].items() if not key.startswith(MODEL)}
            rounds.append(done[0])
            infos.append(done[1])
    history = pd.DataFrame([info["row"] for info in infos])
    return Run(history, config, _whole(infos), rounds, store)


def fit_first(task: Task, seed: int) -> dict[str, Tensor]:
    """p_0 = A(D_real): the state_dict of a generator trained on real data, shared by all arms of one seed."""
    if task.first:
        return task.first()
    settings = {"task": task.settings["generator"], "seed": seed}
    store = runs.Store(runs.folder(f"{task.name}-p0", settings), settings)
    with store.lock():
        done = store.load("p0")
        if done is None:
            generator = task.generator(derive(seed, "generator"))
            losses = generator.fit(task.real, seed=derive(seed, "fit"), **task.fit_first)
            done = generator.state_dict(), {"loss": _tail_mean(losses), "provenance": runs.provenance(generator)}
            store.save("p0", *done)
    return done[0]


def mix(curated: Tensor, real: Tensor, lam: float) -> Mixture:
    """The training set of Eq. 4: a minibatch row is curated with probability lam / (1 + lam), else real."""
    share = 1.0 if math.isinf(lam) else lam / (1 + lam)
    return Mixture([curated, real], [share, 1 - share])


def _curate(config: Config, t: int, pool: Tensor, reward: Tensor) -> Tensor:
    seed = derive(config.seed, "curate", round=t)
    return pool[k_choice(reward, config.k, config.n_keep, seed=seed, menus=config.menus)]


def _measure(config: Config, generator: Generator, pool: Tensor) -> tuple[dict[str, Tensor], dict]:
    """(what is kept of a round, its measured columns)."""
    task = config.task
    reward, label = task.reward(pool), task.label(pool)
    for name, found in (("reward", reward), ("label", label)):
        shape = tuple(found.shape)
        require(shape == (len(pool),), f"{name}(samples).shape", shape, f"({len(pool)},), one for each sample")
    bad = int((~reward.isfinite()).sum())
    if bad:
        raise NotFinite(f"{bad} of {len(reward)} rewards are not finite")
    row = reward_moments(reward.numpy()) | group_columns(label.numpy(), task.groups)
    # Copies: later rounds train the same parameters in place.
    state = generator.state_dict()
    tensors = {f"{MODEL}{key}": value.detach().to("cpu", copy=True) for key, value in state.items()}
    tensors |= {"samples": pool[: config.n_store].clone(), "reward": reward, "label": label}
    return tensors, row | task.measure(pool, label)


@contextmanager
def _told(finished: list) -> Iterator[None]:
    """What is not finite says in which round."""
    try:
        yield
    except NotFinite as error:
        raise type(error)(f"round {len(finished)}: {error}; the rounds before it are kept") from error


def _whole(infos: list[dict]) -> dict:
    """Provenance of a run from that of its rounds; older code, whose runs may be reused, kept no time in it."""
    return runs.merged([info["provenance"] | {"seconds": info["row"]["seconds"]} for info in infos])


def _name(round: int) -> str:
    return f"round_{round:03d}"


def _weights(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(MODEL): value for key, value in stored.items() if key.startswith(MODEL)}


def _tail_mean(losses: list[float]) -> float | None:
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / len(tail) if tail else None
