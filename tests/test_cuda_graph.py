"""A training step recorded as a CUDA graph: on a GPU, and its bookkeeping on any machine."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from lib.generators.flow import Flow
from lib.generators.networks import ConvSettings
from lib.generators.training import Recorded

CONV = ConvSettings(shape=(3, 8, 8), channels=(32, 64))
IMAGES = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
OPTIONS = {"seed": 1, "batch": 8, "lr": 1e-3, "ema_decay": 0.9}


class Tape:
    """A graph of torch.cuda: what is recorded is repeated, into the memory it was recorded in."""

    def replay(self):
        self.function()


@pytest.fixture
def tape(monkeypatch):
    """torch.cuda's graphs, on a CPU."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("device", "stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    return Tape


def test_a_replay_reads_the_new_arguments_and_keeps_the_old_results(tape):
    written, calls, out = torch.zeros(2), [], torch.zeros(())

    def function(x, y):
        calls.append(1)
        written.copy_(x * y)
        return out.copy_((x * y).sum())

    tape.function = lambda self: function(*recorded.arguments)
    recorded = Recorded(function, torch.device("cpu"))
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    first = recorded(a, b)
    assert len(calls) == Recorded.WARM + 2, "warm, recorded, replayed"
    second = recorded(b, b)
    assert len(calls) == Recorded.WARM + 3, "replayed alone"
    assert (float(first), float(second)) == (11, 25)
    assert written.tolist() == [9, 16]
    assert (a.tolist(), b.tolist()) == ([1, 2], [3, 4])


@GPU
@pytest.mark.parametrize("method", ["adams", "dopri5"])
def test_recorded_sampling_is_sampling(monkeypatch, method):
    flow = Flow(CONV, precision="fp32", device="cuda", method=method, ode_steps=4)
    flow.fit(IMAGES, 20, **OPTIONS)
    recorded = flow.sample(13, seed=0, batch=8)
    monkeypatch.setattr("lib.generators.flow.Recorded", lambda function, device: function)
    off = (recorded.int() - flow.sample(13, seed=0, batch=8).int()).abs()
    assert int(off.max()) <= 1, "one grey level: a value between two of them is rounded"


@GPU
@pytest.mark.parametrize(("compiled", "shards"), [(False, 1), (True, 1), (False, 2)])
def test_recorded_training_is_training(monkeypatch, compiled, shards):
    """Losses and weights of two fits in a row: the second finds the weights at another place in memory."""
    ends, losses = [], []
    for name in ("recorded", "plain"):
        if name == "plain":
            monkeypatch.setattr("lib.generators.training.Recorded", lambda function, device: function)
        flow = Flow(CONV, precision="fp32", device="cuda", compiled=compiled)
        more = {"seed": 2, "shards": shards}  # which one process on a GPU takes as one
        losses.append(flow.fit(IMAGES, 12, **OPTIONS) + flow.fit(IMAGES, 6, **OPTIONS | more))
        ends.append(torch.cat([value.flatten() for value in flow.state_dict().values()]))
    assert len(set(losses[0])) == 18, "each step has a minibatch of its own"
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) < 1e-2, "Adam makes much of the smallest gradients"
