"""Whole detectors as they are measured and counted: what of a config decides it, and a digest of that. No torch."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from detnas_mm.checks import checked_input_size
from detnas_mm.config_types import as_text, is_other, named_nodes, nodes
from detnas_mm.errors import DetNASError
from detnas_mm.files import write_json, write_text
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import RGB

#: The file that says what a session measures, see :mod:`detnas_mm.latency.session`.
SESSION = 'session.json'
#: What of a config is kept: all that building the model takes.
_KEPT = ('model', 'data_preprocessor', 'default_scope', 'custom_imports')


@dataclass(frozen=True)
class WholeNet:
    """A detector that is measured before it is trained.

    Attributes:
        arch: The text of its architecture.
        input_size: (height, width) in pixels of its images.
        channels: Channels of its images.
        text: Of a config file with its model.
        key: A digest of all that decides its latency: model, input size and channels. Two architectures of equal key,
            be they of two spaces, are the same net.
    """

    arch: str
    input_size: tuple[int, int]
    channels: int
    text: str
    key: str


def whole_net(
    space: SearchSpace, cfg: Mapping[str, Any], arch: Architecture, input_size: tuple[int, int] | None = None
) -> WholeNet:
    """The detector of an architecture, with its post-processing fully loaded and its weights random.

    Args:
        space: Its space; ``configure`` must give whole detectors.
        cfg: The searched config, as nested dicts.
        arch: A member.
        input_size: (height, width) in pixels, where the test pipeline of a candidate names no scale.

    Raises:
        DetNASError: If that is no detector, or its input size is not known; names the architecture.
    """
    name = space.describe(arch)
    net = space.configure(cfg, arch)
    model = None if net is None else net.get('model')
    if net is None or not isinstance(model, Mapping) or 'type' not in model or 'backbone' not in model:
        raise DetNASError(
            f'{name}: {type(space).__name__}.configure gives no whole detector for it, so it has no latency before it '
            f'is trained. Take a table of the backbone, or a space of detectors.'
        )
    return whole_detector(name, net, input_size, space.in_channels or RGB)


def whole_detector(
    name: str, net: Mapping[str, Any], input_size: tuple[int, int] | None = None, channels: int = RGB
) -> WholeNet:
    """The detector of an ordinary config as it is measured, such as a hand-made one to compare with.

    Args:
        name: What it is called.
        net: Its config, as nested dicts.
        input_size: See :func:`whole_net`.
        channels: Channels of its images.

    Raises:
        DetNASError: If its input size is not known.
    """
    size = test_scale(net) or input_size
    if size is None:
        raise DetNASError(
            f'{name}: no step of its test pipeline names a scale, so its input size is not known. Give the cost '
            f'input_size=(height, width), or the pipeline a Resize.'
        )
    kept = as_text({key: net[key] for key in _KEPT if net.get(key) is not None}).to_dict()
    kept['model'] = loaded(kept['model'])
    decides = {key: value for key, value in kept.items() if key != 'custom_imports'}
    decided = json.dumps([decides, list(size), channels], sort_keys=True, default=repr)
    text = Config(kept, format_python_code=False).pretty_text
    return WholeNet(name, checked_input_size(size), channels, text, hashlib.sha256(decided.encode()).hexdigest()[:16])


def loaded(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model with random weights whose post-processing has all there is to do.

    An untrained detector is sure of nothing, so no box would pass its score threshold, and post-processing would cost
    nothing. Score thresholds of ``test_cfg`` become 0; ``nms_pre``, ``max_per_img`` and all else stay. Pretrained
    weights are left out, since they change no latency.

    Args:
        model: The ``model`` of a config; left as it is.
    """
    out = copy.deepcopy(dict(model))
    for name, node in named_nodes('model', out):
        if 'test_cfg' in name.split('.') and 'score_thr' in node:
            node['score_thr'] = 0.0
        if isinstance(node.get('pretrained'), str):
            del node['pretrained']
        given = node.get('init_cfg')
        if is_other(given, 'Pretrained'):
            del node['init_cfg']
        elif isinstance(given, (list, tuple)):
            node['init_cfg'] = [one for one in given if not is_other(one, 'Pretrained')]
    return out


def test_scale(cfg: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) that a config's test pipeline resizes images to, as mmdet's ``Resize`` has it.

    Where it keeps the aspect ratio, that of an image which fills the scale. None where no step names a scale.
    """
    scales = [node.get('scale') for key in ('test_dataloader', 'val_dataloader') for node in nodes(cfg.get(key))]
    pairs = [scale for scale in scales if isinstance(scale, (list, tuple)) and len(scale) == 2]
    return (pairs[0][1], pairs[0][0]) if pairs else None


def write_session(folder: Path, nets: Sequence[Mapping[str, Any]], **how: Any) -> None:
    """Writes what to measure.

    Args:
        folder: Made if missing.
        nets: ``key``, ``arch``, ``input_size``, ``channels`` and ``text`` of each.
        **how: ``device``, ``threads`` and ``pace``.
    """
    for number, net in enumerate(nets):
        write_text(folder / f'net_{number}.py', net['text'])
    listed = [{key: value for key, value in net.items() if key != 'text'} for net in nets]
    write_json(folder / SESSION, dict(how, nets=listed), indent=1)
