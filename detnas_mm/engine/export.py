"""Exports the best rows of a search as ordinary configs and weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.cli import read_source, typed
from detnas_mm.config_types import config_text, is_hook, is_other, nodes, type_name
from detnas_mm.engine.config import write_config
from detnas_mm.engine.pictures import add_drawing, dataset_meta
from detnas_mm.engine.provenance import NO_SCORE
from detnas_mm.engine.sorted_channels import check_sorting, sorted_net
from detnas_mm.errors import DetNASError
from detnas_mm.files import replacing
from detnas_mm.models import build_model
from detnas_mm.models.build import without_memory
from detnas_mm.options import option_word
from detnas_mm.search import LEDGER, Record, SearchJob
from detnas_mm.spaces import Architecture

#: Hooks of searches and of supernet training, which exported configs do not need.
_SEARCH_HOOKS = ('detnas_mm.SearchHook', 'detnas_mm.PathSamplingHook')
#: Keys that belong to a run rather than to a config.
_OF_A_RUN = ('search', 'load_from', 'resume', 'work_dir', 'launcher')
#: Keys of a backbone that name its initial weights; ``pretrained`` is mmdet's old one, which excludes the other.
_INITIAL = ('init_cfg', 'pretrained')
#: Keys from which classes are taken, the smallest set first, since some must be read for them.
_DATA = ('test_dataloader', 'train_dataloader', 'val_dataloader')
#: Returns a net's state dict; None if there is none to export.
Weights = Callable[[Architecture], Mapping[str, Any] | None]


def without_search(cfg: Config) -> dict[str, Any]:
    """Returns a search's config as nested dicts, without the search and the keys of its run."""
    out = cfg.to_dict()
    for key in _OF_A_RUN:
        out.pop(key, None)
    scope = out.get('default_scope')
    hooks = out.pop('custom_hooks', None) or ()
    kept = [hook for hook in hooks if not any(is_hook(hook, kind, scope) for kind in _SEARCH_HOOKS)]
    return out | (dict(custom_hooks=kept) if kept else {})


