"""The image figures: which data, classifiers, generator, rewards and arms. Digits and CIFAR-10 share all of it."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import datasets, distributed, finite, metrics, paths, population, quality, rewards, runs, sealed
from lib.checks import require
from lib.classifier import Classifier, ClassifierSettings, train_classifier
from lib.experiments import ARMS, Experiment, Loops, arm_parameters, require_choice, tv_to_exact
from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings, MlpSettings, NetSettings, UNetSettings, settings_to_dict
from lib.loop import Config, Run, Task, retrain
from lib.parallel import threads
from lib.profiles import SHOWN, Images, Profile
from lib.weights import load_weights

AIRPLANE = 0  # the rewarded class: "airplane" of CIFAR-10, the digit 0 where digits stand in
CLASSES = 10
REWARDS = ("airplane", "confidence")
JUDGES = ("fitted", "smoothed")  # reward classifiers: well fitted, and underconfident by label smoothing
QUALITY = ("frechet_distance_evaluator", "precision", "recall")
UNCHOSEN = "unchosen_"  # before the name of a column: the same of a loop without choice
MOMENTS = ("mean_reward", "mean_exp_reward", "var_exp_reward", "entropy", "live_groups")
SEEDS = {
    "p0": 0,
    "fitted": 1,
    "evaluator": 2,
    "smoothed": 3,
}  # of networks; a run's own seed comes from the notebook
LEARNS = (  # settings that decide a round
    "network", "channels", "blocks", "round_steps", "lr", "batch", "ema_decay", "flip", "shards", "method",
    "ode_steps", "n_quality", "compiled",
)  # fmt: skip


@dataclass(frozen=True)
class ImageSet:
    """Stored images, uint8 (n, C, H, W), with int64 labels (n,)."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Weights:
    """Trained weights.

    Attributes:
        state: a network's state_dict.
        origin: "trained here", or the file they come from.
        card: what is known of them.
        identity: JSON-able; equal for equal weights.
    """

    state: dict[str, Tensor]
    origin: str
    card: dict
    identity: dict


class Judge:
    """A classifier that remembers its last answer: a round asks several questions about one pool."""

    def __init__(self, classifier: Classifier, weights: Weights):
        self.classifier, self.weights = classifier, weights
        self._images, self._q = None, None

    def __call__(self, images: Tensor) -> Tensor:
        """Class probabilities (n, classes) of uint8 images."""
        if images is not self._images:
            self._images, self._q = images, self.classifier.probabilities(images)
        return self._q

    def label(self, images: Tensor) -> Tensor:
        """The most probable class of each image, (n,) int64."""
        return self(images).argmax(dim=1)


