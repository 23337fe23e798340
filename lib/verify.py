"""Do the figures in paper_figs/ still belong to this tree? Reads files only; computes and changes nothing."""

import json
from dataclasses import dataclass
from pathlib import Path

from lib import profiles, runs, sealed
from lib.checks import BadInput

ENDINGS = (".json", ".png", ".svg", ".gif", ".csv")


@dataclass(frozen=True)
class Verdict:
    """What became of one figure.

    Attributes:
        figure: its profile and name.
        files: files that are not those the figure was saved with: "name: missing" or "name: altered".
        code: whether the code that computed its numbers is what it was.
        settings: settings of the profile that differ: "key: then -> now".
        stale: runs and weights by older code that went into it.
    """

    figure: str
    files: list[str]
    code: bool
    settings: list[str]
    stale: list[str]

    @property
    def agrees(self) -> bool:
        """Nothing has changed."""
        return not self.files and self.code and not self.settings and not self.stale


def verify(root: Path) -> list[Verdict]:
    """One verdict for each figure or table below `root`: <profile>/<name>.json and the files that it names."""
    there = {path.with_suffix(".json") for ending in ENDINGS for path in root.glob(f"*/*{ending}")}
    return [_verdict(path) for path in sorted(there)]


def report(verdicts: list[Verdict]) -> str:
    """A line a figure, and what changed below it."""
    lines = []
    for v in verdicts:
        code = [] if v.code else ["lib: has changed since this was computed"]
        lines.append(f"{v.figure:<32}{'agrees' if v.agrees else 'DIFFERS'}")
        lines += [f"    {change}" for change in [*v.files, *code, *v.settings]]
        lines += [f"    {name}: was computed by other code, and reused" for name in v.stale]
    differing = sum(not v.agrees for v in verdicts)
    return "\n".join([*lines, f"{len(verdicts) - differing} of {len(verdicts)} figures agree with this tree"])


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
    same_code = origin["code_sha256"] in (runs.code_digest(), runs.spot_digest())
    return Verdict(name, files, same_code, _changed(about["profile"]), origin.get("stale", []))


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
