import ast
import json
import subprocess
import threading
import warnings

import pytest
import torch

from lib import paths, runs, sealed
from lib.checks import BadInput
from lib.runs import Store

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "flag": torch.tensor([True, False])}
INFO = {"row": {"round": 1, "loss": None, "share": 0.1 + 0.2}}


@pytest.fixture
def store(scratch):
    return Store(scratch / "store", {"seed": 1})


def assert_is_what_was_saved(loaded):
    tensors, info = loaded
    assert info == INFO
    assert set(tensors) == set(TENSORS)
    assert all(
        torch.equal(tensors[key], TENSORS[key]) and tensors[key].dtype == TENSORS[key].dtype for key in TENSORS
    )


def test_what_is_saved_comes_back_exactly(store):
    store.save("x", TENSORS, INFO)
    assert_is_what_was_saved(store.load("x"))


def test_what_was_never_saved_is_none(store):
    assert store.load("x") is None


def test_nothing_half_written_is_left_behind(store):
    store.save("x", TENSORS, INFO)
    assert [path.name for path in store.folder.iterdir()] == ["x.safetensors"]


def test_a_failed_save_keeps_the_old_file(store, monkeypatch):
    store.save("x", TENSORS, INFO)

    def full_disk(path):
        raise OSError("no space left")

    monkeypatch.setattr(sealed, "_flush", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.save("x", {"a": torch.zeros(1)}, {})
    assert_is_what_was_saved(store.load("x"))
    assert [path.name for path in store.folder.iterdir()] == ["x.safetensors"]


def test_no_flipped_bit_goes_unnoticed(store):
    store.save("x", TENSORS, INFO)
    path = store.folder / "x.safetensors"
    content = path.read_bytes()
    refused = 0
    for i in range(len(content)):
        broken = bytearray(content)
        broken[i] ^= 1 << (i % 8)
        path.write_bytes(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = store.load("x")
        if loaded is None:
            refused += 1
        else:  # a bit that carries no content, such as padding
            assert_is_what_was_saved(loaded)
    assert refused > 0.9 * len(content)


def test_a_damaged_file_is_named_and_moved_aside(store):
    store.save("x", TENSORS, INFO)
    path = store.folder / "x.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.warns(UserWarning, match=r"x\.safetensors is damaged .* kept as x\.damaged-[0-9a-f]{8}"):
        assert store.load("x") is None
    assert not path.exists()
    assert len(list(store.folder.glob("x.damaged-*"))) == 1


def test_the_lock_lets_one_in_at_a_time(store):
    order, waiting = [], threading.Event()

    def other():
        waiting.set()
        with Store(store.folder, {"seed": 1}).lock():
            order.append("second")

    thread = threading.Thread(target=other)
    with store.lock():
        thread.start()
        waiting.wait()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("quiet", ["", "1"])
def test_the_second_says_that_it_waits_unless_told_to_be_quiet(store, capfd, monkeypatch, quiet):
    monkeypatch.setenv("TQDM_DISABLE", quiet)
    thread = threading.Thread(target=lambda: Store(store.folder, {"seed": 1}).lock().__enter__())
    with store.lock():
        assert capfd.readouterr().err == ""
        thread.start()
        thread.join(0.3)
        said = capfd.readouterr().err
    thread.join(10)
    assert said == ("" if quiet else f"{store.folder}: another process works here; waiting for it\n")


def test_a_folder_of_another_run_is_refused(store):
    with store.lock():
        pass
    with pytest.raises(BadInput, match=r"run_dir = .*: must be empty or this run's: .* another k, seed"):
        Store(store.folder, {"seed": 2, "k": 4}).lock().__enter__()
    with Store(store.folder, {"seed": 1}).lock():
        pass


@pytest.mark.parametrize("content", [b"", b"\0" * 60, b"\xff{", b"[1]", b'{"seed": 2}', b"{"])
def test_damaged_settings_are_named_kept_aside_and_written_again(store, content):
    with store.lock():
        pass
    path = store.folder / "settings.json"
    good = path.read_text()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"settings\.json is damaged .* kept as settings\.damaged-"), store.lock():
        pass
    assert path.read_text() == good
    assert json.loads(good)["settings"] == {"seed": 1}
    assert [aside.read_bytes() for aside in store.folder.glob("settings.damaged-*")] == [content]


def test_tensors_that_share_memory_are_saved_apart(store):
    whole = torch.arange(12.0)
    store.save("x", {"whole": whole, "part": whole[:5], "view": whole.view(3, 4).T}, {})
    tensors, _ = store.load("x")
    assert torch.equal(tensors["part"], whole[:5])
    assert torch.equal(tensors["view"], whole.view(3, 4).T)


def test_a_folder_is_named_after_settings_and_code(monkeypatch, scratch):
    one, two = runs.folder("toy", {"k": 4}), runs.folder("toy", {"k": 5})
    assert one != two
    assert one.parent == scratch / "runs"
    assert runs.folder("toy", {"b": 1, "a": 2}) == runs.folder("toy", {"a": 2, "b": 1})
    monkeypatch.setattr(runs, "code_digest", lambda: "0" * 64)
    assert runs.folder("toy", {"k": 4}) != one


def test_code_digest_follows_what_computes_and_not_what_reads(monkeypatch, scratch):
    lib = scratch / "lib"
    lib.mkdir()
    monkeypatch.setattr(runs.paths, "PROJECT", scratch)
    (lib / "loop.py").write_text("a = 1\n")
    (lib / "figures.py").write_text("b = 1\n")
    (lib / "parametric.py").write_text("c = 1\n")
    before, on_the_spot = runs.code_on_disk(), runs.code_on_disk(runs.ON_THE_SPOT)
    (lib / "figures.py").write_text("b = 2\n")
    assert (runs.code_on_disk(), runs.code_on_disk(runs.ON_THE_SPOT)) == (before, on_the_spot)
    (lib / "parametric.py").write_text("c = 2\n")
    assert runs.code_on_disk() == before
    assert runs.code_on_disk(runs.ON_THE_SPOT) != on_the_spot
    (lib / ".ipynb_checkpoints").mkdir()
    (lib / ".ipynb_checkpoints" / "loop-checkpoint.py").write_text("what JupyterLab keeps of an opened file\n")
    (lib / ".#loop.py").symlink_to("somebody@here.1234")  # Emacs
    assert runs.code_on_disk() == before
    (lib / "loop.py").write_text("a = 2\n")
    assert runs.code_on_disk() != before


def test_a_process_whose_code_was_edited_computes_no_run(monkeypatch, scratch):
    """What it imported is neither what lies there now, nor does it know which of the two a lazy import took."""
    before, folder = runs.code_digest(), runs.folder("toy", {})
    (scratch / "lib").mkdir()
    (scratch / "lib" / "loop.py").write_text("edited = True\n")
    monkeypatch.setattr(runs.paths, "PROJECT", scratch)
    assert runs.code_digest() == runs.provenance()["code_sha256"] == before  # a run on its way keeps its own
    with pytest.raises(BadInput, match="restart the kernel"):
        runs.folder("toy", {})
    monkeypatch.undo()
    assert runs.folder("toy", {}).name == folder.name


def test_parts_from_two_machines_are_both_told():
    one = {"commit": "a", "device": "cpu", "processor": "Xeon", "seconds": 2.0, "started": "2026-01-02"}
    other = one | {"processor": "EPYC", "seconds": 3.5, "started": "2026-01-01", "peak_memory_mib": 7}
    assert "also" not in runs.merged([one, one])
    both = runs.merged([other, other, one])
    assert (both["processor"], both["also"]) == ("Xeon", [{"processor": "EPYC"}])
    assert (both["seconds"], both["started"], both["peak_memory_mib"]) == (9.0, "2026-01-01", 7)
    third = one | {"packages": {"torch": "2"}}
    assert runs.merged([both, third])["also"] == [{"packages": None}, {"processor": "EPYC", "packages": None}]
    assert runs.merged([third, both])["also"] == [{"packages": {"torch": "2"}}, {"processor": "EPYC"}]


def test_provenance_names_what_a_result_came_from(monkeypatch, scratch):
    origin = runs.provenance()
    assert {"commit", "clean_tree", "code_sha256", "device", "python", "packages"} <= set(origin)
    assert origin["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__.startswith(
        origin["packages"]["torch"]
    )
    json.dumps(origin)
    monkeypatch.setattr(runs.paths, "PROJECT", scratch)
    assert runs.tree()["commit"] == "not a git checkout"


def test_the_commit_of_a_checkout_around_the_tree_is_not_told(monkeypatch, scratch):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(scratch)]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "my own"]):
        subprocess.run(git + arguments, check=True)
    (scratch / "unpacked").mkdir()
    monkeypatch.setattr(runs.paths, "PROJECT", scratch)
    assert len(runs.tree()["commit"]) == 40
    monkeypatch.setattr(runs.paths, "PROJECT", scratch / "unpacked")
    assert runs.tree()["commit"] == "not a git checkout"
    assert not runs.tree()["clean_tree"]


