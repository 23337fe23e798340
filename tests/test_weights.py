"""Weights on disk: what is written comes back, and a file that is not what it should be is refused unread."""

import hashlib
import json
import pickle

import pytest
import torch

from lib import paths
from lib.checks import BadInput
from lib.weights import load_weights, save_weights

STATE = {
    "kernel": torch.linspace(-3, 3, 24).reshape(2, 3, 2, 2),
    "bias": torch.tensor([1 / 3, 1e-9]),
    "count": torch.tensor(7),
}
CARD = {"steps": 3, "data": "nothing"}


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def path(tmp_path):
    where = tmp_path / "made" / "net.safetensors"
    save_weights(where, STATE, CARD)
    return where


def refusal(path) -> str:
    with pytest.raises(BadInput) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "train them again or restore the file" in str(caught.value)
    return str(caught.value)


def test_weights_and_card_come_back(path):
    state, card = load_weights(path)
    assert card == CARD | {"weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) and state[name].dtype == STATE[name].dtype for name in STATE)


def test_nothing_but_the_two_files_is_left(path):
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_channels_last_and_views_come_back(tmp_path):
    kernel = STATE["kernel"].contiguous(memory_format=torch.channels_last)
    save_weights(tmp_path / "a.safetensors", {"kernel": kernel, "part": STATE["kernel"][:, 1]}, {})
    state, _ = load_weights(tmp_path / "a.safetensors")
    assert torch.equal(state["kernel"], kernel)
    assert torch.equal(state["part"], STATE["kernel"][:, 1])


def test_half_precision_is_for_kernels_only(tmp_path):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    state = {"kernel": torch.linspace(-3, 3, 4000).reshape(40, 100), "bias": STATE["bias"]}
    save_weights(full, state, {})
    save_weights(half, state, {}, half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    back, _ = load_weights(half)
    assert back["kernel"].dtype == torch.float32
    assert torch.equal(back["bias"], state["bias"])
    assert not torch.equal(back["kernel"], state["kernel"])
    torch.testing.assert_close(back["kernel"], state["kernel"], rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 1), (1, 3), (3,)])
def test_statistics_stay_whole_whatever_their_shape(tmp_path, shape):
    state = {"kernel": STATE["kernel"], "mean": torch.tensor([125.307, 122.95, 113.865]).reshape(shape)}
    save_weights(tmp_path / "half.safetensors", state, {}, half=True)
    back, _ = load_weights(tmp_path / "half.safetensors")
    assert torch.equal(back["mean"], state["mean"])
    assert not torch.equal(back["kernel"], state["kernel"])


def test_weights_of_another_card_are_refused(path, tmp_path):
    """Nothing about the files is wrong: they have the same names and shapes, and are no pair."""
    save_weights(tmp_path / "other.safetensors", STATE | {"bias": STATE["bias"] + 1}, CARD)
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    assert "net.json is the card of other weights" in refusal(path)
    path.with_suffix(".json").write_text(json.dumps(CARD))  # one that says nothing of it is believed
    assert load_weights(path)[1] == CARD


def test_a_flipped_bit_is_found(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "net.json is the card of other weights" in refusal(path)


@pytest.mark.parametrize("card", sorted(paths.CHECKPOINTS.glob("*.json")), ids=lambda card: card.stem)
def test_the_committed_weights_are_those_of_their_cards(card):
    assert "weights_sha256" in load_weights(card.with_suffix(".safetensors"))[1]


def test_a_pickle_under_the_name_is_refused_and_not_run(path, tmp_path):
    mark = tmp_path / "mark"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    refusal(path)
    torch.save({"kernel": Bomb(mark)}, path)
    refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100, b"\xff" * 64])
def test_garbage_is_refused(path, content):
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("kept", [4, 60, -1])
def test_a_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    refusal(path)


def test_a_missing_file_is_named(path):
    path.unlink()
    refusal(path)
    path.with_suffix(".json").unlink()
    assert "net.json" in refusal(path)


@pytest.mark.parametrize("card", [b"", b"{", b"steps: 3", b"\xff\xfe", b"[1]", b"3"])
def test_a_card_that_is_not_a_json_object_is_refused(path, card):
    path.with_suffix(".json").write_bytes(card)
    assert "net.json" in refusal(path)


def test_a_card_that_json_cannot_hold_leaves_the_old_files(path):
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    with pytest.raises(TypeError):
        save_weights(path, {"kernel": torch.zeros(2)}, {"x": object()})
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    assert json.loads(before[1]).items() >= CARD.items()
