"""Any file of a run, damaged in any way: named, set aside, made again, and the history is the same."""

import itertools
import random
import re
import warnings
import zlib

import pytest
import torch
from torch import nn

from lib import experiments, profiles, sealed, toy
from lib.checks import BadInput
from lib.classifier import ClassifierSettings, train_classifier
from lib.datasets import digits
from lib.generators.training import train
from lib.loop import retrain

LOOP = {"toy.rounds": 2, "toy.first_steps": 4, "toy.round_steps": 3, "toy.n_keep": 64, "toy.n_real": 200}


def cut(content, where):
    return content[: int(where * len(content))]


def clear(content, where):
    return bytes(len(content))


def clear_a_block(content, where):
    start = int(where * len(content))
    return content[:start] + bytes(len(content[start : start + 512])) + content[start + 512 :]


def flip_a_bit(content, where):
    broken = bytearray(content)
    broken[int(where * len(content))] ^= 1 << int(8 * where)
    return bytes(broken)


def lose_everything(content, where):
    return b""


KINDS = (cut, clear, clear_a_block, flip_a_bit, lose_everything)


def damage(path, kind, where):
    """Damage a file; False where it is as it was."""
    before = path.read_bytes()
    path.write_bytes(kind(before, where))
    return path.read_bytes() != before


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """() -> a small toy loop in a folder of its own, from the start or from what is left of it."""
    folder = tmp_path_factory.mktemp("damage")
    settings = profiles.load("quick", LOOP).toy
    task = experiments.toy_task(toy.gaussians(), settings, 0)

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CURATED_LOOPS_RUNS", str(folder))
            return retrain(experiments.toy_config(task, settings, "mixed", 0))

    run.folder = folder
    run.whole = run()
    return run


def assert_same(one, two):
    assert one.history.drop(columns="seconds").equals(two.history.drop(columns="seconds"))
    for t in range(len(one.history)):
        left, right = one._stored[t], two._stored[t]
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_a_run_is_made_again(loop, kind):
    files = sorted(path for path in loop.folder.rglob("*") if path.is_file() and ".damaged-" not in path.name)
    names = {path.name for path in files}
    assert {"lock", "settings.json", "p0.safetensors", *(f"round_00{t}.safetensors" for t in range(3))} == names
    for path, draw in itertools.product(files, range(3)):
        where = random.Random(f"{kind.__name__} {path.name} {draw}").random()
        content = path.read_bytes()
        changed = bool(content) and damage(path, kind, where)
        if "-p0-" in path.parent.name:  # looked at only where the first round is missing
            (round_0,) = loop.folder.rglob("round_000.safetensors")
            round_0.unlink()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again = loop()
        assert_same(again, loop.whole)
        said = [str(warning.message) for warning in caught if "is damaged" in str(warning.message)]
        assert len(said) == changed, (path, where)  # no false alarm, and none that is missing
        if changed:
            aside = re.search(r"kept as (\S+),", said[0])[1]
            assert path.name in said[0]
            assert zlib.crc32((path.parent / aside).read_bytes()) == zlib.crc32(kind(content, where))
            (path.parent / aside).unlink()


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 2))


def fit(path, steps=12, stop=None):
    """Weights after some steps; the training breaks off before step `stop`."""
    net, step = network(), itertools.count()

    def loss(x, rng):
        if next(step) == stop:
            raise InterruptedError
        return (net(x) - x + torch.randn(x.shape, generator=rng)).square().mean()

    data = torch.linspace(-1, 1, 40).reshape(20, 2)
    train(net, loss, data, steps, seed=0, batch=4, lr=0.01, checkpoint=path, checkpoint_every=4)
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def learn(path, epochs=3, stop=None):
    """Weights of a classifier after some epochs; the training breaks off after epoch `stop`."""

    def after(epoch, loss, classifier):
        if epoch == stop:
            raise InterruptedError

    images, labels = (part[:64] for part in digits())
    options = {"settings": ClassifierSettings("digits", 0.1), "checkpoint": path, "after_epoch": after}
    made = train_classifier(images, labels, seed=0, epochs=epochs, batch=32, **options)
    return torch.cat([value.flatten().double() for value in made.net.state_dict().values()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("work", "stop"), [(fit, 10), (learn, 2)])
def test_a_damaged_training_checkpoint_is_named_and_training_starts_again(tmp_path, work, stop, kind):
    path, whole = tmp_path / "unfinished.safetensors", work(None)
    for where in (0.01, 0.3, 0.95):
        with pytest.raises(InterruptedError):
            work(path, stop=stop)
        assert damage(path, kind, where)
        with pytest.warns(
            UserWarning, match=r"unfinished\.safetensors is damaged .* kept as unfinished\.damaged-"
        ):
            again = work(path)
        assert torch.equal(again, whole)
        path.unlink()


@pytest.mark.parametrize("work", [fit, learn])
def test_a_checkpoint_of_another_network_is_refused(tmp_path, work):
    path = tmp_path / "unfinished.safetensors"
    sealed.write(path, {"weight.0": torch.zeros(3), "net.x": torch.zeros(3)}, {"step": 1, "epoch": 1})
    with pytest.raises(BadInput, match=r"checkpoint = .*: must be of this network: delete it to start anew"):
        work(path)


def test_text_is_written_whole(tmp_path):
    sealed.write_text(tmp_path / "x.txt", "one\n")
    sealed.write_text(tmp_path / "x.txt", "two\n")
    assert (tmp_path / "x.txt").read_text() == "two\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
