"""Data sets: the images that come out, and one clear line where CIFAR-10 is missing or not itself."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from lib import datasets
from lib.checks import BadInput
from lib.datasets import DATA_VARIABLE, cifar10, digits, split, to_float, to_uint8

GREYS = torch.arange(256, dtype=torch.uint8)
FILES = [name for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]]
REAL = [os.environ.get(DATA_VARIABLE), datasets.DATA]


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(autouse=True)
def downloads(monkeypatch):
    """No test reaches the network; the list holds the folders that a download was tried into."""
    tried = []

    def refuse(url, root, **_):
        tried.append(str(root))
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    return tried


@pytest.fixture
def places(tmp_path, monkeypatch):
    """($CURATED_LOOPS_DATA, the project's data/), both empty folders of the test's own."""
    named, own = tmp_path / "named", tmp_path / "own"
    named.mkdir()
    own.mkdir()
    monkeypatch.setenv(DATA_VARIABLE, str(named))
    monkeypatch.setattr(datasets, "DATA", own)
    return named, own


@pytest.fixture
def tiny(monkeypatch):
    """Writes a data set of CIFAR-10's form, two images a file, into a folder: its pixels, its labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, 12).tolist()

    def write(place):
        folder = place / CIFAR10.base_folder
        folder.mkdir(parents=True)
        contents = {n: {"data": pixels[2 * i : 2 * i + 2], "labels": labels[2 * i : 2 * i + 2]}
                    for i, n in enumerate(FILES)}  # fmt: skip
        contents["batches.meta"] = {"label_names": list(datasets.CIFAR10_CLASSES)}
        sums = {}
        for name, content in contents.items():
            data = pickle.dumps(content)
            (folder / name).write_bytes(data)
            sums[name] = hashlib.md5(data).hexdigest()
        monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in FILES[:5]])
        monkeypatch.setattr(CIFAR10, "test_list", [[name, sums[name]] for name in FILES[5:]])
        monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
        return torch.from_numpy(pixels).reshape(12, 3, 32, 32), torch.tensor(labels)

    return write


def refusal() -> str:
    with pytest.raises(BadInput) as caught:
        cifar10(train=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_converters_are_inverse_on_every_grey_level():
    floats = to_float(GREYS)
    assert floats.dtype == torch.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    assert torch.equal(to_uint8(floats), GREYS)


def test_to_uint8_rounds_to_the_nearest_grey_and_clips():
    step = 2 / 255
    assert torch.equal(to_uint8(to_float(GREYS) + 0.4 * step), GREYS)
    assert torch.equal(to_uint8(to_float(GREYS) - 0.4 * step), GREYS)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_converters_leave_their_argument_alone():
    floats = torch.tensor([0.3, -2.0])
    to_uint8(floats)
    assert torch.equal(floats, torch.tensor([0.3, -2.0]))


@pytest.mark.parametrize(("convert", "images"), [(to_float, torch.zeros(2)), (to_uint8, GREYS)])
def test_converters_refuse_the_other_ones_input(convert, images):
    with pytest.raises(BadInput, match=r"images\.dtype"):
        convert(images)


def test_digits_are_images_with_labels():
    images, labels = digits()
    assert (images.shape, images.dtype) == ((1797, 1, 8, 8), torch.uint8)
    assert (int(images.min()), int(images.max())) == (0, 255)
    assert images.unique().numel() == 17  # the file's grey levels 0..16
    assert (labels.shape, labels.dtype) == ((1797,), torch.int64)
    assert all(174 <= n <= 183 for n in labels.bincount(minlength=10).tolist())


def test_digits_look_like_their_labels():
    """A zero is dark in the middle, a one is bright there: images upright, labels in the images' order."""
    images, labels = digits()
    middle = images[:, 0, 3:5, 3:5].float().mean(dim=(1, 2))
    assert middle[labels == 0].mean() < 40
    assert middle[labels == 1].mean() > 180


def test_split_puts_every_row_in_exactly_one_part():
    train, test = split(1797)
    assert (len(train), len(test)) == (1348, 449)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(1797))
    assert torch.equal(train, train.sort().values)


