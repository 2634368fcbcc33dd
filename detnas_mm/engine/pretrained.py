"""Weights that parts of a model begin with: their files are held against the parts before anything long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from torch import nn

from detnas_mm.checkpoints import WRAPPERS, load_checkpoint_file, weights_in
from detnas_mm.config_types import is_other
from detnas_mm.errors import DetNASError


def check_pretrained(model: nn.Module, trust: bool = False) -> None:
    """Refuses an ``init_cfg`` of type Pretrained whose file holds nothing of the part by the prefix that is named.

    What wrappers put before names is taken off the prefix, as it is off the names (see
    :func:`~detnas_mm.checkpoints.weights_in`). Files that are downloaded are not looked at.

    Args:
        model: Not wrapped.
        trust: Whether checkpoints may hold more than tensors.

    Raises:
        DetNASError: Names the prefix, some keys of the file and, if there is one, a prefix that fits.
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
                    f'{path} holds nothing of model.{name} ({type(module).__name__}) {given}: its {len(keys)} keys are '
                    f'such as {", ".join(list(keys)[:3])}. {_advice(own, keys)}'
                )


def _advice(own: Collection[str], keys: Collection[str]) -> str:
    """Which prefix most of a part's own keys have in a file."""
    found = Counter(there.removesuffix(key) for key in list(own)[:50] for there in keys if there.endswith(key))
    fitting = [prefix for prefix, _ in found.most_common() if not prefix or prefix.endswith('.')]
    if not fitting:
        return 'Its weights are those of another net: give another checkpoint.'
    return f'What fits is prefix={fitting[0]!r}.' if fitting[0] else 'What fits is no prefix: leave it out.'
