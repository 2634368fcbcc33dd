"""Whether weights lie in the order of channels that dilations were found for.

Dilations belong to channels. Those that a search finds belong to the weights that it started from; published patterns
belong to their authors' weights, and sorted ones (:mod:`.sorting`) to weights that were sorted with them. Any other
checkpoint of the plain net has the same keys and shapes and would load, but its channels would get dilations that were
chosen for others. So converted and sorted checkpoints name their genotypes in ``meta``.

What a dilated net saves says its dilations too, in what torch keeps of modules beside a state dict, whose keys stay the
plain net's. Where a net with others loads it (a test of a config that was not given the genotypes), a line says so.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import nn

from detnas_mm import zoo
from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.config_types import is_other
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.systems.nats.convs import Genotype, SearchedConv, runs_text
from detnas_mm.systems.nats.fusing import BRANCH, MERGED
from detnas_mm.systems.nats.space import DilationSpace

#: Key of a checkpoint's ``meta`` under which its genotypes stand.
MARK = 'genotypes'
#: Key of dilations in what torch keeps of a module beside a state dict.
_DILATIONS = 'dilations'
#: What tells a merged convolution from the branch that it was; a net that was merged has the dilations that it had.
_MERGED = re.compile('|'.join(rf'\.{re.escape(name)}$' for name in (BRANCH, MERGED)))
#: Genotypes in the config that mmengine keeps in a checkpoint's ``meta``.
_IN_CONFIG = re.compile(r"""genotypes['"]?\s*[=:]\s*['"]([^'"]*)['"]""")


def genotypes_of(given: str) -> str:
    """Returns the text of dilations behind a published name, or the text itself.

    Args:
        given: ``'ic-resnet50-detection'`` or ``'42:1x1+22:2x3|…'``.

    Raises:
        DetNASError: If it is neither; lists the names.
    """
    if not isinstance(given, str):
        raise DetNASError(f"genotypes must be a text such as '8:1x1+8:2x2|…', or a published name; got {given!r:.200}.")
    text = re.sub(r'\s', '', given)
    return str(zoo.get(text, DilationSpace).arch) if text[:1].isalpha() else text


def check_order(given: str, channel_order: str | None, backbone: Mapping[str, Any]) -> None:
    """Refuses an ``init_cfg`` or ``pretrained`` whose weights are not known to lie in the genotypes' order.

    Args:
        given: Genotypes, as a name or a text.
        channel_order: ``'sorted'``: they lie in an order of their own; None: published ones do, others do not;
            ``'arbitrary'``: nothing is refused.
        backbone: The backbone's settings.

    Raises:
        DetNASError: Names the checkpoint.
    """
    if channel_order not in (None, 'sorted', 'arbitrary'):
        raise DetNASError(f"channel_order must be 'sorted', 'arbitrary' or None; got {channel_order!r}.")
    text = genotypes_of(given)
    published = next((net for net in zoo.nets().values() if net.arch == text), None)
    if channel_order == 'arbitrary' or (channel_order is None and published is None):
        return
    name = 'sorted genotypes' if published is None else published.name
    for path in _checkpoints(backbone):
        if not _is_marked(path, text):
            convert = 'sort_dilations.py' if published is None else 'convert_ic_conv.py'
            raise DetNASError(
                f'{path} is not known to have its channels in the order of {name}: its dilations would fall on '
                f'channels that they were not chosen for. Take a checkpoint that tools/model_converters/{convert} '
                f"wrote or one of your own training with these genotypes, or say channel_order='arbitrary' in the "
                f'backbone if you want it nevertheless.'
            )
        if published is not None and backbone.get('style', 'pytorch') != 'pytorch':
            raise DetNASError(
                f'{name} has strides in its 3×3 convolutions; style={backbone["style"]!r} has them elsewhere, and '
                f"{path} would mean nothing in it. Say style='pytorch'."
            )


def dilations_metadata(convs: Sequence[SearchedConv], dilations: Sequence[Sequence[Genotype]]) -> dict[str, str]:
    """Returns what stands beside the state dict of a net: convolutions that have dilations, and these.

    Args:
        convs: The table.
        dilations: One genotype an output channel of every convolution.
    """
    texts = [
        f'{_MERGED.sub("", conv.name)}={runs_text(found)}'
        for conv, found in zip(convs, dilations, strict=True)
        if set(found) != {(1, 1)}
    ]
    return {_DILATIONS: '|'.join(texts)}


def keep_dilations(net: nn.Module, metadata: Mapping[str, str]) -> None:
    """Lets a net write its dilations beside its state dict, and warn where it loads what was saved with others.

    Args:
        net: The backbone.
        metadata: See :func:`dilations_metadata`.
    """
    text = metadata[_DILATIONS]
    net._register_state_dict_hook(functools.partial(_write_dilations, text))
    net._register_load_state_dict_pre_hook(functools.partial(_compare_dilations, text))


def _write_dilations(text: str, module: Any, state_dict: Any, prefix: str, metadata: dict[str, Any]) -> None:
    metadata[_DILATIONS] = text


def _compare_dilations(text: str, state_dict: Any, prefix: str, metadata: Mapping[str, Any], *_: Any) -> None:
    saved = metadata.get(_DILATIONS, text)
    if saved != text:
        print_log(
            f'The weights that are loaded were saved by a backbone with other dilations: {_short(saved)} there, '
            f'{_short(text)} here. They fit, and compute something else: give model.backbone.genotypes of that '
            f'training, unless another training begins with them.',
            logger='current',
            level=logging.WARNING,
        )


def _short(text: str) -> str:
    return f'{text[:80]}…' if len(text) > 80 else text or 'all 1x1'


def _checkpoints(backbone: Mapping[str, Any]) -> Iterator[str]:
    """Gives the paths of the checkpoints that a backbone begins with."""
    init = backbone.get('init_cfg')
    for node in [init] if isinstance(init, Mapping) else init or ():
        if is_other(node, 'Pretrained'):
            yield str(node.get('checkpoint'))
    if isinstance(backbone.get('pretrained'), str):  # as mmdet wrote it before there was an init_cfg
        yield backbone['pretrained']


def _is_marked(path: str, text: str) -> bool:
    """Whether a checkpoint names these genotypes; a file that is missing is others' business, and passes."""
    if '://' in path:
        return False
    try:
        checkpoint = load_checkpoint_file(path)
    except MissingFileError:
        return True
    except DetNASError:  # it holds more than tensors, so no converter of ours wrote it
        return False
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping):
        return False
    named = [meta.get(MARK), *_IN_CONFIG.findall(str(meta.get('cfg', '')))]
    known = {net.name: net.arch for net in zoo.nets().values()}
    return text in {known.get(one, one) for one in named}