@dataclass(frozen=True)
class Studio:
    """What all image runs of a profile share.

    Attributes:
        settings: the profile's `images` section.
        data: real images; training part for everything learned, test part for accuracies and floors.
        judges: the reward's classifiers by name, some of JUDGES.
        evaluator: counts class shares and gives the features behind the quality columns.
        p0: weights of the first model, shared by all arms and seeds.
    """

    settings: Images
    data: ImageSet
    judges: dict[str, Judge]
    evaluator: Judge
    p0: Weights

    def features(self, images: Tensor) -> Tensor:
        """The evaluator's features of the first n_quality images."""
        return self.evaluator.classifier.features(images[: self.settings.n_quality])

    @functools.cached_property
    def real_features(self) -> Tensor:
        """The evaluator's features of training images."""
        return self.features(self.data.train)

    @functools.cached_property
    def inception(self) -> Path | None:
        """Inception's weights, where they are present and the images are in colour."""
        return quality.INCEPTION if self.data.train.shape[1] == 3 and quality.INCEPTION.exists() else None

    @functools.cached_property
    def inception_of_real(self) -> Tensor | None:
        """Inception's features of as many training images; None where FID cannot be computed."""
        if self.inception is None:
            return None
        return quality.inception_features(self.data.train[: self.settings.n_quality], device(self.settings))

    def quality(self, images: Tensor) -> dict[str, float]:
        """Columns of QUALITY, and `fid` where Inception's weights are present, of images against real ones."""
        found = quality.columns(self.features(images), self.real_features)
        if self.inception_of_real is not None:
            some = images[: self.settings.n_quality]
            features = quality.inception_features(some, device(self.settings))
            found["fid"] = quality.frechet_distance(features, self.inception_of_real)
        return found

    @functools.cached_property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of the images and of every network's weights, Inception's where it measures."""
        data = self.data
        networks = {"p_0": self.p0, "evaluator": self.evaluator.weights}
        networks |= {f"reward ({name})": judge.weights for name, judge in self.judges.items()}
        images = {
            f"{self.settings.data}, {len(part)} {name} images": runs.tensors_sha256(part, labels)
            for name, part, labels in (
                ("training", data.train, data.train_labels),
                ("test", data.test, data.test_labels),
            )
        }
        found = images | {name: runs.tensors_sha256(*weights.state.values()) for name, weights in networks.items()}
        return found | ({"Inception": sealed.file_sha256(self.inception)} if self.inception else {})

    @functools.cached_property
    def floor(self) -> dict[str, float]:
        """The quality columns of real test images: what a perfect generator would score.

        There are 449 test digits, fewer than `n_quality` at `quick`, which makes their distance somewhat larger.
        """
        return self.quality(self.data.test)

    def cards(self) -> pd.DataFrame:
        """Where each network comes from, and the accuracy of the classifiers on test images."""
        named = {f"reward ({name})": judge.weights for name, judge in self.judges.items()}
        named |= {"evaluator": self.evaluator.weights, "p_0": self.p0}
        rows = [(name, w.origin, w.card.get("test_accuracy", "")) for name, w in named.items()]
        return pd.DataFrame(rows, columns=["network", "origin", "accuracy"]).set_index("network")


@functools.lru_cache(maxsize=1)
def studio(settings: Images) -> Studio:
    """Data, classifiers and p_0 of a profile: read from checkpoints/, or made once and kept under runs/."""
    device(settings)
    data = load_images(settings.data)
    most = len(data.train)
    require(settings.n_quality <= most, "images.n_quality", settings.n_quality, f"<= {most}, the real images")
    new_flow(settings, data.train.shape[1:], 0)  # refuses what does not fit before anything is computed
    names = JUDGES if settings.label_smoothing > 0 else JUDGES[:1]
    judges = {name: _judge(settings, data, name) for name in names}
    return Studio(settings, data, judges, _judge(settings, data, "evaluator"), _p0(settings, data.train))


def prepare(settings: Images, name: str) -> Weights:
    """One network of a studio: "p0", "evaluator", or one of JUDGES; read, or made once and kept under runs/."""
    data = load_images(settings.data)
    return _p0(settings, data.train) if name == "p0" else _judge(settings, data, name).weights


@functools.lru_cache(maxsize=1)
def load_images(data: str) -> ImageSet:
    """Real images: CIFAR-10's two parts, or three quarters and one quarter of the digits."""
    if data == "cifar10":
        if distributed.processes() > 1:  # one download for all
            distributed.on_first(lambda: datasets.cifar10(train=True) and None)
        return ImageSet(*datasets.cifar10(train=True), *datasets.cifar10(train=False))
    images, labels = datasets.digits()
    train, test = datasets.split(len(images))
    return ImageSet(images[train], labels[train], images[test], labels[test])


def class_names(settings: Images) -> tuple[str, ...]:
    """Names of the ten classes."""
    return datasets.CIFAR10_CLASSES if settings.data == "cifar10" else datasets.DIGIT_CLASSES


def source(settings: Images) -> str:
    """What a title says of the data."""
    return "CIFAR-10" if settings.data == "cifar10" else "8x8 digits standing in for CIFAR-10"


def network(settings: Images, shape: tuple[int, ...]) -> NetSettings:
    """The velocity network for images of a shape (C, H, W)."""
    shape, channels, blocks = tuple(shape), settings.channels, settings.blocks
    if settings.network == "mlp":
        require(len(channels) == 1, "images.channels", list(channels), "one number of hidden units for an mlp")
        return MlpSettings(shape, channels[0], blocks)
    return {"conv": ConvSettings, "unet": UNetSettings}[settings.network](shape, channels, blocks)


