"""The README's code does what the README says."""

import re

from lib import datasets, paths


def test_the_airplane_loop_runs_from_the_stored_weights_without_the_data_set(monkeypatch, capsys):
    text = (paths.PROJECT / "README.md").read_text()
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "airplanes" in block]
    smaller = {
        "rounds=10": "rounds=1",
        "n_pool=1024": "n_pool=4",
        "n_keep=256": "n_keep=1",
        '"steps": 50': '"steps": 1',
    }
    for whole, part in smaller.items():
        assert whole in code
        code = code.replace(whole, part)
    monkeypatch.setattr(datasets, "CIFAR10", None)  # the data set is not there, nor a way to get it
    exec(code.replace('"batch": 64', '"batch": 2'), {})
    printed = capsys.readouterr().out
    assert "share_0" in printed
    assert len(printed.splitlines()) == 3
