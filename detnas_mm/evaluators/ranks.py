"""Work that ranks share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, gather_object, get_rank, get_world_size


class OutOfMemory(Exception):
    """Raised on all ranks where one of them had no memory left; the message is the reason."""


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
    failure, own = None, None
    try:
        own = work()
    except (MemoryError, torch.OutOfMemoryError) as error:
        failure = f'out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}'
    except RuntimeError as error:
        if 'allocate memory' not in str(error):
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