def test_a_tree_is_clean_while_only_stored_results_differ_from_the_commit(monkeypatch, scratch):
    files = ["lib/loop.py", "paper_figs/quick/02_curves.json", "notebooks/02.ipynb", "notebooks/02.py"]
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(scratch)]
    for name in files:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text("1\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(git + arguments, check=True)
    monkeypatch.setattr(runs.paths, "PROJECT", scratch)
    for name in files[1:3]:
        (scratch / name).write_text("2\n")
    assert runs.tree()["clean_tree"]
    for name in (files[0], files[3]):
        (scratch / name).write_text("2\n")
        assert not runs.tree()["clean_tree"]
        (scratch / name).write_text("1\n")


def test_the_code_digest_covers_the_generators(monkeypatch, tmp_path):
    folder = tmp_path / "lib" / "generators"
    folder.mkdir(parents=True)
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    before = runs.code_on_disk()
    (folder / "flow.py").write_text("a = 1\n")
    assert runs.code_on_disk() != before


def test_what_computes_a_run_imports_nothing_that_only_reads():
    for path in (paths.PROJECT / "lib").rglob("*.py"):
        if path.name in runs.READERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib"):
                package = paths.PROJECT.joinpath(*node.module.split(".")).is_dir()  # else its names are no modules
                names = [a.name for a in node.names] if package else [node.module.split(".")[-1]]
                assert not runs.READERS & {f"{name}.py" for name in names}, path