def test_split_depends_on_the_seed_alone():
    again = [part.clone() for part in split(100, seed=3)]
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(split(100, seed=3), again, strict=True))
    assert not torch.equal(split(100, seed=4)[1], again[1])


@pytest.mark.parametrize(("n", "share"), [(2, 0.01), (2, 0.99)])
def test_split_leaves_no_part_empty(n, share):
    assert [len(part) for part in split(n, share)] == [1, 1]


@pytest.mark.parametrize(("n", "share", "name"), [(1, 0.5, "n ="), (9, 0.0, "test_share"), (9, 1.0, "test_share")])
def test_split_refuses(n, share, name):
    with pytest.raises(BadInput, match=name):
        split(n, share)


@pytest.mark.parametrize("where", [0, 1], ids=["variable", "data"])
def test_cifar10_is_found(places, tiny, downloads, where):
    pixels, labels = tiny(places[where])
    images, targets = cifar10(train=True)
    assert torch.equal(images, pixels[:10])
    assert torch.equal(targets, labels[:10])
    assert targets.dtype == torch.int64
    assert images.is_contiguous()
    assert torch.equal(cifar10(train=False)[0], pixels[10:])
    assert downloads == []


def test_the_variable_comes_before_data(places, tiny):
    pixels, _ = tiny(places[0])
    broken = places[1] / CIFAR10.base_folder
    broken.mkdir()
    assert torch.equal(cifar10(train=True)[0], pixels[:10])


def test_a_missing_file_is_one_line_and_no_download(places, tiny, downloads):
    tiny(places[0])
    path = places[0] / CIFAR10.base_folder / "data_batch_3"
    path.unlink()
    message = refusal()
    assert f"{path} is missing" in message
    assert "unpack cifar-10-python.tar.gz" in message
    assert DATA_VARIABLE in message
    assert downloads == []


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_truncated_file_is_one_line(places, tiny, downloads, name):
    tiny(places[0])
    path = places[0] / CIFAR10.base_folder / name
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is altered or truncated" in refusal()
    assert downloads == []


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_an_altered_file_is_refused_before_it_is_unpickled(places, tiny, downloads, tmp_path, name):
    tiny(places[0])
    mark = tmp_path / "mark"
    path = places[0] / CIFAR10.base_folder / name
    path.write_bytes(pickle.dumps(Bomb(mark)))
    assert f"{path} is altered or truncated" in refusal()
    assert not mark.exists()
    assert downloads == []


def test_a_broken_folder_in_the_variable_does_not_fall_back_on_data(places, tiny, downloads):
    tiny(places[1])
    (places[0] / CIFAR10.base_folder).mkdir()
    assert str(places[0]) in refusal()
    assert downloads == []


def test_where_it_is_nowhere_and_cannot_be_downloaded_one_line_says_where_it_looked(places, downloads):
    message = refusal()
    assert f"not in {places[0]}, {places[1]}" in message
    assert "no network here" in message
    assert f"set {DATA_VARIABLE}" in message
    assert downloads == [str(places[1])]


def test_without_the_variable_only_data_is_searched(places, downloads, monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE)
    assert f"not in {places[1]} and" in refusal()


@pytest.mark.skipif(
    not any(place and os.path.isdir(os.path.join(place, CIFAR10.base_folder)) for place in REAL),
    reason=f"CIFAR-10 is neither in ${DATA_VARIABLE} nor in data/",
)
def test_the_real_cifar10():
    images, labels = cifar10(train=False)
    assert (images.shape, images.dtype) == ((10_000, 3, 32, 32), torch.uint8)
    assert labels.bincount().tolist() == [1000] * 10
    assert [datasets.CIFAR10_CLASSES[i] for i in labels[:4]] == ["cat", "ship", "ship", "airplane"]
    channels = images.double().mean(dim=(0, 2, 3)) / 255
    assert channels.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=1e-3)
    sky = images[labels == 0][:, 2, 0].double().mean() - images[labels == 0][:, 0, 0].double().mean()
    assert sky > 10  # above an airplane there is more blue than red: channels in order, rows from the top
