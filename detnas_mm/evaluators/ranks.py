"""Work that ranks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_gather_object


class OutOfMemory(Exception):
    """Raised on all ranks where one of them had no memory left; the message is the reason."""


def jointly(work: Callable[[], Any], gather: Callable[[Any], Any] = all_gather_object) -> Any:
    """Runs this rank's share and gathers all shares; a rank that runs out of memory fails it on all ranks.

    Args:
        work: Computes this rank's share, which can be pickled.
        gather: Whom all shares go to: mmengine's ``all_gather_object``, or ``gather_object`` for rank 0 alone.

    Returns:
        The shares in the order of the ranks; None where they are not gathered.

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
