"""From a search's best rows to ordinary configs and weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from detnas_mm.cli import typed
from detnas_mm.config_types import as_text, is_hook, is_other, type_name
from detnas_mm.engine.config import write_config
from detnas_mm.engine.provenance import NO_SCORE
from detnas_mm.errors import DetNASError
from detnas_mm.files import replacing, write_json
from detnas_mm.models import build_model
from detnas_mm.options import option_word
from detnas_mm.search import Record, SearchJob, number_text
from detnas_mm.spaces import Architecture

#: Hooks that only a search has, and the training of a supernet.
_SEARCH_HOOKS = ('detnas_mm.SearchHook', 'detnas_mm.PathSamplingHook')
#: What belongs to a run, and not to a config.
_OF_A_RUN = ('search', 'load_from', 'resume', 'work_dir', 'launcher')


#: Gives a net's state dict; None if there is none to export.
Weights = Callable[[Architecture], Mapping[str, Any] | None]


def without_search(cfg: Config) -> dict[str, Any]:
    """A search's config as nested dicts, without the search and what belongs to its run."""
    out = as_text(cfg).to_dict()
    for key in _OF_A_RUN:
        out.pop(key, None)
    scope = out.get('default_scope')
    hooks = out.pop('custom_hooks', None) or ()
    kept = [hook for hook in hooks if not any(is_hook(hook, kind, scope) for kind in _SEARCH_HOOKS)]
    return out | (dict(custom_hooks=kept) if kept else {})


class Exporter:
    """Writes nets of a search as ordinary configs and checkpoints.

    Two configs a net, since they differ by intent: the ordinary training config that ``search.export.config`` names,
    with the net in it and its own data; and the searched model with the net in it, whose test gives the fitness.

    Args:
        job: The search.

    Raises:
        DetNASError: If ``search.export.config`` cannot be read, nets do not fit into it, or the nets in it are others
            than those of the search.
    """

    def __init__(self, job: SearchJob) -> None:
        self.job = job
        self.searched = without_search(job.cfg) if job.cfg else {}
        self.source = job.export.config
        self.training = self.searched if self.source is None else without_search(_read(self.source))
        self._check(job.space.sample(np.random.default_rng(0)))

    def _check(self, arch: Architecture) -> None:
        """Looks whether nets fit into the configs, and whether both configs hold the same net."""
        searched, training = (self.job.space.configure(cfg, arch) for cfg in (self.searched, self.training))
        if self.source is None or searched is None or training is None or not self.job.needs_model:
            return
        for what, ours, theirs in _deciding_settings(searched, training):
            if ours != theirs:
                raise DetNASError(
                    f'search.export.config: {what} is {theirs!r} in {self.source}, and {ours!r} in the searched '
                    f'config; the nets would be others. Make them equal, or name another config or None.'
                )
        shapes, others = _shapes(searched), _shapes(training)
        for name in [*shapes, *others]:
            if shapes.get(name) != others.get(name):
                raise DetNASError(
                    f'search.export.config: {name} has the shape {others.get(name)} in {self.source}, and '
                    f'{shapes.get(name)} in the searched config, so that weights do not fit. Name a training config of '
                    f'the same model, or None for the searched one.'
                )

    def write(
        self,
        arch: Architecture,
        stem: Path,
        meta: Mapping[str, Any],
        weights: Weights | None = None,
    ) -> dict[str, Path]:
        """Writes one net. All ranks must call this.

        Args:
            arch: The net.
            stem: Path of all files, without suffix.
            meta: Plain values to keep in the checkpoint.
            weights: Gives a net's state dict. Defaults to the evaluator's.

        Returns:
            Paths by name: ``config``, ``checkpoint`` and ``search_val`` (the config whose test gives the fitness); what
            cannot be had is missing: weights, a test, or even a config where the space describes none.
        """
        evaluator = self.job.evaluator
        training, searched = (self.job.space.configure(cfg, arch) for cfg in (self.training, self.searched))
        if training is None or searched is None:
            return {}
        if weights is None and evaluator is not None:
            weights = evaluator.weights
        state = None if weights is None else weights(arch)
        files = dict(config=stem.with_suffix('.py'))
        configs = dict(config=training)
        if state is not None:
            files['checkpoint'] = stem.with_suffix('.pth')
            rescored = None if evaluator is None else evaluator.rescoring(searched)
            if rescored is not None:
                files['search_val'] = stem.with_name(f'{stem.name}_search_val.py')
                configs['search_val'] = rescored
        if is_main_process():
            for name, cfg in configs.items():
                if state is not None:
                    cfg['model'].get('backbone', {}).pop('init_cfg', None)  # the checkpoint holds all weights
                write_config(Config(cfg), files[name])
            if state is not None:
                with replacing(files['checkpoint']) as draft:
                    torch.save(dict(meta=dict(meta), state_dict=state), draft)
        return files


