"""Work shared between ranks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, gather_object, get_rank, get_world_size

from detnas_mm.compat import process_group_store


class OutOfMemory(Exception):
    """Raised on all ranks if one of them ran out of memory; the message is the reason."""


class Unit(NamedTuple):
    """Unit of work of a rank: one batch, for one of several equal parts of the candidates."""

    batch: int
    part: int = 0
    parts: int = 1


def share_out(batches: Sequence[int], parts: int) -> Iterator[Unit]:
    """Distributes batches to ranks; all ranks must call it with the same arguments, inside :func:`jointly`.

    Batch b belongs to rank b modulo the number of ranks, which has its images in memory. Idle ranks steal batches from
    slower ones. The last one or two batches of each rank are split into parts, so that little is left at the end. A
    counter for each rank's units, in the store of the process group, decides which rank gets which unit. Results must
    not depend on it.

    Args:
        batches: Their numbers, ascending.
        parts: Number of parts that a batch may be split into.

    Yields:
        This rank's units, each when the one before is done.
    """
    world, rank = get_world_size(), get_rank()
    if world == 1:
        yield from map(Unit, batches)
        return
    store = process_group_store()
    whole = (len(batches) // world - 1) * world
    queues: list[list[Unit]] = [[] for _ in range(world)]
    for place, batch in enumerate(batches):
        cut = 1 if place < whole else parts
        queues[batch % world] += [Unit(batch, part, cut) for part in range(cut)]
    for owner in (*range(rank, world), *range(rank)):
        while (count := store.add(f'detnas_mm/{_joint_works}/{owner}', 1)) <= len(queues[owner]):
            yield queues[owner][count - 1]


#: Number of joint works so far: it distinguishes units of equal name.
_joint_works = 0


def jointly(work: Callable[[], Any], gather: Callable[[Any], Any] = all_gather_object) -> Any:
    """Runs this rank's share and gathers all shares; if one rank runs out of memory, all ranks raise.

    Args:
        work: Function that computes this rank's share, which must be picklable.
        gather: Function that gathers the shares. Defaults to all shares on all ranks.

    Returns:
        Result of ``gather``: the shares in the order of the ranks.

    Raises:
        OutOfMemory: On all ranks.
    """
    global _joint_works
    _joint_works += 1
    failure, own = None, None
    try:
        own = work()
    except (MemoryError, torch.OutOfMemoryError) as error:
        failure = f'out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}'
    except RuntimeError as error:  # from the CPU, cuDNN or cuBLAS
        if not any(sign in str(error) for sign in ('allocate memory', '_ALLOC_FAILED')):
            raise
        failure = f'out of memory: {str(error).splitlines()[0]}'
    for reason in all_gather_object(failure):
        if reason:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            raise OutOfMemory(reason)
    return gather(own)


def deal(keys: Sequence[Hashable], share: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    """Assigns keys to ranks in turn, and sends every rank the values of its keys from all shares.

    Args:
        keys: Keys, the same on all ranks.
        share: This rank's values by key; a value is sent to the rank of its key only.

    Returns:
        For each rank in order, its values of the keys assigned to this rank.
    """
    received: list[dict[Any, Any]] = []
    world = get_world_size()
    for rank in range(world):
        wanted = set(keys[rank::world])
        parts = gather_object({key: value for key, value in share.items() if key in wanted}, dst=rank)
        if rank == get_rank():
            received = parts
    return received
