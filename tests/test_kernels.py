"""A kernel that dies before any cell has run is started anew; one that never lives is not hidden."""

import json
import subprocess
import sys

import nbformat
import pytest

from lib import paths, step

# Dies at its first `deaths` starts, as a kernel does that finds a port taken.
DYING = """
import os, pathlib, sys
count = pathlib.Path({count!r})
starts = int(count.read_text()) if count.exists() else 0
count.write_text(str(starts + 1))
if starts < {deaths}:
    sys.exit("Address already in use")
os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *sys.argv[1:]])
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Makes a notebook whose kernel dies at its first starts, and the file that counts them."""

    def make(deaths):
        folder = tmp_path / "kernels" / "dying"
        folder.mkdir(parents=True)
        count = tmp_path / "starts"
        script = tmp_path / "dying.py"
        script.write_text(DYING.format(count=str(count), deaths=deaths))
        argv = [sys.executable, str(script), "-f", "{connection_file}"]
        (folder / "kernel.json").write_text(
            json.dumps({"argv": argv, "display_name": "dying", "language": "python"})
        )
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("assert 1 + 1 == 2")])
        book.metadata["kernelspec"] = {"name": "dying", "display_name": "dying", "language": "python"}
        nbformat.write(book, tmp_path / "one.ipynb")
        return tmp_path / "one.ipynb", count

    return make


def nbval(notebook, log):
    line = [sys.executable, "-m", "pytest", "-p", "conftest", "--nbval-lax", str(notebook)]
    return subprocess.run(line, cwd=paths.PROJECT, capture_output=True).returncode


def papermill(notebook, log):
    return step.run(
        "one", log, [sys.executable, "-m", "papermill", str(notebook), str(notebook.with_name("out.ipynb"))]
    )


@pytest.mark.parametrize("execute", [nbval, papermill])
def test_a_kernel_that_dies_at_its_start_is_started_again(execute, notebook, tmp_path):
    book, count = notebook(deaths=1)
    assert execute(book, tmp_path / "log") == 0
    assert int(count.read_text()) == 2


def test_a_kernel_that_always_dies_is_an_error(notebook, tmp_path):
    book, count = notebook(deaths=99)
    assert nbval(book, tmp_path / "log") == 1
    assert int(count.read_text()) == step.KERNEL_STARTS