def device(settings: Images) -> str:
    """Where networks run.

    Raises:
        BadInput: a GPU is asked for, and there is none that PyTorch can use.
    """
    there = torch.cuda.is_available()
    require(there or settings.device != "cuda", "images.device", settings.device, "auto or cpu: no GPU is found")
    return settings.device if settings.device != "auto" else "cuda" if there else "cpu"


def new_flow(settings: Images, shape: tuple[int, ...], seed: int) -> Flow:
    """An untrained generator of images of a shape (C, H, W)."""
    return Flow(
        network(settings, shape),
        seed=seed,
        device=device(settings),
        compiled=settings.compiled,
        method=settings.method,
        ode_steps=settings.ode_steps,
        flip=settings.flip,
    )


def image_task(parts: Studio, reward: str | None, judge: str = "fitted") -> Task:
    """What the arms of one reward share.

    Args:
        parts: see `studio`.
        reward: one of REWARDS; None for the K = 1 control, where nothing is chosen: one control serves every
            reward, since each history holds the moments of all of them.
        judge: which classifier the reward reads, a key of `parts.judges`.
    """
    s = parts.settings
    require(judge in parts.judges, "judge", judge, f"one of {', '.join(parts.judges)}")
    judges = {name: j.weights.identity for name, j in parts.judges.items()}
    networks = {"p0": parts.p0.identity, "evaluator": parts.evaluator.weights.identity, "judges": judges}
    chosen = {key: getattr(s, key) for key in LEARNS} | {"gamma": [_gamma(s, name) for name in REWARDS]}
    if parts.inception:  # a run has the column `fid` in every round or in none
        chosen["inception"] = parts.checksums["Inception"]
    return Task(
        name=f"{s.data}-{reward or 'control'}",
        settings={"generator": networks | {"data": s.data}, "round": chosen, "reward": reward and [reward, judge]},
        real=parts.data.train,
        generator=lambda seed: new_flow(s, parts.data.train.shape[1:], seed),
        fit_first={},
        fit_round={key: getattr(s, key) for key in ("batch", "lr", "ema_decay", "shards")}
        | {"steps": s.round_steps},
        reward=_reward(s, reward, parts.judges[judge]) if reward else lambda images: torch.zeros(len(images)),
        label=parts.evaluator.label,
        groups=CLASSES,
        measure=functools.partial(_measure, parts),
        first=lambda: parts.p0.state,
        inputs=parts.checksums,
    )


def image_config(task: Task, settings: Images, arm: str, seed: int, rounds: int) -> Config:
    """One arm of an image figure."""
    k, lam = arm_parameters(arm, settings.k, settings.lam)
    return Config(
        task,
        rounds=rounds,
        k=k,
        lam=lam,
        n_pool=settings.n_keep * settings.k,
        n_keep=settings.n_keep,
        seed=seed,
        menus=settings.menus,
        start=settings.start,
        n_store=256,
    )


def image_experiment(
    profile: Profile,
    reward: str,
    seeds: list[int],
    *,
    arms: tuple[str, ...] = ARMS,
    judge: str = "fitted",
    rounds: int | None = None,
) -> Experiment:
    """A figure's runs, beside the exact dynamics on each seed's own pool of p_0, averaged over the seeds.

    Args:
        profile: its `images` section is used.
        reward: one of REWARDS.
        seeds: one run of every arm for each; all start from the same p_0.
        arms: some of ARMS.
        judge: the reward's classifier, one of JUDGES.
        rounds: T; the profile's `rounds` by default.
    """
    require(reward in REWARDS, "reward", reward, f"one of {', '.join(REWARDS)}")
    require_choice(arms, seeds)
    settings = profile.images
    parts, rounds = studio(settings), settings.rounds if rounds is None else rounds
    task, control = image_task(parts, reward, judge), image_task(parts, None)
    measured, exact, chance = ({arm: [] for arm in arms} for _ in range(3))
    for arm, seed in itertools.product(arms, seeds):
        run = retrain(image_config(control if arm == "control" else task, settings, arm, seed, rounds))
        run = _as_reward(run, reward, judge)
        measured[arm].append(run)
        exact[arm].append(exact_history(run, task))
        chance[arm].append(finite_histories(run, task))
    means = {arm: _mean(tables) for arm, tables in exact.items()}
    finite = {arm: pd.concat(tables) for arm, tables in chance.items()}
    far = {arm: table.assign(tv_to_exact=tv_to_exact(table, means[arm])) for arm, table in finite.items()}
    return Experiment(measured, means, far)


