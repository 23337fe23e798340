"""Nothing that is read is ever run: checkpoints, YAML, parameters, names; and what no source may contain."""

import ast
import pickle
import struct
import subprocess

import papermill
import pytest
import torch

from lib import paths, profiles, reproduce
from lib.checks import BadInput
from lib.classifier import Classifier
from lib.generators.flow import Flow
from lib.generators.networks import MlpSettings
from lib.generators.training import train
from lib.runs import Store

SOURCES = [*(paths.PROJECT / "lib").rglob("*.py"), *paths.NOTEBOOKS.glob("*.py")]
IDS = [str(path.relative_to(paths.PROJECT)) for path in SOURCES]


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def canary(tmp_path):
    """A file that hostile input tries to make."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "it was run"


def hostile_files(canary, folder):
    """Files that are no weights, by what they are."""
    torch.save({"weight.0": Bomb(canary)}, folder / "zip")
    torch.save({"weight.0": Bomb(canary)}, folder / "legacy", _use_new_zipfile_serialization=False)
    shape = b'{"x":{"dtype":"F32","shape":[%d],"data_offsets":[0,4]}}' % 2**62
    beyond = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,%d]}}' % 2**62
    return {
        "a pickle": pickle.dumps(Bomb(canary)),
        "a .pt": (folder / "zip").read_bytes(),
        "an old .pt": (folder / "legacy").read_bytes(),
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
        "a header of all the memory there is": struct.pack("<Q", 2**40) + b"{}",
        "a header longer than the file": struct.pack("<Q", 100) + b"{}",
        "a header that is no JSON": struct.pack("<Q", 8) + b"\xff" * 8,
        "a header nested without end": struct.pack("<Q", 90_000) + b'{"a":' * 18_000,
        "a tensor of 2^62 numbers": struct.pack("<Q", len(shape)) + shape + b"\0" * 4,
        "a tensor beyond the file": struct.pack("<Q", len(beyond)) + beyond + b"\0" * 4,
    }


def test_a_hostile_checkpoint_is_refused_and_not_run(canary, tmp_path):
    for what, content in hostile_files(canary, tmp_path).items():
        path = tmp_path / "p0.safetensors"
        for cls in (Flow, Classifier):
            Flow(MlpSettings(width=8, blocks=1)).save(path, {"classifier": {}})
            path.write_bytes(content)
            with pytest.raises(BadInput, match="is not readable") as error:
                cls.load(path)
            assert "\n" not in str(error.value), what


def test_hostile_files_in_a_run_folder_are_set_aside_and_not_run(canary, tmp_path):
    store, net = Store(tmp_path / "run", {}), torch.nn.Linear(1, 1)
    for content in hostile_files(canary, tmp_path).values():
        for name, read in {
            "round_000": lambda: store.load("round_000"),
            "unfinished": lambda: train(
                net, lambda x, rng: net(x).square().mean(), torch.ones(4, 1), 1, seed=0, batch=2, lr=0.1,
                checkpoint=store.folder / "unfinished.safetensors",
            ),
        }.items():  # fmt: skip
            (store.folder / f"{name}.safetensors").write_bytes(content)
            with pytest.warns(UserWarning, match=f"{name}.safetensors is damaged"):
                read()
        (store.folder / "settings.json").write_bytes(content)
        with pytest.warns(UserWarning, match=r"settings\.json is damaged"), store.lock():
            pass


def hostile_yaml(canary):
    return [
        f"!!python/object/apply:os.system ['touch {canary}']",
        f"!!python/object/apply:subprocess.check_output [[touch, {canary}]]",
        f"!!python/object/new:tuple [!!python/object/apply:os.system ['touch {canary}']]",
        "!!python/name:os.system",
    ]


def test_hostile_yaml_in_a_profile_is_not_run(canary, scratch, monkeypatch):
    (scratch / "quick.yaml").write_text((paths.PROFILES / "quick.yaml").read_text())
    monkeypatch.setattr(paths, "PROFILES", scratch)
    for text in hostile_yaml(canary):
        (scratch / "hostile.yaml").write_text(f"toy:\n  rounds: {text}\n")
        with pytest.raises(BadInput, match="profile = 'hostile': must be plain YAML") as error:
            profiles.load("hostile")
        assert "\n" not in str(error.value)


def test_hostile_yaml_on_the_command_line_is_not_run(canary):
    for text in hostile_yaml(canary):
        with pytest.raises(BadInput, match="must be a YAML value"):
            reproduce.parse_settings([f"toy.rounds={text}"])


def hostile_words(canary):
    touch = f"touch {canary}"
    return [
        f"$({touch})", f"`{touch}`", f"; {touch} #", f"| {touch}", f"\n{touch}\n", f"'; {touch}; '",
        f'"; {touch}; "', f"--help; {touch}", f'"); import os; os.system("{touch}") #',
        f"__import__('os').system('{touch}')",
    ]  # fmt: skip


def test_hostile_arguments_are_refused_in_one_line(canary, capsys):
    for word in hostile_words(canary):
        for arguments in (
            ["--profile", word], ["--only", word], ["--seed", word], ["--jobs", word], [word],
            ["-p", word], ["-p", f"{word}=1"], ["-p", f"toy.rounds={word}"], ["-p", f"images.p0_weights={word}"],
        ):  # fmt: skip
            assert reproduce.main(arguments) == 2, arguments
            assert capsys.readouterr().err.strip()


def test_a_parameter_reaches_a_notebook_as_a_string_and_no_more(canary, tmp_path):
    """Papermill writes parameters into a cell of code: whatever they are, they stay values there."""
    words = hostile_words(canary)
    notebook = papermill.iorw.load_notebook_node(str(paths.NOTEBOOKS / "01_population.ipynb"))
    given = {"profile": "quick", "overrides": {"x": words}}
    filled = papermill.parameterize.parameterize_notebook(notebook, given)
    (cell,) = (c for c in filled.cells if "injected-parameters" in c.metadata.get("tags", []))
    found = {}
    for statement in ast.parse(cell.source).body:
        found[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert found == given


def test_the_script_passes_its_arguments_on_as_they_are(canary, tmp_path):
    """run_all.sh with a set-up that is done and a Python that shows what it is given."""
    home = tmp_path / "a folder; with $(odd) 'names'"
    (home / ".venv" / "bin").mkdir(parents=True)
    for name in ("run_all.sh", "pyproject.toml", "uv.lock"):
        (home / name).write_bytes((paths.PROJECT / name).read_bytes())
    sums = ["bash", "-c", "cat pyproject.toml uv.lock run_all.sh <(pwd -P) | cksum"]
    stamp = subprocess.run(sums, cwd=home, capture_output=True, check=True)
    (home / ".venv" / ".curated-loops").write_bytes(stamp.stdout)
    python = home / ".venv" / "bin" / "python"
    python.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    python.chmod(0o755)
    arguments = [word for word in hostile_words(canary) if "--help" not in word]
    done = subprocess.run(
        ["bash", str(home / "run_all.sh"), *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\0")[:-1] == ["-m", "lib.reproduce", *arguments]


# --- what the source may not contain ---

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.save", "pd.read_pickle"}
SAFE = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def violations(source: str) -> list[str]:
    """What in a source could run code that was read from somewhere."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {o.arg: o.value.value if isinstance(o.value, ast.Constant) else ... for o in node.keywords}
        if name in CALLS or (name.startswith("yaml.") and not name.startswith("yaml.safe_")):
            found.append(name)
        if options.get("shell", False) is not False or name.startswith(("os.spawn", "subprocess.getoutput")):
            found.append(f"{name} with a shell")
        if name in SAFE and options.get(SAFE[name][0]) is not SAFE[name][1]:
            found.append(f"{name} without {SAFE[name][0]}={SAFE[name][1]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=IDS)
def test_no_source_can_run_what_it_reads(path):
    assert violations(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import joblib.memory", "eval(x)", "exec(x)", "torch.load(f)",
        "torch.load(f, weights_only=False)", "torch.load(f, weights_only=w)", "yaml.load(f, yaml.Loader)",
        "yaml.unsafe_load(f)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=s)", "os.system(x)",
        "np.load(f)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)",
    ],
)  # fmt: skip
def test_the_scan_finds(source):
    assert len(violations(source)) >= 1


def test_the_scan_lets_the_safe_ones_pass():
    safe = "torch.load(f, weights_only=True); yaml.safe_load(f); subprocess.run(x); torch.compile(n); net.eval()"
    assert violations(safe) == []
