"""Several processes, one run: `torchrun --nproc_per_node=N` around a command that calls `setup`.

Every process runs the same program. The shards of each minibatch (`lib.generators.training`) and the batches of
each sampling (`lib.generators.flow`) are shared out; the first process alone reads and writes run folders, trains
classifiers and measures, and tells the others what it found. So a result depends on the number of shards, which
is a setting, and on the number of processes only by the order in which floats are added.

Not `DistributedDataParallel`: it averages over processes, where a minibatch is to be cut into shards of its own
sizes and random numbers whoever computes them, and its hooks do not see gradients made by `torch.autograd.grad`.
One sum over all gradients is a few lines, and leaves the network and its state_dict as they are.
"""

import atexit
import json
import os
from collections.abc import Callable, Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

from lib.checks import require

PATIENCE = timedelta(days=7)  # others wait while the first process trains a classifier or measures a round


def setup() -> None:
    """Join the processes that torchrun started; without torchrun nothing happens.

    One GPU a process where there are GPUs (gradients go through NCCL), else the CPU (gloo).

    Raises:
        BadInput: more processes than GPUs.
    """
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend, there = "cpu:gloo,cuda:nccl", torch.cuda.device_count()
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        require(here <= there, "--nproc_per_node", here, f"at most {there}, the number of GPUs")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)
    if not is_first():
        os.environ["TQDM_DISABLE"] = "1"  # one progress bar is enough


def processes() -> int:
    """How many processes share the work; 1 without `setup`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, 0..processes()-1."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Whether this process reads, writes and speaks for all."""
    return rank() == 0


def own(items: list | range) -> list | range:
    """Every processes()-th of `items`, beginning with the rank-th: this process's share."""
    return items[rank() :: processes()]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Put the sum over all processes into each tensor (any of one device and dtype), in place."""
    tensors = list(tensors)
    if processes() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    _fill(tensors, flat)


@torch.no_grad()
def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite each tensor (any of one device and dtype) by the first process's, in place."""
    tensors = list(tensors)
    if processes() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.broadcast(flat, 0)
    _fill(tensors, flat)


def on_first(
    function: Callable[[], tuple[dict[str, Tensor], dict] | None],
) -> tuple[dict[str, Tensor], dict] | None:
    """What `function` returns in the first process, the only one that calls it.

    Args:
        function: () -> tensors and JSON-able info, or None.
    """
    if processes() == 1:
        return function()
    if is_first():
        found = function()
        _tell(json.dumps(found and found[1]).encode())
        if found:
            _tell(save({key: value.detach().cpu().clone().contiguous() for key, value in found[0].items()}))
        return found
    info = json.loads(_tell())
    return None if info is None else (load(_tell()), info)


def _tell(message: bytes = b"") -> bytes:
    """The first process's message, in every process."""
    length = torch.tensor(len(message))
    dist.broadcast(length, 0)
    content = torch.frombuffer(bytearray(message or bytes(int(length))), dtype=torch.uint8)
    dist.broadcast(content, 0)
    return content.numpy().tobytes()


def _fill(tensors: list[Tensor], flat: Tensor) -> None:
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view(tensor.shape))
