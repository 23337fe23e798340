"""Under nbval: a kernel that dies before its first answer is started anew (why: lib.step.KERNEL_DIED)."""

import warnings

from nbval import kernel

from lib import step

_start = kernel.start_new_kernel


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
