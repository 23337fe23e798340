"""Do the figures in paper_figs/ still belong to this tree? Reads files only; computes and changes nothing."""

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from lib import paths, profiles, runs, sealed
from lib.checks import BadInput
from lib.classifier import Classifier
from lib.generators.flow import Flow

ENDINGS = (".json", ".png", ".svg", ".gif", ".csv")
WEIGHTS: dict[str, tuple[str, Callable[[Path], dict[str, Tensor]]]] = {
    "p_0": ("p0_weights", lambda path: Flow.load(path).state_dict()),
    "evaluator": ("evaluator_weights", lambda path: Classifier.load(path).net.state_dict()),
    "reward (fitted)": ("reward_weights", lambda path: Classifier.load(path).net.state_dict()),
}  # an input in a figure's provenance -> the setting that names its file in checkpoints/, and how that is read


@dataclass(frozen=True)
class Verdict:
    """What became of one figure or table.

    Attributes:
        figure: its profile and name.
        files: files that are not those it was saved with or made from: "name: missing" or "name: altered".
        code: whether the code that computed its numbers is what it was.
        settings: settings of the profile that differ: "key: then -> now".
        stale: runs and weights by older code that went into it.
        notes: what else is not as here, and is no fault: another seed than the default, other packages.
    """

    figure: str
    files: list[str]
    code: bool
    settings: list[str]
    stale: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Nothing has changed that it rests on."""
        return not self.files and self.code and not self.settings and not self.stale


def verify(root: Path) -> list[Verdict]:
    """One verdict for each figure or table below `root`: <profile>/<name>.json and the files that it names."""
    there = {path.with_suffix(".json") for ending in ENDINGS for path in root.glob(f"*/*{ending}")}
    return [_verdict(path) for path in sorted(there)]


def report(verdicts: list[Verdict]) -> str:
    """A line a figure, and what changed below it; notes that a whole folder shares stand once, above it."""
    lines, width = [], max(len(v.figure) for v in verdicts)
    for folder, group in itertools.groupby(verdicts, lambda v: v.figure.split("/")[0]):
        found = list(group)
        shared = [note for note in found[0].notes if all(note in v.notes for v in found)]
        lines += [f"{folder}, all: {note}" for note in shared]
        for v in found:
            code = [] if v.code else ["lib: has changed since this was computed"]
            lines.append(f"{v.figure:<{width}}  {'agrees' if v.agrees else 'DIFFERS'}")
            lines += [f"    {change}" for change in [*v.files, *code, *v.settings]]
            lines += [f"    {name}: was computed by other code, and reused" for name in v.stale]
            lines += [f"    {note}" for note in v.notes if note not in shared]
    agreeing = sum(v.agrees for v in verdicts)
    return "\n".join([*lines, f"{agreeing} of {len(verdicts)} figures and tables agree with this tree"])


def _verdict(path: Path) -> Verdict:
    name = f"{path.parent.name}/{path.stem}"
    if not path.exists():
        return Verdict(name, [f"{path.name}: missing; save the figure again"], True, [], [])
    try:
        return _compared(name, path, json.loads(path.read_text()))
    except (AttributeError, KeyError, TypeError, ValueError):  # no JSON, or not what was written
        return Verdict(name, [f"{path.name}: damaged; save the figure again"], True, [], [])


def _compared(name: str, path: Path, about: dict) -> Verdict:
    files = [] if "files" in about else ["no digests of its files were kept: save it again"]
    for file, digest in about.get("files", {}).items():
        there = path.with_name(file)
        if not there.exists():
            files.append(f"{file}: missing")
        elif sealed.file_sha256(there) != digest:
            files.append(f"{file}: altered")
    origin = about["provenance"]
    files += _altered_weights(about["profile"], origin.get("inputs", {}))
    same_code = origin["code_sha256"] in (runs.code_digest(), runs.spot_digest())
    return Verdict(name, files, same_code, _changed(about["profile"]), origin.get("stale", []), _notes(about))


def _altered_weights(profile: dict, inputs: dict[str, str]) -> list[str]:
    """Files in checkpoints/ that hold other weights than a figure was made from."""
    found = []
    for network, (key, read) in WEIGHTS.items():
        if network not in inputs or not profile["images"][key]:
            continue  # not in it, or trained on the way
        path = paths.CHECKPOINTS / f"{profile['images'][key]}.safetensors"
        if not path.exists():
            found.append(f"checkpoints/{path.name}: missing")
        elif _digest_of_weights(path, read, sealed.file_sha256(path)) != inputs[network]:
            found.append(f"checkpoints/{path.name}: altered")
    return found


@functools.lru_cache
def _digest_of_weights(path: Path, read: Callable[[Path], dict[str, Tensor]], sha256: str) -> str:
    """As provenance tells it; the file's own digest is what tells one call from another. "" for a damaged file."""
    try:
        return runs.tensors_sha256(*read(path).values())
    except BadInput:
        return ""


def _notes(about: dict) -> list[str]:
    then, now = about["provenance"].get("packages", {}), runs.provenance()["packages"]
    moved = [f"{name} {then[name]} -> {now.get(name, 'absent')}" for name in then if then[name] != now.get(name)]
    seed = [f"seed: {about['seed']}, not the default 0"] if about["seed"] else []
    return [*seed, *([f"packages: {', '.join(moved)}"] if moved else [])]


def _changed(then: dict) -> list[str]:
    try:
        now = profiles.flatten(profiles.load(then["name"]).model_dump(mode="json"))
    except BadInput as error:
        return [str(error)]
    then = profiles.flatten(then)
    return [
        f"{key}: {then.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(then | now)
        if then.get(key) != now.get(key) and not key.startswith("workflow.")  # which changes no result
    ]
