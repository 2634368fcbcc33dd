"""Checkpoints that are written atomically, and deleted only when a newer one exists."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from detnas_mm.files import drafts, replacing, write_text
from detnas_mm.registry import HOOKS


@register_backend('detnas_mm_atomic')
class AtomicBackend(LocalBackend):
    """File backend of mmengine for local files that writes atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a file, see :func:`~detnas_mm.files.replacing`."""
        with replacing(filepath) as draft:
            draft.write_bytes(obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """CheckpointHook for trainings that may be killed at any moment; settings are those of mmengine's.

    mmengine's hook deletes the oldest checkpoint before it writes the new one, and writes into the final file: with
    ``max_keep_ckpts=1`` a training killed meanwhile has none. This hook renames a file when it is complete, then
    updates ``last_checkpoint``, then deletes older ones; the best checkpoint is replaced in the same order. Files
    elsewhere (``backend_args``, an ``out_dir`` with ``://``) are written by mmengine's backend for them.
    """

    backend_args: dict[str, Any] | None

    def before_train(self, runner: Runner) -> None:
        """See ``CheckpointHook.before_train``; deletes incomplete files of a killed process."""
        if self.backend_args is None and self.file_client_args is None and '://' not in str(self.out_dir):
            self.backend_args = dict(backend='detnas_mm_atomic')
        super().before_train(runner)
        self.keep_ckpt_ids = deque(getattr(self, 'keep_ckpt_ids', ()))  # may temporarily have one more
        if isinstance(self.file_backend, AtomicBackend) and is_main_process():
            name = self.filename_tmpl.format('*')
            files = (
                Path(self.out_dir, name),
                Path(self.out_dir, f'best_*_{name}'),
                Path(runner.work_dir, 'last_checkpoint'),
            )
            for draft in (draft for file in files for draft in drafts(file)):
                draft.unlink(missing_ok=True)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        if self.max_keep_ckpts > 0:
            if not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step:
                self.keep_ckpt_ids.append(step)
            # the oldest is still listed: if the training is killed before it is deleted, the resumed one deletes it
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        while len(self.keep_ckpt_ids) > self.max_keep_ckpts > 0:
            old = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            self._delete(self.file_backend.join_path(self.out_dir, old))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        if not self.save_best:
            return
        many = hasattr(self, 'best_ckpt_path_dict')
        before = dict(self.best_ckpt_path_dict) if many else {'': self.best_ckpt_path}
        self._set_best(dict.fromkeys(before))  # else mmengine would delete the old one first
        super()._save_best_checkpoint(runner, metrics)
        now = self.best_ckpt_path_dict if many else {'': self.best_ckpt_path}
        self._set_best({key: path or before.get(key) for key, path in now.items()})
        for key, path in before.items():
            if path and now[key] not in (None, path):
                self._delete(path)

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if hasattr(self, 'best_ckpt_path_dict'):
            self.best_ckpt_path_dict = paths
        else:
            self.best_ckpt_path = paths['']

    def _delete(self, path: str) -> None:
        if is_main_process():
            if self.file_backend.isdir(path):  # as with deepspeed
                self.file_backend.rmtree(path)
            elif self.file_backend.isfile(path):
                self.file_backend.remove(path)
