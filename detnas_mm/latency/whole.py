"""Whole detectors to measure or count, with a digest of all that their cost depends on. Imports no torch."""

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
from detnas_mm.spaces.images import RGB, backbone_channels

#: File with the settings of a session, see :mod:`detnas_mm.latency.session`.
SESSION = 'session.json'
#: Keys of a config that the model is built from.
_KEPT = ('model', 'data_preprocessor', 'default_scope', 'custom_imports')


@dataclass(frozen=True)
class WholeNet:
    """Detector that is measured before it is trained.

    Attributes:
        arch: Text of its architecture.
        input_size: (height, width) in pixels of its images.
        channels: Channels of its images.
        text: Text of a config file with its model.
        key: Digest of all that its latency depends on: model, input size and channels. Architectures with equal keys,
            also of different spaces, are the same net.
    """

    arch: str
    input_size: tuple[int, int]
    channels: int
    text: str
    key: str


def whole_net(
    space: SearchSpace, cfg: Mapping[str, Any], arch: Architecture, input_size: tuple[int, int] | None = None
) -> WholeNet:
    """Returns the detector of an architecture, with random weights and fully loaded post-processing.

    Args:
        space: Its space; ``configure`` must return whole detectors.
        cfg: The searched config, as nested dicts.
        arch: The architecture.
        input_size: (height, width) in pixels, if the test pipeline of the candidate has no scale.

    Raises:
        DetNASError: If it is no detector, or its input size is not known; names the architecture.
    """
    name = space.describe(arch)
    net = space.configure(cfg, arch)
    model = None if net is None else net.get('model')
    if net is None or not isinstance(model, Mapping) or 'type' not in model or 'backbone' not in model:
        raise DetNASError(
            f'{name}: {type(space).__name__}.configure returns no whole detector for it, so its latency cannot be '
            f'measured before training. Use a LatencyTable of the backbone, or a space of whole detectors.'
        )
    return whole_detector(name, net, input_size, space.in_channels or backbone_channels(model) or RGB)


def whole_detector(
    name: str, net: Mapping[str, Any], input_size: tuple[int, int] | None = None, channels: int = RGB
) -> WholeNet:
    """Returns the detector of an ordinary config as it is measured, such as a hand-made one to compare with.

    Args:
        name: Its name in messages.
        net: Its config, as nested dicts.
        input_size: See :func:`whole_net`.
        channels: Channels of its images.

    Raises:
        DetNASError: If its input size is not known.
    """
    size = test_scale(net) or input_size
    if size is None:
        raise DetNASError(
            f'{name}: no step of its test pipeline has a scale, so its input size is not known. Give the cost '
            f'input_size=(height, width), or the pipeline a Resize.'
        )
    kept = as_text({key: net[key] for key in _KEPT if net.get(key) is not None}).to_dict()
    kept['model'] = loaded(kept['model'])
    decides = {key: value for key, value in kept.items() if key != 'custom_imports'}
    decided = json.dumps([decides, list(size), channels], sort_keys=True, default=repr)
    text = Config(kept, format_python_code=False).pretty_text
    return WholeNet(name, checked_input_size(size), channels, text, hashlib.sha256(decided.encode()).hexdigest()[:16])


def loaded(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of a model config with fully loaded post-processing and without pretrained weights.

    Scores of an untrained detector are low: no box would pass the score threshold, and post-processing would cost
    nothing. Score thresholds of ``test_cfg`` become 0; ``nms_pre``, ``max_per_img`` and all other settings are kept.

    Args:
        model: The ``model`` of a config.
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
    """Returns the (height, width) of the ``Resize`` in a config's test pipeline; None if no step has a scale.

    If the aspect ratio is kept, it is the size of an image that fills the scale.
    """
    scales = [node.get('scale') for key in ('test_dataloader', 'val_dataloader') for node in nodes(cfg.get(key))]
    pairs = [scale for scale in scales if isinstance(scale, (list, tuple)) and len(scale) == 2]
    return (pairs[0][1], pairs[0][0]) if pairs else None


def write_session(folder: Path, nets: Sequence[Mapping[str, Any]], **how: Any) -> None:
    """Writes the files of a session.

    Args:
        folder: Folder of the session; created if missing.
        nets: ``key``, ``arch``, ``input_size``, ``channels`` and ``text`` of each net.
        **how: ``device``, ``threads``, ``pace`` and ``step_limit``.
    """
    for number, net in enumerate(nets):
        write_text(folder / f'net_{number}.py', net['text'])
    listed = [{key: value for key, value in net.items() if key != 'text'} for net in nets]
    write_json(folder / SESSION, dict(how, nets=listed), indent=1)
