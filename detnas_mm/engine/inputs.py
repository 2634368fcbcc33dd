"""Checks the inputs and the output folder of a job before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import isclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import HOOKS, MODELS

from detnas_mm.checkpoints import load_checkpoint_file, weights_in
from detnas_mm.cli import typed
from detnas_mm.config_types import is_other, named_nodes, nodes, resolve_type, type_name
from detnas_mm.datasets.coco_json import check_coco
from detnas_mm.datasets.described import DescribedSet, described
from detnas_mm.datasets.voc_folder import check_voc
from detnas_mm.engine.classes import HEADS, Head, check_classes
from detnas_mm.engine.shared_memory import warn_if_small
from detnas_mm.search import LEDGER, refuse_if_in_use

#: Bytes up to which a COCO file is also parsed here, in two seconds, to report faults early.
_SMALL = 64 * 2**20
_COCO_METRICS = ('CocoMetric', 'FasterCocoMetric')


class Files(NamedTuple):
    """Folder and annotation file of a part of a config, as written.

    Attributes:
        key: The part, such as ``'train_dataloader'``.
        kind: Name of the type that reads them.
        data_root: The folder; None if not set.
        ann_file: The annotation file; None if not set.
    """

    key: str
    kind: str
    data_root: Any
    ann_file: Any


@dataclass(frozen=True)
class JobInputs:
    """Settings of a config that are checked before its job starts, read once.

    Attributes:
        sets: Data sets that are read from files.
        work_dir: Output folder; None if nothing is written.
        searches: Whether it writes a ledger there.
        launched: Whether a launcher has started it as several processes.
        trains: Whether it trains at least one epoch.
        mixed_precision: Whether its optimizer uses mixed precision.
        hooks: Classes of its ``custom_hooks``.
        checkpoint: Value of ``load_from``.
        pretrained: Checkpoints that initialise parts of its model.
        files: Folders and annotation files in the config.
        heads: Heads of its model that may classify objects.
        loaders: Settings of the loaders that mmengine builds, by key.
    """

    sets: tuple[DescribedSet, ...]
    work_dir: Path | None
    searches: bool
    launched: bool
    trains: bool
    mixed_precision: bool
    hooks: tuple[type, ...]
    checkpoint: str | None
    pretrained: tuple[str | None, ...]
    files: tuple[Files, ...]
    heads: tuple[Head, ...]
    loaders: Mapping[str, Any]

    @classmethod
    def read(cls, cfg: Any, splits: Sequence[str] = ('train', 'val'), model: bool = True) -> JobInputs:
        """Reads a config without building or opening anything.

        Args:
            cfg: Config of the job.
            splits: Splits whose data are read.
            model: Whether it needs a model; if not, it reads neither checkpoints nor data of these splits.
        """
        scope, settings = cfg.get('default_scope'), cfg.get('model') if model else None
        splits = splits if model else ()
        trains = 'train' in splits and (cfg.get('train_cfg') or {}).get('max_epochs') != 0
        loaders = [f'{split}_dataloader' for split in splits]
        own = ['train_cfg'] if trains else []  # a loop may have further loaders
        keys = [*loaders, 'search', *own, *(f'{split}_evaluator' for split in splits)]
        open_vocabulary = isinstance(settings, Mapping) and 'language_model' in settings  # num_classes counts words
        hooks = cfg.get('custom_hooks')
        hooks = hooks if isinstance(hooks, (list, tuple)) else ()  # mmengine raises for other types
        return cls(
            sets=tuple(one for key in keys for one in described(key, cfg.get(key), scope)),
            work_dir=Path(cfg.get('work_dir')) if cfg.get('work_dir') else None,
            searches='search' in cfg,
            launched=cfg.get('launcher', 'none') != 'none',
            trains=trains,
            mixed_precision=is_other(cfg.get('optim_wrapper'), 'AmpOptimWrapper'),
            hooks=tuple(kind for hook in hooks if isclass(kind := resolve_type(hook, HOOKS, scope))),
            checkpoint=cfg.get('load_from') if model else None,
            pretrained=tuple(node.get('checkpoint') for node in nodes(settings) if is_other(node, 'Pretrained')),
            files=tuple(
                Files(key, type_name(node.get('type', 'data')), node.get('data_root'), node.get('ann_file'))
                for key in keys
                for node in nodes(cfg.get(key))
            ),
            heads=tuple(
                Head(key, node, resolve_type(node, MODELS, scope))
                for key, node in named_nodes('model', settings)
                if HEADS.search(key) and not open_vocabulary
            ),
            # a search has its own loaders
            loaders={key: cfg.get(key) for key in loaders if trains or 'train' not in splits},
        )

    def check(self, trust: bool = False) -> None:
        """Checks the output folder, checkpoints, and the folders of the data.

        Warns if shared memory may be too small for the loaders.

        Args:
            trust: Whether checkpoints may contain more than tensors.

        Raises:
            SystemExit: If something is missing; with one sentence.
            LedgerError: If another search writes into the folder.
            DetNASError: See :meth:`check_annotations`.
        """
        if self.work_dir is not None:
            check_work_dir(self.work_dir)
            # only rank 0 of several processes checks this, if torchrun gives the rank: it is the one that writes
            if self.searches and (not self.launched or os.environ.get('RANK') == '0'):
                refuse_if_in_use(self.work_dir / LEDGER)
        meta = check_checkpoint(self.checkpoint, trust)
        for path in self.pretrained:
            check_checkpoint(path, trust)
        self.check_files()
        self.check_annotations({} if self.trains else meta.get('dataset_meta') or {})
        warn_if_small(self.loaders, self.launched)

    def check_files(self) -> None:
        """Checks that the folders and annotation files exist.

        Raises:
            SystemExit: If one is missing; with one sentence.
        """
        for one in self.files:
            for name, value, what in (('data_root', one.data_root, 'folder'), ('ann_file', one.ann_file, 'file')):
                if value is not None and not isinstance(value, (str, os.PathLike)):
                    raise SystemExit(
                        f'error: {one.key}: {name} must be one {what}, as a string; got {value!r:.200}. Several sets '
                        f"are joined by dict(type='ConcatDataset', datasets=[dict(…), dict(…)]), as "
                        f'configs/_base_/datasets/voc.py does.'
                    )
            folder, annotations = one.data_root, one.ann_file
            if annotations and '://' not in f'{folder}{annotations}':
                file = Path(folder or '', annotations)
                if (folder is None or Path(folder).is_dir()) and not file.exists():
                    raise SystemExit(f'error: {one.key}: no file {file} (ann_file). Correct ann_file or data_root.')
            if folder and '://' not in folder and not Path(folder).is_dir():
                where = '' if Path(folder).is_absolute() else f', looked for in {Path.cwd()}'
                make = 'see the READMEs of configs/ for ImageNet, COCO and VOC'
                if 'digits' in Path(folder).name:
                    make = typed('dataset_converters/make_digits.py', Path(folder))
                raise SystemExit(
                    f'error: {one.key}: no folder {folder} (data_root of {one.kind}{where}). Set it in the config, or '
                    f'get the data: {make}'
                )

    def check_annotations(self, trained: Mapping[str, Any] | None = None) -> None:
        """Checks the content of annotation files, and that heads, data sets and files have the same classes.

        COCO files are checked when mmdet parses them, as the job builds its data sets
        (:func:`~detnas_mm.datasets.reading.looked_at`), so they are not parsed a second time. Files of up to
        :data:`_SMALL` bytes are also parsed here, to report faults early; of larger files only the list of categories,
        since parsing train2017's would add a third to the loading time. Lists of VOC are compared with their folder
        here; its annotation files are read only after a failure.

        Args:
            trained: The ``dataset_meta`` of the checkpoint ``load_from``, if its weights are not trained further.

        Raises:
            DetNASError: If there is a fault. The message names the file or key, the fault and what to do.
        """
        files = [one.file for one in self.sets if one.is_coco]
        files += [Path(one.ann_file) for one in self.files if one.kind in _COCO_METRICS and one.ann_file]
        for file in dict.fromkeys(files):
            if file is not None and file.is_file() and file.stat().st_size <= _SMALL:
                check_coco(file)
        for one in self.sets:
            if one.is_voc and one.file is not None and one.folder is not None and one.file.is_file():
                check_voc(one.file, one.folder, content=False, annotations=one.cfg.get('ann_subdir', 'Annotations'))
        check_classes(self.sets, self.heads, (trained or {}).get('classes') or (), self.checkpoint)


def check_work_dir(folder: Path) -> None:
    """Raises if results cannot be written, before anything is loaded.

    Raises:
        SystemExit: With one sentence, if the folder is a file, cannot be made or cannot be written.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise SystemExit(f'error: --work-dir {folder}: {there} is a file; give a folder.')
    if not os.access(there, os.W_OK):
        raise SystemExit(f'error: --work-dir {folder}: {there} is not writable; give another folder.')


def check_checkpoint(path: str | None, trust: bool) -> dict[str, Any]:
    """Raises if a checkpoint is missing, has no weights, or has more than plain tensors without ``trust``.

    Returns:
        Its ``meta`` entry; empty if it has none, or is not on this machine.

    Raises:
        SystemExit: With one sentence, if it cannot be used.
    """
    if path is None or '://' in path:
        return {}
    try:
        content = load_checkpoint_file(path, trust)
        weights_in(content, path)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    meta = content.get('meta') if isinstance(content, Mapping) else None
    return dict(meta) if isinstance(meta, Mapping) else {}