def _read(source: str) -> Config:
    """The config that ``search.export.config`` names."""
    try:
        if '::' in source:
            return Config.fromstring(f'_base_ = {source!r}', '.py')
        return Config.fromfile(source)
    except Exception as error:  # whatever the text, run as a config, raises
        raise DetNASError(
            f'search.export.config: {source} cannot be read ({type(error).__name__}: {" ".join(str(error).split())}). '
            f"Give a config file, or 'detnas_mm::folder/name.py'."
        ) from error


def _deciding_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Settings that decide what a backbone computes and sees, of two configs, side by side."""
    for part in ('backbone', 'data_preprocessor'):
        one, other = (_plain(cfg['model'].get(part) or cfg.get(part) or {}) for cfg in (first, second))
        for key in sorted(one.keys() | other.keys()):
            yield f'model.{part}.{key}', one.get(key), other.get(key)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Comparable settings: types without their scopes, SyncBN and BN compute the same, and lists are tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            out = {key: plain(item) for key, item in value.items() if key not in ('requires_grad', '_scope_')}
            if 'type' in value:
                out['type'] = 'BN' if is_other(value, 'SyncBN') else type_name(value['type'])
            return out
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {key: value for key, value in plain(settings).items() if key not in NO_SCORE}


def _shapes(cfg: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a config's model, built without memory."""
    with torch.device('meta'):
        model = build_model(Config(copy.deepcopy(dict(cfg))))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


# -- what to type next ----------------------------------------------------------------------------------------------


def next_commands(files: Mapping[str, Path]) -> list[str]:
    """What to type to test and to train an exported net, in the folder at hand; one line each.

    Args:
        files: What :meth:`Exporter.write` returns.
    """
    config, checkpoint = files['config'], files.get('checkpoint')
    cfg = Config.fromfile(config)
    lines = []
    if not cfg.get('train_dataloader'):  # a backbone alone
        return [f'Its backbone, for any config: {config}']
    trains = cfg.get('train_cfg') and (cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters'))
    if checkpoint is not None:
        if 'search_val' in files:
            lines.append(f'Re-score it on search-val: {typed("test.py", files["search_val"], checkpoint)}')
        if cfg.get('test_dataloader'):
            lines.append(f'Test it:    {typed("test.py", config, checkpoint)}')
        else:
            lines.append(f'{config} has no test set: name a training config that has one as search.export.config.')
    if not trains:
        lines.append(f'{config} trains for no epoch: name a training config as search.export.config.')
    elif checkpoint is None:
        lines.append(f'Train it: {typed("train.py", config)}')
    else:
        option = option_word('load_from', str(checkpoint))
        lines.append(f'Retrain it: {typed("train.py", config, "--cfg-options", option)}')
    return lines


# -- the best of a search -------------------------------------------------------------------------------------------


def row_meta(job: SearchJob, row: Record) -> dict[str, Any]:
    """What an exported checkpoint says of its net."""
    return dict(id=row.id, arch=row.arch, space=job.space.spec(), metrics=row.metrics, costs=row.costs)


def export_best(exporter: Exporter, best: Sequence[Record], weights: Weights | None = None) -> None:
    """Exports rows into ``best/`` and writes ``best.json``; ends with the next commands to type. All ranks call it.

    Args:
        exporter: Of the search.
        best: Rows to export, the best first.
        weights: See :meth:`Exporter.write`.
    """
    job = exporter.job
    assert job.work_dir is not None
    work_dir = job.work_dir
    entries = []
    for rank, record in enumerate(best, 1):
        meta = row_meta(job, record)
        stem = work_dir / 'best' / f'rank{rank}_{record.id}'
        files = exporter.write(job.space.parse(record.arch), stem, meta, weights)
        entries.append(dict(rank=rank, **meta, **{key: str(p.relative_to(work_dir)) for key, p in files.items()}))
    if not is_main_process():
        return
    current = {entry[key] for entry in entries for key in ('config', 'checkpoint', 'search_val') if key in entry}
    for file in (work_dir / 'best').glob('rank*'):  # of an earlier, shorter search in this folder
        if str(file.relative_to(work_dir)) not in current:
            file.unlink()
    write_json(work_dir / 'best.json', entries, indent=2)
    winner = entries[0]
    values = [f'{name} {value:.4f}' for name, value in winner['metrics'].items()]
    values += [f'{name} {number_text(value)}' for name, value in winner['costs'].items()]
    job.log(f'Best of {work_dir}: {winner["arch"]} ({", ".join(values)})')
    if 'config' in winner:
        keys = [key for key in ('config', 'checkpoint', 'search_val') if key in winner]
        for line in next_commands({key: work_dir / winner[key] for key in keys}):
            job.log(line)
    else:
        job.log(f'No config is written: {type(job.space).__name__} does not say how a net of its own is configured.')