@dataclass(frozen=True)
class _Atoms:
    """What the exact dynamics of a run lives on: the pool it drew from p_0 and, where mixed in, real images."""

    prob_0: np.ndarray
    prob_ref: np.ndarray | None
    reward: np.ndarray
    label: np.ndarray


def _atoms(run: Run, task: Task) -> _Atoms:
    reward, label = run.pool(0)
    n, m, prob_ref = len(reward), 0, None
    if math.isfinite(run.config.lam):
        m = len(task.real)
        reward, label = torch.cat([reward, task.reward(task.real)]), torch.cat([label, task.label(task.real)])
        prob_ref = np.repeat([0.0, 1 / m], [n, m])
    return _Atoms(np.repeat([1 / n, 0.0], [n, m]), prob_ref, reward.double().numpy(), label.numpy())


def exact_history(run: Run, task: Task) -> pd.DataFrame:
    """The exact dynamics on the pool that a run drew from p_0: nothing is learned, nothing is drawn.

    Atoms are the pool's samples (p_0: equal weights) and, where real data is mixed in, the real training images
    (p_ref: equal weights, absent from p_0). Choice reweights atoms; unlike a model it cannot move them.

    Args:
        run: of any arm.
        task: gives reward and label of real images.

    Returns:
        One row a round, with those columns of a history that are functions of reward and class; where real data
        is mixed in, also UNCHOSEN: the same loop without any choice (K = 1).
    """
    k, lam, rounds = run.config.k, run.config.lam, run.config.rounds
    if k == 1 and math.isinf(lam):  # nothing is chosen and nothing comes in: the law stands still
        first = run.history.iloc[[0] * (rounds + 1)].reset_index(drop=True)
        return first[[c for c in first if c in MOMENTS or c.startswith("share_")]].assign(round=first.index)
    atoms = _atoms(run, task)
    path = functools.partial(population.trajectory, atoms.prob_0, atoms.reward)
    columns = functools.partial(_columns, atoms, task.groups)
    rows = [columns(prob) | {"round": t} for t, prob in enumerate(path(k, rounds, lam, atoms.prob_ref))]
    if math.isfinite(lam):
        for row, prob in zip(rows, path(1, rounds, lam, atoms.prob_ref), strict=True):
            found = columns(prob)
            row |= {f"{UNCHOSEN}{name}": found[name] for name in ("mean_reward", "entropy")}
    return pd.DataFrame(rows)


def finite_histories(run: Run, task: Task, repeats: int = finite.REPEATS) -> pd.DataFrame:
    """Histories of a perfect model on as many samples as a run draws, from the pool that it drew from p_0.

    Args:
        run: of any arm.
        task: gives reward and label of real images.
        repeats: number of loops.

    Returns:
        The columns of `exact_history`, and `repeat`; of a loop without choice those of the classes alone.
    """
    atoms, config = _atoms(run, task), run.config
    chosen = config.k > 1

    def columns(prob: np.ndarray) -> dict[str, float]:
        found = _columns(atoms, task.groups, prob)
        return {name: value for name, value in found.items() if chosen or "reward" not in name}

    loop = atoms.prob_0, population.Rewards(atoms.reward), config.k, config.rounds, config.n_keep
    mixed = {"lam": config.lam, "prob_ref": atoms.prob_ref, "seed": config.seed, "repeats": repeats}
    mixed["n_pool"] = config.n_pool if config.menus == "resample" else None
    return finite.histories(columns, config.n_pool, *loop, **mixed)


def _columns(atoms: _Atoms, groups: int, prob: np.ndarray) -> dict[str, float]:
    return metrics.reward_moments(atoms.reward, prob) | metrics.group_columns(atoms.label, groups, prob)