class Exporter:
    """Writes nets of a search as ordinary configs and checkpoints.

    There are two configs for each net: the ordinary training config that ``search.export.config`` names, with the net
    in it and its own data; and the searched model with the net in it, whose test gives the fitness.

    Args:
        job: The search.

    Raises:
        DetNASError: If ``search.export.config`` cannot be read, nets do not fit into it, its nets would differ from
            those of the search, or their channels cannot be sorted (``search.export.sort_channels``).
    """

    def __init__(self, job: SearchJob) -> None:
        self.job = job
        self.searched = without_search(Config.fromstring(job.text, '.py'))  # as read from the search's folder
        self.source = job.export.config
        self.training = (
            self.searched if self.source is None else without_search(read_source('search.export.config', self.source))
        )
        self._check()

    def _check(self) -> None:
        """Checks that nets fit into both configs, that these can be read back, and that both have the same net."""
        arch = self.job.space.sample(np.random.default_rng(0))
        configs = self._configs(arch, self.job.needs_model)
        for cfg in configs.values():
            try:
                config_text(Config(cfg))
            except DetNASError as error:
                raise DetNASError(f'search.export.config: {self.source or "the searched config"}: {error}') from error
        if self.job.export.sort_channels:
            check_sorting(self.job, configs.get('config'))
        searched = self.job.space.configure(self.searched, arch)
        if self.source is None or not configs or searched is None or not self.job.exports_weights:
            return
        training = configs['config']
        for what, ours, theirs in _deciding_settings(searched, training):
            if ours != theirs:
                raise DetNASError(
                    f'search.export.config: {what} is {theirs!r} in {self.source}, but {ours!r} in the searched '
                    f'config, so nets would differ. Make them equal, or set another config, or None for the searched '
                    f'one.'
                )
        shapes, others = _shapes(searched), _shapes(training)
        for name in [*shapes, *others]:
            if shapes.get(name) != others.get(name):
                raise DetNASError(
                    f'search.export.config: {name} has the shape {others.get(name)} in {self.source}, but '
                    f'{shapes.get(name)} in the searched config, so weights do not fit. Use a training config of '
                    f'the same model, or None for the searched one.'
                )
        judged = configs.get('search_val', self.searched)
        ours, theirs = (dataset_meta(cfg, _DATA).get('classes') for cfg in (judged, training))
        if ours and theirs and ours != theirs and len(ours) == len(theirs):
            number = next(i for i in range(len(ours)) if ours[i] != theirs[i])
            raise DetNASError(
                f'search.export.config: class {number} of the data is {theirs[number]!r} in {self.source}, but '
                f'{ours[number]!r} in search-val, so labels would differ. Set both to the same '
                f'metainfo.classes in the same order, or set another config, or None for the searched one.'
            )

    def _configs(self, arch: Architecture, weights: bool) -> dict[str, dict[str, Any]]:
        """Returns the configs to write for a net, by name; empty if the space cannot configure its nets."""
        training, searched = (self.job.space.configure(cfg, arch) for cfg in (self.training, self.searched))
        if training is None or searched is None:
            return {}
        configs = dict(config=training)
        if weights:
            rescored = None if self.job.evaluator is None else self.job.evaluator.rescoring(searched)
            if rescored is not None:
                configs['search_val'] = rescored
        for cfg in configs.values():
            add_drawing(cfg)
            if weights:  # the checkpoint has all of them
                _drop_initial(cfg['model'])
        return configs

    def write(
        self,
        arch: Architecture,
        stem: Path,
        meta: Mapping[str, Any],
        weights: Weights | None = None,
    ) -> dict[str, Path]:
        """Writes the configs and the checkpoint of one net. All ranks must call this.

        Args:
            arch: The net.
            stem: Path of all files, without suffix.
            meta: Plain values to keep in the checkpoint.
            weights: Function that returns a net's state dict. Defaults to the evaluator's.

        Returns:
            Paths by name: ``config``, ``checkpoint`` and ``search_val`` (the config whose test gives the fitness);
            without entries for what does not exist: weights, a test, or a config if the space cannot configure its
            nets.
        """
        if not self._configs(arch, False):
            return {}
        if weights is None and self.job.evaluator is not None:
            weights = self.job.evaluator.weights
        state = None if weights is None else weights(arch)
        configs = self._configs(arch, state is not None)
        files = dict(config=stem.with_suffix('.py'))
        if state is not None:
            files['checkpoint'] = stem.with_suffix('.pth')
        if 'search_val' in configs:
            files['search_val'] = stem.with_name(f'{stem.name}_search_val.py')
        if is_main_process():
            if self.job.export.sort_channels:
                configs, state, meta = sorted_net(self.job, configs, state, meta)
            for name, cfg in configs.items():
                write_config(Config(cfg), files[name])
            if state is not None:
                named = dataset_meta(configs.get('search_val', {}), _DATA, read=True)
                named = named or dataset_meta(configs['config'], _DATA, read=True)
                own = dict(meta) | (dict(dataset_meta=named) if named else {})
                with replacing(files['checkpoint']) as draft:
                    torch.save(dict(meta=own, state_dict=state), draft)
                    load_checkpoint_file(draft)  # fails now rather than when it is loaded later
        return files


def _deciding_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields the settings that determine a backbone and its inputs: name and values in two configs."""
    for part in ('backbone', 'data_preprocessor'):
        one, other = (_plain(cfg['model'].get(part) or cfg.get(part) or {}) for cfg in (first, second))
        for key in sorted(one.keys() | other.keys()):
            yield f'model.{part}.{key}', one.get(key), other.get(key)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Normalises settings for comparison: types without scopes, SyncBN as BN, lists as tuples."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            out = {key: plain(item) for key, item in value.items() if key not in ('requires_grad', '_scope_')}
            if 'type' in value:
                out['type'] = 'BN' if is_other(value, 'SyncBN') else type_name(value['type'])
            return out
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {key: value for key, value in plain(settings).items() if key not in NO_SCORE}


def _drop_initial(model: dict[str, Any]) -> None:
    """Removes what names initial weights, in place: all settings of the backbone, and checkpoints of other parts."""
    for key in _INITIAL:
        model.get('backbone', {}).pop(key, None)
    for node in list(nodes(model)):
        if is_other(node.get('init_cfg'), 'Pretrained'):
            del node['init_cfg']


def _shapes(cfg: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of all tensors of a config's model, built on the meta device."""
    with without_memory():
        model = build_model(Config(copy.deepcopy(dict(cfg))))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


