"""Checks checkpoints that initialise parts of a model (``init_cfg`` of type Pretrained)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from torch import nn

from detnas_mm.checkpoints import WRAPPERS, load_checkpoint_file, weights_in
from detnas_mm.config_types import is_other
from detnas_mm.errors import DetNASError


def check_pretrained(model: nn.Module, trust: bool = False) -> None:
    """Raises if an ``init_cfg`` of type Pretrained has no weights of its part under its prefix.

    Prefixes of wrappers are removed as in :func:`~detnas_mm.checkpoints.weights_in`. Files that would be downloaded are
    not checked.

    Args:
        model: The model, not wrapped.
        trust: Whether checkpoints may contain more than tensors.

    Raises:
        DetNASError: If so. The message gives the prefix, some keys of the file and, if there is one, a prefix that
            fits.
    """
    for name, module in model.named_modules():
        init = getattr(module, 'init_cfg', None)
        for node in [init] if isinstance(init, dict) else init or ():
            path = str(node.get('checkpoint'))
            if not is_other(node, 'Pretrained') or '://' in path:
                continue
            keys = weights_in(load_checkpoint_file(path, trust), path)
            prefix = node.get('prefix')
            if prefix is not None:
                prefix = WRAPPERS.sub('', prefix if prefix.endswith('.') else f'{prefix}.')
                node['prefix'] = prefix or None
            own = list(module.state_dict())
            if not any((prefix or '') + key in keys for key in own):
                given = 'without a prefix' if not prefix else f'under prefix={prefix!r}'
                raise DetNASError(
                    f'{path} has no weights of model.{name} ({type(module).__name__}) {given}. It has {len(keys)} '
                    f'keys, '
                    f'such as {", ".join(list(keys)[:3])}. {_advice(own, keys)}'
                )


def _advice(own: Collection[str], keys: Collection[str]) -> str:
    """Returns advice: the prefix that most keys of a part have in a file."""
    found = Counter(there.removesuffix(key) for key in list(own)[:50] for there in keys if there.endswith(key))
    fitting = [prefix for prefix, _ in found.most_common() if not prefix or prefix.endswith('.')]
    if not fitting:
        return 'Its weights are of another net: use another checkpoint.'
    return f'Set prefix={fitting[0]!r}.' if fitting[0] else 'Leave out prefix.'
