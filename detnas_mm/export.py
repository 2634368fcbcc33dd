"""From a search's best rows to ordinary configs and weights."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from detnas_mm.config_types import as_text, is_hook
from detnas_mm.evaluators import Evaluator
from detnas_mm.evaluators.metrics import available
from detnas_mm.options import option_word
from detnas_mm.search import Record, number_text
from detnas_mm.spaces import Architecture, SearchSpace

#: Top-level key under which a config keeps what was changed to fit the machine that searches.
AS_WRITTEN = 'as_written'
#: Hooks that only a search has, and the training of a supernet.
_SEARCH_HOOKS = ('detnas_mm.engine.SearchHook', 'detnas_mm.PathSamplingHook')


def written_model(cfg: Any) -> Any:
    """A config's model as its author wrote it, before it was made to fit the machine at hand."""
    return cfg.get(AS_WRITTEN, cfg)['model']


def without_search(cfg: Config) -> Config:
    """A search's config as its author wrote it, with the settings of ``search.export.retrain``, for training alone."""
    out = as_text(cfg)
    search = out.pop('search')
    out.model = written_model(out)
    out.env_cfg = out.pop(AS_WRITTEN, {}).get('env_cfg', out.get('env_cfg', {}))
    for key in ('load_from', 'resume', 'work_dir', 'launcher', 'model_wrapper_cfg'):
        out.pop(key, None)
    hooks = _hooks_but(out, *_SEARCH_HOOKS)
    out.pop('custom_hooks', None)
    if hooks:
        out.custom_hooks = hooks
    for key, value in search.get('export', {}).get('retrain', {}).items():
        out[key] = value
    return out


def _hooks_but(cfg: Config, *kinds: str) -> list[Any]:
    """A config's own hooks without those of some classes."""
    scope = cfg.get('default_scope')
    return [h for h in cfg.get('custom_hooks') or () if not any(is_hook(h, kind, scope) for kind in kinds)]


def config_text(cfg: Config) -> str:
    """The text of a config file from which the same config is read; new-style classes are in it by name.

    Raises:
        ValueError: If it would be read as something else, or not at all; names the setting.
    """
    plain = as_text(cfg)
    text = _text_read_back(plain)
    if text is None:
        key, value = _unreadable(plain.to_dict())
        raise ValueError(
            f'A search writes its config, and those of the nets it finds, into files. {key or "It"} is {value!r:.200}, '
            f'which would not be read from a file as it is: give it as text, numbers, lists and dicts of these.'
        )
    return text


def _text_read_back(cfg: Config) -> str | None:
    """The text of a config in plain values; None if another config, or none, is read from it."""
    try:
        text = cfg.pretty_text
        return text if Config.fromstring(text, '.py').to_dict() == cfg.to_dict() else None
    except Exception:  # whatever the text, run as a config, raises
        return None


