"""CPU threads: how many an operation uses, and work that runs side by side with one thread each."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


def one_thread_each(workers: int) -> ThreadPoolExecutor:
    """A pool of threads in each of which PyTorch's operations use that thread alone."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def parallel_map(function: Callable, items: Iterable, device: str | torch.device) -> Iterator:
    """`function` of each item, in order: on a CPU side by side, one thread each, as many as PyTorch may use.

    So a result does not depend on the number of threads.
    """
    if torch.device(device).type != "cpu":
        yield from map(function, items)
        return
    with one_thread_each(torch.get_num_threads()) as pool:
        yield from pool.map(function, items)


@contextmanager
def threads(n: int):
    """Run the body on n CPU threads: small networks are fastest, and bit-reproducible, on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
