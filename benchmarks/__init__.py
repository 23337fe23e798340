"""How fast the parts are, beside what one would use instead: `./run_all.sh bench`."""

import os

from lib.step import ENVIRONMENT

# As in every job of the workflow, and before NumPy is loaded: `torch.set_num_threads` does not reach its products.
os.environ.setdefault("OPENBLAS_NUM_THREADS", ENVIRONMENT["OPENBLAS_NUM_THREADS"])
