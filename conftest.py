"""For every test: the longest files begin first, so that none of them is left over for one worker at the end.

Under nbval, a kernel that dies before its first answer is started anew (why: lib.step.KERNEL_DIED).
"""

import warnings

from nbval import kernel

from lib import step

LONGEST = (  # 04, 05 and 07 share loops, and should not wait for each other
    "04_airplane_reward", "02_gaussian_mixture", "05_confidence_bias", "03_two_moons", "07_repeated_runs",
    "01_population", "09_your_own", "08_explorer", "06_quality_with_real_data",
    "test_kill", "test_workflow", "test_reproduce", "test_plan", "test_kernels", "test_image_experiments",
    "test_distributed", "test_science", "test_compiled", "test_flow", "test_loop",
)  # fmt: skip

_start = kernel.start_new_kernel


def pytest_collection_modifyitems(items):
    """By `LONGEST`, then as they were found."""
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def start(*arguments, **keywords):
    """nbval's own start, tried `lib.step.KERNEL_STARTS` times; any other error is raised at once."""
    for attempt in range(step.KERNEL_STARTS):
        try:
            return _start(*arguments, **keywords)
        except RuntimeError as error:
            if step.KERNEL_DIED not in str(error) or attempt == step.KERNEL_STARTS - 1:
                raise
            warnings.warn(f"{error}; started again", stacklevel=2)


kernel.start_new_kernel = start