def _unreadable(value: Any, key: str = '') -> tuple[str, Any]:
    """The innermost part of a config that is not read as it is written, and what it is called."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, part in parts:
        if _text_read_back(Config(dict(part=part), format_python_code=False)) is None:
            return _unreadable(part, f'{key}.{name}' if key else str(name))
    return key, value


def write_config(cfg: Config, path: Path) -> None:
    """Writes a config file, whole or not at all.

    Raises:
        ValueError: See :func:`config_text`.
    """
    text = config_text(cfg)
    temporary = path.with_suffix('.tmp')
    temporary.write_text(text, encoding='utf-8')
    temporary.replace(path)


def backbone_config(cfg: Config, backbone: dict[str, Any], channels: Sequence[int]) -> Config:
    """A search's config with another fixed backbone, to be trained from scratch.

    What follows the backbone is told its channels: ``in_channels`` of the neck where it is a list, else of the head.

    Args:
        cfg: The config of the search; if it has no model, the result holds the backbone alone.
        backbone: Type and architecture; all other settings stay those of the config's backbone.
        channels: Of every stage of the backbone.

    Raises:
        ValueError: If the config's backbone returns a stage that this one does not have.
    """
    if 'model' not in cfg:
        return Config(dict(model=dict(backbone=backbone)))
    out = without_search(cfg)
    out.model.backbone.update(backbone)
    given = out.model.backbone.get('out_indices')
    wanted = [given] if isinstance(given, int) else list(given or range(len(channels)))
    if not set(wanted) <= set(range(len(channels))):
        raise ValueError(
            f'model.backbone.out_indices of the config is {given}, and backbones of this space have {len(channels)} '
            f'stages, counted from 0. Mend it, or search.space.'
        )
    outputs = [channels[i] for i in wanted]
    neck = out.model.get('neck') or {}
    if isinstance(neck.get('in_channels'), (list, tuple)):
        neck['in_channels'] = outputs
    elif 'in_channels' in (out.model.get('head') or {}):
        out.model.head.in_channels = outputs[-1]
    return out


def check_backbones(cfg: Config, space: SearchSpace) -> None:
    """Refuses a config that the backbones of a space do not fit into, before they are searched.

    Raises:
        ValueError: See :func:`backbone_config`.
    """
    arch = space.sample(np.random.default_rng(0))
    backbone, channels = space.backbone_cfg(arch), space.feature_channels(arch)
    if backbone is not None and channels is not None:
        backbone_config(cfg, backbone, channels)


def subnet_config(cfg: Config, backbone: dict[str, Any]) -> Config:
    """A search's config with a fixed backbone in the supernet's place, and nothing of the search left.

    Its test set is search-val with the search's metric, so that mmdet's own test script gives the fitness; its
    training settings are those of ``search.export.retrain``, or what the config trained with.

    Args:
        cfg: The config of the search.
        backbone: Config of the fixed backbone.
    """
    out = without_search(cfg)
    evaluator = cfg.search['evaluator']
    if 'norm_cfg' in out.model.backbone:  # as written: SyncBN may have been turned into BN for the search
        backbone = backbone | dict(norm_cfg=out.model.backbone.norm_cfg)
    out.model.backbone = backbone
    if evaluator.get('channels_last'):  # tested in the layout that it was searched in
        hooks = _hooks_but(out, 'detnas_mm.ChannelsLastHook')
        out.custom_hooks = [*hooks, dict(type='detnas_mm.ChannelsLastHook', evaluation=True)]
    dataloader = dict(evaluator['dataloader'])
    dataloader.setdefault('sampler', dict(type='DefaultSampler', shuffle=False))
    out.val_dataloader = out.test_dataloader = dataloader
    out.val_evaluator = out.test_evaluator = available(evaluator['metric'])
    out.val_cfg = dict(type='ValLoop')
    out.test_cfg = dict(type='TestLoop')
    return out


def export_net(
    cfg: Config, space: SearchSpace, evaluator: Evaluator, arch: Architecture, stem: Path, meta: dict[str, Any]
) -> tuple[Path | None, Path | None]:
    """Writes one architecture as an ordinary config, and a checkpoint where the evaluator holds weights of it.

    All ranks must call this.

    Args:
        cfg: The config of the search.
        space: The search space.
        evaluator: The evaluator, set up if it needs a model.
        arch: What to export.
        stem: Path of both files, without suffix.
        meta: Plain values to keep in the checkpoint.

    Returns:
        Paths of the config and of the checkpoint; None for what cannot be had: weights, or even a config where the
        space has no backbone that stands alone.
    """
    net = evaluator.trained_net(arch)
    if net is not None:
        out = subnet_config(cfg, net.backbone)
    else:
        backbone, channels = space.backbone_cfg(arch), space.feature_channels(arch)
        if backbone is None or channels is None:
            return None, None
        out = backbone_config(cfg, backbone, channels)
    state = None if net is None else net.state_dict
    config, checkpoint = stem.with_suffix('.py'), None if state is None else stem.with_suffix('.pth')
    if is_main_process():
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_config(out, config)
        if checkpoint is not None:
            temporary = checkpoint.with_suffix('.tmp')
            torch.save(dict(meta=meta, state_dict=state), temporary)
            temporary.replace(checkpoint)
    return config, checkpoint


def next_commands(config: Path, checkpoint: Path) -> list[str]:
    """What to type to test and to retrain an exported net, in any folder; one line each."""
    test, weights = shlex.join([str(config), str(checkpoint)]), shlex.quote(option_word('load_from', str(checkpoint)))
    return [
        f'Test it:    python tools/test.py {test}',
        f'Retrain it: python tools/train.py {shlex.quote(str(config))} --cfg-options {weights}',
    ]


def export_best(
    cfg: Config,
    space: SearchSpace,
    evaluator: Evaluator,
    best: Sequence[Record],
    work_dir: Path,
    log: Callable[[str], None],
) -> None:
    """Exports the best rows and writes ``best.json``; ends with the next commands to type.

    Args:
        cfg: The config of the search.
        space: The search space.
        evaluator: The search's evaluator, set up; architectures are exported with weights if it has any.
        best: Rows to export, the best first.
        work_dir: Folder of the search.
        log: Receives lines of text.
    """
    entries = []
    for rank, record in enumerate(best, 1):
        entry: dict[str, Any] = dict(
            rank=rank, id=record.id, arch=record.arch, space=space.spec(), metrics=record.metrics,
            costs=record.costs,
        )  # fmt: skip
        stem = work_dir / 'best' / f'rank{rank}_{record.id}'
        meta = {key: value for key, value in entry.items() if key != 'rank'}
        files = export_net(cfg, space, evaluator, space.parse(record.arch), stem, meta)
        entry |= {
            key: str(file.relative_to(work_dir))
            for key, file in zip(('config', 'checkpoint'), files, strict=True)
            if file is not None
        }
        entries.append(entry)
    if not is_main_process():
        return
    current = {entry[key] for entry in entries for key in ('config', 'checkpoint') if key in entry}
    for file in (work_dir / 'best').glob('rank*'):  # of an earlier, shorter search in this folder
        if str(file.relative_to(work_dir)) not in current:
            file.unlink()
    temporary = work_dir / 'best.json.tmp'
    temporary.write_text(json.dumps(entries, indent=2) + '\n')
    temporary.replace(work_dir / 'best.json')
    winner = entries[0]
    values = [f'{name} {value:.4f}' for name, value in winner['metrics'].items()]
    values += [f'{name} {number_text(value)}' for name, value in winner['costs'].items()]
    log(f'Best of {work_dir}: {winner["arch"]} ({", ".join(values)})')
    if 'checkpoint' in winner:
        for line in next_commands(work_dir / winner['config'], work_dir / winner['checkpoint']):
            log(line)
    elif 'config' in winner and 'model' in cfg:
        log(f'Train it: python tools/train.py {shlex.quote(str(work_dir / winner["config"]))}')
    elif 'config' in winner:
        log(f'Its backbone, for any config: {work_dir / winner["config"]}')
    else:
        log(
            f'No config is written: {type(evaluator).__name__} holds no weights, and {type(space).__name__} does not '
            f'say how a net of its own is built.'
        )