# -- next commands ----------------------------------------------------------------------------------------------


def next_commands(files: Mapping[str, Path]) -> list[str]:
    """Returns commands to test and to train an exported net, one line each; see :func:`~detnas_mm.cli.typed`.

    Args:
        files: Result of :meth:`Exporter.write`.
    """
    config, checkpoint = files['config'], files.get('checkpoint')
    cfg = Config.fromfile(config)
    lines = []
    if not cfg.get('train_dataloader'):  # a backbone only
        return [f'Its backbone, for any config: {config}']
    trains = cfg.get('train_cfg') and (cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters'))
    if checkpoint is not None:
        if 'search_val' in files:
            lines.append(f'Re-score it on search-val: {typed("test.py", files["search_val"], checkpoint)}')
        if cfg.get('test_dataloader'):
            lines.append(f'Test it: {typed("test.py", config, checkpoint)}')
        else:
            lines.append(f'{config} has no test set: name a training config that has one as search.export.config.')
    if not trains:
        lines.append(f'{config} trains for no epoch: name a training config as search.export.config.')
    elif checkpoint is None:
        lines.append(f'Train it: {typed("train.py", config)}')
    else:
        option = option_word('load_from', str(checkpoint.absolute()))
        lines.append(f'Train it further, from these weights: {typed("train.py", config, "--cfg-options", option)}')
    return lines


# -- the best of a search -------------------------------------------------------------------------------------------


def row_meta(job: SearchJob, row: Record) -> dict[str, Any]:
    """Returns the entries about a net in its exported checkpoint."""
    return dict(id=row.id, arch=row.arch, space=job.space.spec(), metrics=row.metrics, costs=row.costs)


def export_best(
    job: SearchJob,
    best: Sequence[Record],
    weights: Weights | None = None,
    meta: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Exports rows into ``best/``, and logs the next commands. All ranks must call this.

    Args:
        job: The search.
        best: Rows to export, the best first.
        weights: See :meth:`Exporter.write`.
        meta: Plain values for checkpoints and ``best.json``, in addition to those of the rows.

    Returns:
        The entry of each net in ``best.json``.
    """
    assert job.work_dir is not None
    work_dir = job.work_dir
    entries = []
    for rank, record in enumerate(best, 1):
        own = row_meta(job, record) | dict(meta or {})
        stem = work_dir / 'best' / f'rank{rank}_{record.id}'
        files = {} if job.exporter is None else job.exporter.write(job.space.parse(record.arch), stem, own, weights)
        entries.append(dict(rank=rank, **own, **{key: str(p.relative_to(work_dir)) for key, p in files.items()}))
    if not is_main_process():
        return entries
    current = {entry[key] for entry in entries for key in ('config', 'checkpoint', 'search_val') if key in entry}
    for file in (work_dir / 'best').glob('rank*'):  # left by an earlier search in this folder
        if str(file.relative_to(work_dir)) not in current:
            file.unlink()
    winner = entries[0]
    values = [f'{name} {value:.4f}' for name, value in winner['metrics'].items()]
    values += [job.budget.text(winner['costs'])] if winner['costs'] else []
    job.log(f'Best of {work_dir}: {winner["arch"]} ({", ".join(values)})')
    paths = ' and '.join(str(work_dir / winner[key]) for key in ('config', 'checkpoint') if key in winner)
    rows = f'all candidates: {work_dir / LEDGER}, drawn in {work_dir / "progress.png"}'
    job.log(f'Written: {paths}; {rows}' if paths else f'Written: {rows}')
    if 'config' in winner:
        keys = [key for key in ('config', 'checkpoint', 'search_val') if key in winner]
        for line in next_commands({key: work_dir / winner[key] for key in keys}):
            job.log(line)
    elif job.exporter is None:
        job.log('No config is written: the job has no exporter.')
    else:
        job.log(f'No config is written: {type(job.space).__name__} cannot configure its nets.')
    return entries
