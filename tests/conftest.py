"""Every test writes its runs and figures into a folder of its own."""

import signal

import pytest

# A shell's background jobs ignore Ctrl-C, and so would whatever the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """The folder that stands in for the project's runs/ and paper_figs/."""
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(tmp_path / "figures"))
    return tmp_path
