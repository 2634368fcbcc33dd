"""Work that ranks share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object, gather_object, get_rank, get_world_size

from detnas_mm.compat import process_group_store


class OutOfMemory(Exception):
    """Raised on all ranks where one of them had no memory left; the message is the reason."""


class Unit(NamedTuple):
    """What one rank does at a time: one batch, for one of several equal parts of the candidates."""

    batch: int
    part: int = 0
    parts: int = 1


def share_out(batches: Sequence[int], parts: int) -> Iterator[Unit]:
    """Shares out batches to the ranks, which must all call this with the same arguments, in what they do jointly.

    Batch b belongs to rank b modulo the number of ranks, which has its images in memory. A rank that is done with its
    own goes on with what is left of others', so that none waits long for a slow one. The last one or two batches of
    each rank are cut into parts, so that what is left at the end is little. A counter for each rank's units, at the
    store that the process group met in, says who does which. What comes out must not depend on it.

    Args:
        batches: Their numbers, ascending.
        parts: Into how many parts a batch may be cut.

    Yields:
        This rank's units, each when it has nothing else to do.
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


#: How many the ranks have begun to do jointly: units of different works have the same names.
_joint_works = 0


def jointly(work: Callable[[], Any], gather: Callable[[Any], Any] = all_gather_object) -> Any:
    """Runs this rank's share and gathers all shares; a rank that runs out of memory fails it on all ranks.

    Args:
        work: Computes this rank's share, which can be pickled.
        gather: Brings the shares where they are wanted; all of them to all ranks unless told otherwise.

    Returns:
        What ``gather`` returns: the shares in the order of the ranks.

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
    except RuntimeError as error:  # of a CPU, of cuDNN and cuBLAS
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
    """Deals the keys out to the ranks in turn, and brings every rank what all shares hold of its keys.

    Args:
        keys: The same on all ranks.
        share: This rank's values by key; a value goes to the rank of its key alone.

    Returns:
        Of each rank in order, its values of the keys that were dealt to this one.
    """
    received: list[dict[Any, Any]] = []
    world = get_world_size()
    for rank in range(world):
        wanted = set(keys[rank::world])
        parts = gather_object({key: value for key, value in share.items() if key in wanted}, dst=rank)
        if rank == get_rank():
            received = parts
    return received