def image_study(profile: Profile, reward: str, seed: int, changes: dict[str, dict]) -> dict[str, Experiment]:
    """The curated-only arm, `study_rounds` long, with some settings of the `images` section changed.

    Args:
        profile: as in `image_experiment`.
        reward: one of REWARDS.
        seed: of the one run of each setting.
        changes: name -> changed settings.

    Returns:
        name -> its experiment; {} where `study_rounds` is 0.
    """
    found = {}
    if profile.images.study_rounds == 0:
        return found
    for name, change in changes.items():
        other = profile.model_copy(update={"images": profile.images.model_copy(update=change)})
        found[name] = image_experiment(
            other, reward, [seed], arms=("curated",), rounds=profile.images.study_rounds
        )
    return found


def stored_images(
    experiment: Experiment, rounds: list[int], n: int = SHOWN
) -> tuple[dict[str, list[np.ndarray]], pd.DataFrame]:
    """The first n images of each arm's first seed at some rounds, and what was measured of each.

    Returns:
        ({arm: [uint8 (n, C, H, W) a round]}, table with columns arm, round, position, class, reward); the
        control has no reward of its own.
    """
    pictures, parts = {}, []
    for arm, (run, *_) in experiment.runs.items():
        pictures[arm] = [run.samples(t)[:n].numpy() for t in rounds]
        for t in rounds:
            reward, label = (values[:n].numpy() for values in run.pool(t))
            table = pd.DataFrame({"position": range(n), "class": label, "reward": reward.round(4)})
            parts.append(table.assign(arm=arm, round=t))
    return pictures, pd.concat(parts, ignore_index=True)[["arm", "round", "position", "class", "reward"]]


def drift(loops: Loops, column: str, arm: str = "curated") -> pd.Series:
    """Change of a column from the first to the last round, mean over seeds, beside what could have made it.

    The exact dynamics of the arm; the same of a perfect model on as many samples, least and greatest of its
    repeats; the loop without choice, as measured (K = 1 control) or, with real data, exact; the arm as measured.
    """

    def change(table: pd.DataFrame, column: str = column) -> float:
        by_round = table.groupby("round")[column].mean()
        return float(by_round.iloc[-1] - by_round.iloc[0])

    exact, mixed = loops.exact[arm], arm == "mixed"
    found = {"choice and real data (exact)" if mixed else "choice alone (exact)": change(exact)}
    if column in loops.finite.get(arm, ()):
        by_round = loops.finite[arm].groupby("round")[column]
        for bound, ends in (("least", by_round.min()), ("greatest", by_round.max())):
            found[f"the same on finite samples, {bound}"] = float(ends.iloc[-1] - exact[column].iloc[0])
    if f"{UNCHOSEN}{column}" in exact:
        found["real data alone (exact, K = 1)"] = change(exact, f"{UNCHOSEN}{column}")
    if not mixed:
        found["no choice (K = 1, measured)"] = change(loops.histories("control"))
    found["measured"] = change(loops.histories(arm))
    return pd.Series(found, name=f"{arm}: change of {column}")


def _gamma(settings: Images, reward: str) -> float:
    return getattr(settings, f"{reward}_gamma")


def _reward(settings: Images, reward: str, judge: Judge) -> Callable[[Tensor], Tensor]:
    gamma = _gamma(settings, reward)
    if reward == "airplane":
        return lambda images: rewards.class_probability(judge(images), AIRPLANE, gamma)
    return lambda images: rewards.confidence(judge(images), gamma)


def _measure(parts: Studio, images: Tensor, label: Tensor) -> dict[str, float]:
    """Columns beyond the loop's own: what each reward's classifier sees, and quality."""
    found = {"confidence_evaluator": float(parts.evaluator(images).amax(dim=1).mean())}
    for name, judge in parts.judges.items():
        share = metrics.shares(judge.label(images).numpy(), CLASSES)
        found |= {f"{name}_share_{i}": float(value) for i, value in enumerate(share)}
        for reward in REWARDS:
            moments = metrics.reward_moments(_reward(parts.settings, reward, judge)(images).numpy())
            found |= {f"{reward}_{name}_{column}": value for column, value in moments.items()}
    return found | parts.quality(images)


def _as_reward(run: Run, reward: str, judge: str) -> Run:
    """A run's history with the moments of one reward in the standard columns: the control has none of its own."""
    own = {column: run.history[f"{reward}_{judge}_{column}"] for column in MOMENTS if "reward" in column}
    return dataclasses.replace(run, history=run.history.assign(**own))


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables).groupby("round", as_index=False).mean()


