"""`images.compiled`: the same network through torch.compile, with the same weights, files and interruptions."""

import itertools
import shutil

import pytest
import torch

from lib.generators.flow import Flow
from lib.generators.networks import MlpSettings

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler on a CPU"
)
IMAGES = torch.randint(0, 256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
OPTIONS = {"seed": 1, "batch": 8, "lr": 1e-3}


def flow(compiled):
    return Flow(MlpSettings((1, 4, 4), 16, 1), seed=0, compiled=compiled, ode_steps=1)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_compiling_changes_no_key_no_file_and_results_by_rounding_only(tmp_path):
    plain, compiled = flow(False), flow(True)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert torch.equal(weights(compiled), weights(plain))
    losses = compiled.fit(IMAGES, 9, **OPTIONS)
    assert losses == pytest.approx(plain.fit(IMAGES, 9, **OPTIONS), rel=1e-4)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    compiled.save(tmp_path / "p0.safetensors", {})
    same = Flow.load(tmp_path / "p0.safetensors")
    off = (same.sample(40, seed=2).int() - compiled.sample(40, seed=2).int()).abs()
    assert int(off.max()) <= 1, "one grey level: a value between two of them is rounded"
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "it was compiled"


def test_a_short_last_batch_of_samples_is_drawn_whole_and_cut(monkeypatch):
    """What is compiled for one size would be compiled again for another."""
    plain, compiled = flow(False), flow(True)
    sizes = {"plain": [], "compiled": []}
    for name, model in (("plain", plain), ("compiled", compiled)):
        solve = model._velocity

        def velocity(net, precision, x, t, name=name, solve=solve):
            sizes[name].append(len(x))
            return solve(net, precision, x, t)

        monkeypatch.setattr(model, "_velocity", velocity)
    off = (plain.sample(13, seed=3, batch=8).int() - compiled.sample(13, seed=3, batch=8).int()).abs()
    assert off.shape == (13, 1, 4, 4)
    assert int(off.max()) <= 1
    assert set(sizes["plain"]) == {8, 5}
    assert set(sizes["compiled"]) == {8}


@pytest.mark.parametrize("shards", [1, 2])
def test_interrupted_compiled_training_resumes_to_the_same_bits(tmp_path, monkeypatch, shards):
    options = OPTIONS | {"checkpoint_every": 4, "shards": shards}
    whole, half, resumed, calls = flow(True), flow(True), flow(True), itertools.count()
    losses = whole.fit(IMAGES, 10, **options)
    loss = half._loss

    def interrupted(*arguments):
        if next(calls) == 6 * shards:
            raise InterruptedError
        return loss(*arguments)

    monkeypatch.setattr(half, "_loss", interrupted)
    path = tmp_path / "unfinished.safetensors"
    with pytest.raises(InterruptedError):
        half.fit(IMAGES, 10, checkpoint=path, **options)
    assert resumed.fit(IMAGES, 10, checkpoint=path, **options) == losses[4:]
    assert torch.equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_a_plain_training_goes_on_compiled(tmp_path):
    plain, compiled, path = flow(False), flow(True), tmp_path / "unfinished.safetensors"
    losses = plain.fit(IMAGES, 6, checkpoint=path, **OPTIONS | {"checkpoint_every": 4})
    assert compiled.fit(IMAGES, 6, checkpoint=path, **OPTIONS) == pytest.approx(losses[4:], rel=1e-4)
