"""Check that the channels of a checkpoint are in the order that the dilations were chosen for.

Dilations belong to channels. Dilations that a search finds fit the weights that the search started from; a published
pattern fits the authors' weights; sorted dilations (:mod:`.sorting`) fit the weights that were sorted with them. Every
other checkpoint of the plain net has the same keys and shapes and loads without an error, but its channels get
dilations that were chosen for other channels. Converted and sorted checkpoints therefore name their genotypes in
``meta``.

A dilated net saves its dilations too, in the metadata that torch keeps beside a state dict; the keys stay those of the
plain net. A net whose channel order matters loads state dicts of the same dilations alone, whatever loads them
(``load_from``, a test, ``--resume``); any other net logs a warning when it loads a state dict of other dilations, for
example in a test with a config that lacks the genotypes.
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

#: Key of the genotypes in a checkpoint's ``meta``.
MARK = 'genotypes'
#: Key of the dilations in the metadata of a state dict.
_DILATIONS = 'dilations'
#: Name of sorted genotypes in messages.
_SORTED = 'sorted genotypes'
#: End of the name of a RepVGG convolution, which differs before and after merging; the dilations are the same.
_MERGED = re.compile('|'.join(rf'\.{re.escape(name)}$' for name in (BRANCH, MERGED)))
#: The genotypes in the config text that mmengine saves in a checkpoint's ``meta``.
_IN_CONFIG = re.compile(r"""genotypes['"]?\s*[=:]\s*['"]([^'"]*)['"]""")


def genotypes_of(given: str) -> str:
    """Returns the dilations of a published name as text; a text of dilations is returned as it is.

    Args:
        given: ``'ic-resnet50-detection'`` or ``'42:1x1+22:2x3|…'``.

    Raises:
        DetNASError: If it is neither; lists the published names.
    """
    if not isinstance(given, str):
        raise DetNASError(f"genotypes must be a text such as '8:1x1+8:2x2|…', or a published name; got {given!r:.200}.")
    text = re.sub(r'\s', '', given)
    return str(zoo.get(text, DilationSpace).arch) if text[:1].isalpha() else text


def check_order(given: str, channel_order: str | None, backbone: Mapping[str, Any]) -> str | None:
    """Checks that the checkpoints of ``init_cfg`` or ``pretrained`` have their channels in the genotypes' order.

    Args:
        given: Genotypes, as a published name or a text.
        channel_order: ``'sorted'``: only checkpoints that name these genotypes are accepted. None: the same for
            published genotypes; others accept any checkpoint. ``'arbitrary'``: any checkpoint is accepted.
        backbone: Settings of the backbone.

    Returns:
        Name of the genotypes if every checkpoint must have this order; None if any checkpoint is accepted.

    Raises:
        DetNASError: If a checkpoint does not name these genotypes; names the checkpoint.
    """
    if channel_order not in (None, 'sorted', 'arbitrary'):
        raise DetNASError(f"channel_order must be 'sorted', 'arbitrary' or None; got {channel_order!r}.")
    text = genotypes_of(given)
    published = next((net for net in zoo.nets().values() if net.arch == text), None)
    if channel_order == 'arbitrary' or (channel_order is None and published is None):
        return None
    name = _SORTED if published is None else published.name
    for path in initial_checkpoints(backbone):
        if not _is_marked(path, text):
            raise DetNASError(_refusal(path, name))
        if published is not None and backbone.get('style', 'pytorch') != 'pytorch':
            raise DetNASError(
                f"{name} has its strides in the 3×3 convolutions, as style='pytorch'; model.backbone.style is "
                f"{backbone['style']!r}, for which {path} was not trained. Set style='pytorch'."
            )
    return name


def dilations_metadata(convs: Sequence[SearchedConv], dilations: Sequence[Sequence[Genotype]]) -> dict[str, str]:
    """Returns the dilations of a net as metadata for its state dict; convolutions that are all 1x1 are left out.

    Args:
        convs: The table of convolutions.
        dilations: For every convolution, one genotype per output channel.
    """
    texts = [
        f'{_MERGED.sub("", conv.name)}={runs_text(found)}'
        for conv, found in zip(convs, dilations, strict=True)
        if set(found) != {(1, 1)}
    ]
    return {_DILATIONS: '|'.join(texts)}


def keep_dilations(net: nn.Module, metadata: Mapping[str, str], required: str | None, checked: bool) -> None:
    """Makes a net save its dilations with its state dict, and compare them with those of what it loads.

    Args:
        net: The backbone.
        metadata: See :func:`dilations_metadata`.
        required: See :func:`check_order`: state dicts of other or unknown dilations are refused. None: those of other
            dilations are warned of.
        checked: True if ``init_cfg`` names checkpoints, which :func:`check_order` has accepted. mmengine drops the
            metadata of those with a prefix.
    """
    text = metadata[_DILATIONS]
    net._register_state_dict_hook(functools.partial(_write_dilations, text))
    compare = functools.partial(_compare_dilations, text, required, checked)
    net._register_load_state_dict_pre_hook(compare, with_module=True)


def _write_dilations(text: str, module: Any, state_dict: Any, prefix: str, metadata: dict[str, Any]) -> None:
    metadata[_DILATIONS] = text


def _compare_dilations(
    text: str, required: str | None, checked: bool, net: Any, state_dict: Any, prefix: str, metadata: Any, *_: Any
) -> None:
    """Called by torch and mmengine before a net loads a state dict.

    Raises:
        DetNASError: If the net requires its dilations and the state dict has others, or none.
    """
    saved = metadata.get(_DILATIONS)
    if saved == text:
        return
    if required is not None:
        # mmengine has this attribute only while it initialises a module
        from_init_cfg = checked and not metadata and hasattr(net, '_params_init_info')
        if not from_init_cfg:
            theirs = 'no dilations' if saved is None else f'the dilations {_short(saved)}'
            raise DetNASError(_refusal(f'The checkpoint to load (it names {theirs})', required))
    elif saved is not None:
        print_log(
            f'The loaded weights were saved by a backbone with other dilations: {_short(saved)} in the checkpoint, '
            f'{_short(text)} here. They load, but the outputs differ from those of the saved net. Set '
            f'model.backbone.genotypes to those of the saved net, unless you start a new training from these weights.',
            logger='current',
            level=logging.WARNING,
        )


def _refusal(checkpoint: str, name: str) -> str:
    convert = 'sort_dilations.py' if name == _SORTED else 'convert_ic_conv.py'
    return (
        f'{checkpoint} is not known to have its channels in the order of {name}: the dilations would apply to channels '
        f'that they were not chosen for. Use a checkpoint written by tools/model_converters/{convert} or one that you '
        f"trained with these genotypes. To load this one all the same, set channel_order='arbitrary' in model.backbone."
    )


def _short(text: str) -> str:
    return f'{text[:80]}…' if len(text) > 80 else text or 'all 1x1'


def initial_checkpoints(backbone: Mapping[str, Any]) -> Iterator[str]:
    """Yields the paths of the checkpoints that a backbone is initialised from."""
    init = backbone.get('init_cfg')
    for node in [init] if isinstance(init, Mapping) else init or ():
        if is_other(node, 'Pretrained'):
            yield str(node.get('checkpoint'))
    if isinstance(backbone.get('pretrained'), str):  # mmdet's key before init_cfg
        yield backbone['pretrained']


def _is_marked(path: str, text: str) -> bool:
    """Returns True if a checkpoint names these genotypes, or is missing: another check reports missing files."""
    if '://' in path:
        return False
    try:
        checkpoint = load_checkpoint_file(path)
    except MissingFileError:
        return True
    except DetNASError:  # it holds more than tensors, so no converter wrote it
        return False
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping):
        return False
    named = [meta.get(MARK), *_IN_CONFIG.findall(str(meta.get('cfg', '')))]
    known = {net.name: net.arch for net in zoo.nets().values()}
    return text in {known.get(one, one) for one in named}
