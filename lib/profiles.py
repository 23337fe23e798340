"""Profiles: one YAML a scale of the experiments, validated before anything runs."""

import difflib
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import paths
from lib.checks import BadInput, require


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


SHOWN = 36  # images of a round in a grid of samples
_File = Annotated[str, Field(pattern=r"^[\w-]*$")]  # a name in checkpoints/, and never a path out of it


class Population(_Section):
    """Exact dynamics (notebook 01); meanings and units stand in profiles/quick.yaml."""

    grid: int = Field(ge=32, le=1024)
    rounds_pure: int = Field(ge=1)
    rounds_mixed: int = Field(ge=1)


class Toys(_Section):
    """Trained 2-D loops (notebooks 02 and 03); meanings and units stand in profiles/quick.yaml."""

    k: int = Field(ge=2)
    lam: float = Field(gt=0)
    gamma: float = Field(ge=0)
    rounds: int = Field(ge=1)
    seeds: int = Field(ge=1)
    n_real: int = Field(ge=1)
    n_keep: int = Field(ge=1)
    first_steps: int = Field(ge=1)
    round_steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    width: int = Field(ge=1)
    variance: Literal["beta", "posterior"]
    start: Literal["warm", "cold"]
    menus: Literal["disjoint", "resample"]
    grid: int = Field(ge=32, le=1024)


class Images(_Section):
    """Image loops (notebooks 04 to 07); meanings and units stand in profiles/quick.yaml."""

    data: Literal["digits", "cifar10"]
    device: Literal["auto", "cpu", "cuda"]
    compiled: bool
    network: Literal["mlp", "conv", "unet"]
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    blocks: int = Field(ge=1)
    p0_weights: _File
    first_steps: int = Field(ge=1)
    first_lr: float = Field(gt=0)
    first_decay: Literal["constant", "linear", "cosine"]
    warmup: int = Field(ge=0)
    checkpoint_every: int = Field(ge=1)
    round_steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    batch: int = Field(ge=1)
    ema_decay: float = Field(ge=0, lt=1)
    flip: bool
    shards: int = Field(ge=1)
    method: Literal["adams", "midpoint", "heun", "euler", "dopri5"]
    ode_steps: int = Field(ge=1)
    reward_weights: _File
    reward_width: float = Field(gt=0)
    reward_epochs: int = Field(ge=1)
    evaluator_weights: _File
    evaluator_width: float = Field(gt=0)
    evaluator_epochs: int = Field(ge=1)
    classifier_batch: int = Field(ge=1)
    label_smoothing: float = Field(ge=0, lt=1)
    smoothed_epochs: int = Field(ge=1)
    k: int = Field(ge=2)
    lam: float = Field(gt=0)
    airplane_gamma: float = Field(ge=0, le=300)  # e^(2 r), in the variance of e^r, must be a float64
    confidence_gamma: float = Field(ge=0, le=300)
    rounds: int = Field(ge=1)
    quality_rounds: int = Field(ge=1)
    study_rounds: int = Field(ge=0)
    seeds: int = Field(ge=1)
    confidence_seeds: int = Field(ge=1)
    repeats: int = Field(ge=1)
    n_keep: int = Field(ge=1)
    n_quality: int = Field(ge=4)
    menus: Literal["disjoint", "resample"]
    start: Literal["warm", "cold"]


class Workflow(_Section):
    """How the work is cut into jobs, which changes no result; meanings stand in profiles/quick.yaml."""

    separate_runs: bool


class Profile(_Section):
    """A resolved profile."""

    name: str
    workflow: Workflow
    population: Population
    toy: Toys
    images: Images


def names() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))


def load(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """A profile with its differences from quick and your overrides applied.

    Args:
        name: a file in profiles/, without its ending.
        overrides: values by dotted key, e.g. {"toy.rounds": 5}.

    Raises:
        BadInput: for an unknown profile or key, or a value out of range.
    """
    require(name in names(), "profile", name, f"one of {', '.join(names())}")
    settings = _read("quick")
    for key, value in flatten(_read(name)).items():
        _set(settings, key, value)
    for key, value in (overrides or {}).items():
        _set(settings, key, value)
    try:
        profile = Profile(name=name, **settings)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise BadInput(f"{key} = {first['input']!r}: {message}") from None
    _require_fit(profile.images)
    return profile


def _require_fit(images: Images) -> None:
    """What one value alone does not show."""
    most = min(images.batch, images.classifier_batch)
    allowed = f"at most {most}, the smaller of images.batch and images.classifier_batch"
    require(images.shards <= most, "images.shards", images.shards, allowed)
    drawn = images.n_keep * images.k
    shown = f"at least {SHOWN} / images.k: figures show {SHOWN} images of a round"
    require(drawn >= SHOWN, "images.n_keep", images.n_keep, shown)
    allowed = f"at most images.n_keep * images.k = {drawn}, the images drawn each round"
    require(images.n_quality <= drawn, "images.n_quality", images.n_quality, allowed)
    there = sorted(path.stem for path in paths.CHECKPOINTS.glob("*.safetensors"))
    for key in ("p0_weights", "reward_weights", "evaluator_weights"):
        name, allowed = getattr(images, key), f'"", to train here, or a file in checkpoints/: {", ".join(there)}'
        require(name in ("", *there), f"images.{key}", name, allowed)


def _read(name: str) -> dict:
    """The keys of a profile's file; safe_load makes plain values only, never Python objects."""
    path = paths.PROFILES / f"{name}.yaml"
    try:
        found = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"profile = {name!r}: must be plain YAML, but {path}: {reason}") from None
    require(isinstance(found, dict), "profile", name, f"sections of keys, but {path} holds none")
    return found


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """{"toy": {"k": 4}} -> {"toy.k": 4}."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _set(settings: dict, key: str, value: Any) -> None:
    known = flatten(settings)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        raise BadInput(f"parameter {key!r}: unknown{f', did you mean {near[0]!r}?' if near else ''}")
    *sections, last = key.split(".")
    for section in sections:
        settings = settings[section]
    settings[last] = value