def _judge(settings: Images, data: ImageSet, name: str) -> Judge:
    """The classifier of a name in JUDGES, or "evaluator"."""
    role = "evaluator" if name == "evaluator" else "reward"
    smoothed = name == "smoothed"
    kind = ClassifierSettings(
        "digits" if settings.data == "digits" else "vgg11", getattr(settings, f"{role}_width")
    )
    path = _checkpoint("" if smoothed else getattr(settings, f"{role}_weights"))
    if path:
        found = Classifier.load(path, device=device(settings))
        allowed = f'"" to train one here: the file holds {found.settings}, the profile asks for {kind}'
        require(found.settings == kind, f"images.{role}_weights", path.stem, allowed)
        return Judge(found, Weights(found.net.state_dict(), path.name, load_weights(path)[1], _identity(path)))
    training = {
        "seed": SEEDS[name],
        "epochs": settings.smoothed_epochs if smoothed else getattr(settings, f"{role}_epochs"),
        "label_smoothing": settings.label_smoothing if smoothed else 0.0,
        "augment": settings.data == "cifar10",  # a mirrored digit is no digit
        "batch": settings.classifier_batch,
        "shards": settings.shards,
    }
    found = Classifier(kind, device=device(settings))
    about = training | {"data": settings.data, **dataclasses.asdict(kind)}

    def train(checkpoint: Path) -> tuple[dict, dict]:
        with threads(1) if kind.kind == "digits" else nullcontext():
            trained = train_classifier(
                data.train,
                data.train_labels,
                settings=kind,
                device=device(settings),
                checkpoint=checkpoint,
                **training,
            )
        return trained.net.state_dict(), {"test_accuracy": trained.accuracy(data.test, data.test_labels)}

    def make(checkpoint: Path) -> tuple[dict, dict]:
        return distributed.on_first(functools.partial(train, checkpoint))

    weights = _made_once(f"{settings.data}-{name}", about, make)
    found.net.load_state_dict(weights.state)
    return Judge(found, weights)


def _p0(settings: Images, real: Tensor) -> Weights:
    wanted, path = network(settings, real.shape[1:]), _checkpoint(settings.p0_weights)
    if path:
        flow = Flow.load(path)
        allowed = f'"" to train p_0 here: the file holds {flow.settings}, the profile asks for {wanted}'
        require(flow.settings == wanted, "images.p0_weights", settings.p0_weights, allowed)
        return Weights(flow.state_dict(), path.name, load_weights(path)[1], _identity(path))
    training = {
        "steps": settings.first_steps,
        "batch": settings.batch,
        "lr": settings.first_lr,
        "decay": settings.first_decay,
        "warmup": settings.warmup,
        "ema_decay": settings.ema_decay,
        "shards": settings.shards,
    }
    about = training | {"data": settings.data, "flip": settings.flip, **settings_to_dict(wanted)}

    def make(checkpoint: Path) -> tuple[dict, dict]:
        flow = new_flow(settings, real.shape[1:], SEEDS["p0"])
        kept = {"checkpoint": checkpoint, "checkpoint_every": settings.checkpoint_every}
        flow.fit(real, seed=SEEDS["p0"], **kept, **training)
        return flow.state_dict(), {}

    return _made_once(f"{settings.data}-p0", about, make)


def _made_once(name: str, about: dict, make: Callable[[Path], tuple[dict, dict]]) -> Weights:
    """Weights from the run folder of these settings; made there the first time, resumed after a kill.

    Args:
        name: of the folder.
        about: settings that decide the weights.
        make: file for the state of unfinished training -> (state_dict, card).
    """
    store = runs.find(name, about, ["weights"])
    with store.lock():
        done = store.load("weights")
        if done is None:
            unfinished = store.folder / "unfinished.safetensors"
            done = make(unfinished)
            store.save("weights", *done)
            if distributed.is_first():
                unfinished.unlink(missing_ok=True)
    return Weights(done[0], "trained here", done[1], about)


def _checkpoint(name: str) -> Path | None:
    return paths.CHECKPOINTS / f"{name}.safetensors" if name else None


def _identity(path: Path) -> dict:
    return {"file": path.name, "sha256": sealed.file_sha256(path)}
