#!/usr/bin/env bash
# The one door: sets up .venv from the committed lock, then hands over to lib/reproduce.py.
set -euo pipefail
here=$(readlink "${BASH_SOURCE[0]}" || true) # through a link, if it is one
cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -n "$here" ]; then cd "$(dirname "$here")"; fi
UV_VERSION=0.13.8
# The list of fonts and the settings of drawing are this environment's: the user's list names files of whichever
# environment wrote it, and where those are gone figures silently get other fonts.
export MPLCONFIGDIR=$PWD/.venv/matplotlib

usage() {
  cat <<'USAGE'
usage: ./run_all.sh [command] [options]

Sets up its own environment (.venv, from uv.lock; needs only Python 3.11+ with venv), then runs one command:

  reproduce   (default) run the notebooks headless, by the workflow in workflow/Snakefile; figures, numbers,
              provenance go to paper_figs/<profile>/, executed notebooks and their report to build/<profile>/
  lab         open the notebooks in JupyterLab, on this machine only; Ctrl-C stops it
  report      the notebooks as stored, as an offline web site (and a PDF, where Chromium is) in build/report/
  test        ruff, pytest, and every notebook under nbval
  refresh     execute the notebooks and store their outputs in notebooks/*.ipynb (before you commit a change)
  verify      say of each figure and table of claims in paper_figs/ whether its files, code, weights and settings
              still agree with the tree
  bench       tables of speed beside what one would use instead, to benchmarks/results/; --only some of pairing,
              choice, dynamics, monte_carlo, training, losses, sampling, solvers, growth, quick, memory
  setup       the environment alone

options of reproduce:
  --profile NAME     a file in profiles/ (default quick)       ./run_all.sh --profile quick
  --only NN[,NN...]  some notebooks, by number or name         ./run_all.sh --only 02,03
  --seed N           first seed of every notebook (default 0)  ./run_all.sh --seed 7
  --jobs N           jobs run at a time (default: cores)       ./run_all.sh --jobs 1
  -p KEY=VALUE       change one setting of the profile         ./run_all.sh --only 02 -p toy.rounds=5
  --reuse-stale      read finished runs of equal settings that other code computed; figures and verify say so

options of other commands:
  report: --profile, --only    refresh: --only, --jobs    test: --jobs    bench: --only

options of lab:
  --only NN          open this notebook first
  --port N           where it listens (default 8888, or the next free one)
  --no-browser       print the address, open nothing

  -h, --help         this text

Everything computed is kept in runs/ and reused; a stopped run goes on where it was. To start anew, delete runs/.
$CURATED_LOOPS_RUNS and $CURATED_LOOPS_FIGURES name other folders than runs/ and paper_figs/, and $CURATED_LOOPS_DATA
one that holds CIFAR-10.
USAGE
}

find_python() {
  local below candidate
  # A locked package has no wheels for 3.14: that, or a newer one, only where there is nothing else.
  for below in 3,14 4,0; do
    for candidate in python3 python3.13 python3.12 python3.11 python; do
      if command -v "$candidate" >/dev/null &&
        "$candidate" -c "import sys; raise SystemExit(not (3, 11) <= sys.version_info < ($below))" 2>/dev/null; then
        command -v "$candidate"
        return
      fi
    done
  done
  echo "run_all.sh: Python 3.11 or newer is needed, found $(python3 --version 2>&1 || echo none)" >&2
  exit 2
}

set_up() {
  local stamp=.venv/.curated-loops wanted python extras=(--extra dev)
  if [ "$1" = bench ]; then stamp+=-bench extras+=(--extra bench); fi
  # The folder, too: a copied or moved environment would import lib/ from where it was made.
  wanted=$(cat pyproject.toml uv.lock run_all.sh <(pwd -P) | cksum)
  if .venv/bin/python -c '' >/dev/null 2>&1 && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
  python=$(find_python)
  # One without pip was made by uv, or interrupted while it was made, or the Python behind it is gone.
  if ! { .venv/bin/python -m pip --version || .venv/bin/python -m ensurepip; } >/dev/null 2>&1; then
    echo "Setting up .venv ($("$python" --version)) from uv.lock: downloads from PyPI, about 6 GB once installed"
    echo "(PyTorch's build for Linux brings its CUDA libraries)."
    "$python" -m venv --clear .venv || {
      echo "run_all.sh: could not make .venv; on Debian: apt-get install python3-venv" >&2
      exit 2
    }
  fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
  # Always into .venv, also from within an active conda or virtual environment. Compiled once, here: under
  # PYTHONDONTWRITEBYTECODE, which container images often set, each process would compile PyTorch anew.
  env -u CONDA_PREFIX -u VIRTUAL_ENV UV_PROJECT_ENVIRONMENT=.venv \
    .venv/bin/uv sync --locked "${extras[@]}" --inexact --compile-bytecode
  .venv/bin/python -c 'import matplotlib.font_manager' # lists the fonts, once
  echo "$wanted" >"$stamp"
}

command=
for argument in "$@"; do
  case "$argument" in
  -h | --help)
    usage
    exit 0
    ;;
  bench | setup) command=$argument ;;
  esac
done
set_up "$command"
exec .venv/bin/python -m lib.reproduce "$@"
