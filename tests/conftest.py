"""Every test writes its runs and figures into a folder of its own."""

import pytest


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """The folder that stands in for the project's runs/ and paper_figs/."""
    monkeypatch.setenv("CURATED_LOOPS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("CURATED_LOOPS_FIGURES", str(tmp_path / "figures"))
    return tmp_path
