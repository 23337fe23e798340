"""What may go wrong on the way: one clear line, nothing that was finished is lost, the same command goes on."""

import errno
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from lib import experiments, image_experiments, paths, profiles, reproduce, sealed, toy
from lib.checks import BadInput, NotFinite
from lib.classifier import Classifier, ClassifierSettings
from lib.generators.flow import METHODS, Flow
from lib.generators.networks import MlpSettings
from lib.generators.training import NonFiniteLoss
from lib.loop import retrain

LOOP = {"toy.rounds": 3, "toy.first_steps": 4, "toy.round_steps": 3, "toy.n_keep": 64, "toy.n_real": 200}
NET = MlpSettings(width=8, blocks=1)
IMAGES = torch.randint(0, 256, (20, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def config(**changes):
    settings = profiles.load("quick", LOOP).toy
    task = replace(experiments.toy_task(toy.gaussians(), settings, 0), **changes)
    return experiments.toy_config(task, settings, "mixed", 0)


def history(run):
    return run.history.drop(columns="seconds")


def failing_in_call(n, function, error):
    """`function`, but its n-th call raises."""
    calls = itertools.count(1)

    def wrapped(*arguments, **options):
        if next(calls) == n:
            raise error
        return function(*arguments, **options)

    return wrapped


# --- not finite ---


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_reward_that_is_not_finite_names_its_round_and_is_not_stored(scratch, value):
    good, calls = config().task.reward, itertools.count()

    def reward(x):
        found = good(x)
        if next(calls) == 2:
            found[:3] = value
        return found

    with pytest.raises(
        NotFinite, match=r"^round 2: 3 of 256 rewards are not finite; the rounds before it are kept$"
    ):
        retrain(config(reward=reward), run_dir=scratch / "run")
    kept = {path: path.read_bytes() for path in (scratch / "run").glob("round_*")}
    assert len(kept) == 2
    assert history(retrain(config(), run_dir=scratch / "run")).equals(history(retrain(config())))
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_loss_that_is_not_finite_names_its_round_and_step(scratch):
    broken = config()
    options = broken.task.fit_round | {"lr": 1e30}
    with pytest.raises(NonFiniteLoss, match=r"^round 1: loss or gradient is not finite at step \d+: .* are kept$"):
        retrain(config(fit_round=options | {"steps": 50}), run_dir=scratch / "run")
    assert [path.stem for path in (scratch / "run").glob("round_*")] == ["round_000"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_no_images(method, value):
    flow = Flow(NET, method=method)
    with torch.no_grad():
        flow.net.leave[-1].bias[0] = value
    with pytest.raises(NotFinite, match=r"(not finite|no step small enough): the model has diverged$") as error:
        flow.sample(4, seed=0)
    assert "\n" not in str(error.value)


# --- disk ---


def test_a_full_disk_is_named_and_nothing_finished_is_lost(scratch, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(sealed, "save_file", failing_in_call(4, sealed.save_file, full))  # p0, rounds 0, 1, 2
    said = r"run/round_002\.safetensors cannot be written \(No space left on device\): what was finished is kept"
    with pytest.raises(OSError, match=said) as error:
        retrain(config(), run_dir=scratch / "run")
    assert "\n" not in str(error.value)
    assert sorted(path.stem for path in (scratch / "run").glob("*.*")) == ["round_000", "round_001", "settings"]
    monkeypatch.undo()
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(scratch / "others"))
    assert history(retrain(config(), run_dir=scratch / "run")).equals(history(retrain(config())))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: needs Linux and root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    tensors = {"x": torch.arange(25_000.0)}  # 100 kB
    sealed.write(small_disk / "one.safetensors", tensors, {})
    sealed.write(small_disk / "two.safetensors", tensors, {})
    with pytest.raises(OSError, match=r"three\.safetensors cannot be written .*[Nn]o space left on device"):
        sealed.write(small_disk / "three.safetensors", tensors, {})
    with pytest.raises(OSError, match=r"two\.safetensors cannot be written"):
        sealed.write(small_disk / "two.safetensors", {"x": torch.arange(50_000.0)}, {})
    assert torch.equal(sealed.read(small_disk / "two.safetensors")[0]["x"], tensors["x"])
    assert sorted(path.name for path in small_disk.iterdir()) == ["one.safetensors", "two.safetensors"]
    (small_disk / "one.safetensors").unlink()
    sealed.write(small_disk / "three.safetensors", tensors, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_to_write_is_named(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="locked"):
        retrain(config(), run_dir=tmp_path / "locked" / "run")


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        retrain(config(), run_dir=tmp_path / "file" / "run")


# --- devices ---


def test_a_gpu_that_is_not_there_is_one_line_before_anything_is_computed(scratch, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    image_experiments.studio.cache_clear()
    profile = profiles.load("quick", {"images.device": "cuda"})
    with pytest.raises(BadInput, match=r"^images\.device = 'cuda': must be auto or cpu: no GPU is found$"):
        image_experiments.image_experiment(profile, "airplane", [0])
    assert list(scratch.iterdir()) == []


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore of the same.")


def test_out_of_memory_says_which_number_to_lower(monkeypatch):
    flow, judge = Flow(NET), Classifier(ClassifierSettings("digits", 0.1))
    for work, number in (
        (lambda: flow.fit(IMAGES, 1, seed=0, batch=16), r"images\.batch"),
        (lambda: flow.sample(8, seed=0, batch=4), r"batch = 4 of Flow\.sample"),
        (lambda: judge.probabilities(IMAGES, batch=5), "batch = 5"),
    ):
        monkeypatch.setattr(flow, "_call", out_of_memory)
        monkeypatch.setattr(judge.net, "forward", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError, match=rf"^lower .*{number}.*: CUDA out of memory") as error:
            work()
        assert "\n" not in str(error.value)


# --- what is asked for ---


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images.shards": 65}, "images.shards = 65: must be at most 64"),
        ({"images.batch": 8, "images.shards": 9}, "images.shards = 9: must be at most 8"),
        ({"images.n_keep": 8}, "images.n_keep = 8: must be at least 36 / images.k"),
        ({"images.n_quality": 5000}, "images.n_quality = 5000: must be at most images.n_keep"),
        ({"images.p0_weights": "../secret"}, "images.p0_weights = '../secret'"),
        (
            {"images.p0_weights": "digits_p"},
            "images.p0_weights = 'digits_p': must be \"\", to train here, or a file",
        ),
        ({"images.reward_weights": "/etc/passwd"}, "images.reward_weights = '/etc/passwd'"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(changes, says):
    with pytest.raises(BadInput) as error:
        profiles.load("quick", changes)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"images.channels": [8, 8]}, {"images.network": "conv", "images.channels": [33]}]
)
def test_a_network_that_cannot_be_is_refused_before_anything_is_computed(scratch, changes):
    image_experiments.studio.cache_clear()
    with pytest.raises(BadInput, match="channels"):
        image_experiments.image_experiment(profiles.load("quick", changes), "airplane", [0])
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_a_seed_that_is_none_is_refused_by_both_experiments(scratch, seed):
    profile = profiles.load("quick")
    for work in (
        lambda: experiments.toy_experiment("moons", profile, seed),
        lambda: image_experiments.image_experiment(profile, "airplane", [seed]),
    ):
        with pytest.raises(BadInput, match=r"^seed = .*: must be an integer >= 0$"):
            work()
    assert list(scratch.iterdir()) == []


def test_unknown_data_and_arms_are_refused():
    profile = profiles.load("quick")
    with pytest.raises(BadInput, match="name = 'mona': must be one of gaussians, moons"):
        experiments.toy_experiment("mona", profile, 0)
    with pytest.raises(BadInput, match="arm = 'leg': must be one of curated, mixed, control"):
        experiments.toy_experiment("moons", profile, 0, ("leg",))


@pytest.mark.parametrize(
    "card",
    [{}, "abc", {"settings": 5}, {"settings": {"kind": "mlp"}, "colour": 1}, {"settings": {"kind": "mlp"}}],
)
def test_a_card_that_does_not_describe_the_weights_is_one_line(tmp_path, card):
    Flow(NET).save(tmp_path / "p0.safetensors", {"flow": card})
    with pytest.raises(BadInput, match=r"^weights .*p0\.safetensors: the card does not describe them") as error:
        Flow.load(tmp_path / "p0.safetensors")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"method": "rk4"}, BadInput, r"^method = 'rk4': must be one of"),
        ({"ode_steps": 0}, BadInput, r"^ode_steps = 0: must be an integer"),
        ({"precision": "x"}, BadInput, r"^precision = 'x': must be one of"),
        ({"odesteps": 3}, TypeError, "unexpected keyword argument 'odesteps'"),
        ({"device": "nowhere"}, RuntimeError, "nowhere"),
    ],
)
def test_a_mistake_of_who_loads_is_not_blamed_on_the_weights(tmp_path, options, error, says):
    Flow(NET).save(tmp_path / "p0.safetensors", {})
    with pytest.raises(error, match=says):
        Flow.load(tmp_path / "p0.safetensors", **options)
    if options.keys() & {"precision", "odesteps", "device"}:
        Classifier(ClassifierSettings("digits", 0.1)).save(tmp_path / "judge.safetensors", {})
        with pytest.raises(error, match=says):
            Classifier.load(tmp_path / "judge.safetensors", **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.parametrize("cls", [Flow, Classifier])
def test_a_gpu_that_is_not_there_is_not_blamed_on_the_weights(tmp_path, cls):
    cls(NET if cls is Flow else ClassifierSettings("digits", 0.1)).save(tmp_path / "x.safetensors", {})
    with pytest.raises((RuntimeError, AssertionError), match=r"(?i)nvidia|cuda") as error:
        cls.load(tmp_path / "x.safetensors", device="cuda")
    assert not isinstance(error.value, BadInput)


def test_an_unreadable_checkpoint_is_one_line_and_nothing_is_computed(scratch, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", scratch / "checkpoints")
    Flow(MlpSettings()).save(scratch / "checkpoints" / "reward.safetensors", {})
    (scratch / "checkpoints" / "reward.safetensors").write_bytes(b"\0" * 99)
    image_experiments.studio.cache_clear()
    profile = profiles.load("quick", {"images.p0_weights": "", "images.reward_weights": "reward"})
    with pytest.raises(BadInput, match=r"reward\.safetensors is not readable .*: train them again or restore"):
        image_experiments.image_experiment(profile, "airplane", [0])
    assert [path.name for path in scratch.iterdir()] == ["checkpoints"]


# --- Ctrl-C ---

INTERRUPTED = """
from pathlib import Path
from lib import experiments, profiles, toy
from lib.loop import retrain
changes = {"toy.rounds": 200, "toy.first_steps": 20, "toy.round_steps": 20, "toy.n_keep": 64, "toy.n_real": 200}
settings = profiles.load("quick", changes).toy
task = experiments.toy_task(toy.gaussians(), settings, 0)
print("ready", flush=True)
retrain(experiments.toy_config(task, settings, "mixed", 0), run_dir=Path("run"))
"""


def test_ctrl_c_stops_a_loop_in_seconds_and_leaves_whole_rounds(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(paths.PROJECT), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", INTERRUPTED]
    child = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    while len(list(tmp_path.glob("run/round_*.safetensors"))) < 3:
        time.sleep(0.05)
        assert child.poll() is None
    began = time.perf_counter()
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1]
    assert time.perf_counter() - began < 30  # a fraction of a second where nobody else computes
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    rounds = sorted((tmp_path / "run").glob("round_*.safetensors"))
    assert 3 <= len(rounds) < 200
    assert all(sealed.read(path) is not None for path in rounds)


def test_the_command_line_says_what_stopped_it(monkeypatch, capsys):
    for error, code, says in (
        (KeyboardInterrupt(), 130, "stopped; the same command goes on"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x"), 1, "No space left on device"),
        (BadInput("k = 0: must be >= 1"), 2, "k = 0: must be >= 1"),
    ):
        monkeypatch.setitem(reproduce.COMMANDS, "verify", failing_in_call(1, print, error))
        assert reproduce.main(["verify"]) == code
        assert says in capsys.readouterr().err
