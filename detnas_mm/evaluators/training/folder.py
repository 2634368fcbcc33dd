"""Files in the folder of a candidate that is trained."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnas_mm.config_types import comparable
from detnas_mm.datasets.described import described
from detnas_mm.files import drafts
from detnas_mm.workers.folder import RESULT, write_result

#: Folder in the work dir that has one folder for each candidate, by its id.
CANDIDATES = 'candidates'
#: In a candidate's folder: its config; its trained weights; its progress; files of its training.
CONFIG, WEIGHTS, PROGRESS, TRAINING = 'config.py', 'weights.pth', 'progress.json', 'training'
#: In the folder of a candidate that was lost at every attempt: the key of its task, and how it was lost.
LOST = 'lost.json'
#: Suffix of the folder of a trial training, for a forecast.
TRIAL = '_trial'
#: In the key of a task that trains to the end, in place of the rung.
END = 'end'
#: Keys of a config that change no result: those of a run, and of images other than those of training and search-val.
#: Skipped at the top level only, since a model's ``test_cfg`` decides its score.
_NO_RESULT = (
    'search', 'work_dir', 'experiment_name', 'resume', 'launcher', 'log_level', 'log_processor', 'visualizer',
    'vis_backends', 'default_hooks', 'test_dataloader', 'test_evaluator', 'test_cfg',
)  # fmt: skip
#: Keys of transforms that set the size of images.
_SIZES = ('scale', 'scales', 'img_scale', 'size', 'crop_size')
#: Keys that change no result at any depth: where data are, and the scope of types.
_ANYWHERE = ('data_root', '_scope_')


def key_of(work: str, until: int | None) -> str:
    """Returns the key of a task.

    Args:
        work: Digest of all that the candidate's result depends on.
        until: Epoch or iteration at which it stops for now; None for its end.
    """
    return f'{work}-{END if until is None else until}'


def work_of(key: str) -> str:
    """Returns the digest in a key, see :func:`key_of`."""
    return key.rpartition('-')[0]


def settings_digest(cfg: Mapping[str, Any]) -> str:
    """Returns a digest of all that a training and its score depend on: settings, and content of annotation files."""

    def content(value: Any) -> str:
        if isinstance(value, str) and '\n' not in value and len(value) < 1000 and Path(value).is_file():
            return _file_digest(Path(value))
        return str(value)

    own = {key: value for key, value in cfg.items() if key not in _NO_RESULT}
    settings = comparable(own, content, skip=_ANYWHERE)
    keys = ('train_dataloader', 'val_dataloader')
    sets = [one.file for key in keys for one in described(key, cfg.get(key), cfg.get('default_scope'))]
    files = [_file_digest(file) for file in sets if file is not None and file.is_file()]
    return hashlib.sha256(repr((settings, files)).encode()).hexdigest()[:16]


def own_training(cfg: Mapping[str, Any], searched: Mapping[str, Any]) -> str | None:
    """Returns a digest of how a candidate is trained, if not as the search says; None if it is.

    Models and sizes of images are not compared, but augmentation, optimiser and schedule are.

    Args:
        cfg: Config of the candidate.
        searched: The searched config.
    """
    skipped = (*_NO_RESULT, 'model', 'custom_imports')
    own, theirs = (
        repr(comparable({key: one[key] for key in one if key not in skipped}, skip=(*_ANYWHERE, *_SIZES)))
        for one in (cfg, searched)
    )
    return None if own == theirs else hashlib.sha256(own.encode()).hexdigest()[:16]


_digests: dict[tuple[str, int, int], str] = {}


def _file_digest(file: Path) -> str:
    state = file.stat()
    key = (str(file.resolve()), state.st_mtime_ns, state.st_size)
    if key not in _digests:  # annotations are read once a search, not once a candidate
        with file.open('rb') as opened:
            _digests[key] = hashlib.file_digest(opened, 'sha256').hexdigest()
    return _digests[key]


@dataclass(frozen=True)
class Candidate:
    """A candidate and its folder.

    Attributes:
        id: The architecture's id.
        folder: Its folder.
        work: Digest of all that its result depends on.
        inherit: File of weights that initialise the tensors of equal name and shape; None for the initial weights of
            its config.
        parent: Id of the candidate that these weights are from.
        own_training: See :func:`own_training`.
    """

    id: str
    folder: Path
    work: str
    inherit: Path | None = None
    parent: str | None = None
    own_training: str | None = None

    @property
    def log(self) -> str:
        """Path of its log, relative to the work dir."""
        return f'{CANDIDATES}/{self.id}/log.txt'


def standing(folder: Path, work: str) -> dict[str, Any] | None:
    """Returns the result in a folder, of a rung or of the end, if it is of this work; else None."""
    result = read_json(folder / RESULT)
    return result if work_of(str(result.get('key', ''))) == work else None


def read_progress(folder: Path) -> dict[str, Any]:
    """Reads ``progress.json`` of a candidate; empty if there is none."""
    return read_json(folder / PROGRESS)


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object; empty if there is none."""
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def drop_training(folder: Path) -> None:
    """Deletes all files of a training but its log, result and weights; also weights that were not written whole."""
    shutil.rmtree(folder / TRAINING, ignore_errors=True)
    for draft in drafts(folder / WEIGHTS):
        draft.unlink(missing_ok=True)
    (folder / PROGRESS).unlink(missing_ok=True)


def drop_result(folder: Path, unit: str) -> None:
    """Deletes a result, so that its training resumes.

    Metrics at rungs are kept if the checkpoints are: the training is past these rungs, and they cannot be computed
    again.

    Args:
        folder: The candidate's folder.
        unit: Unit of the schedule, see :class:`.Schedule`.
    """
    (folder / LOST).unlink(missing_ok=True)
    result = read_json(folder / RESULT)
    work, rungs = work_of(str(result.get('key', ''))), result.get('rungs')
    if rungs and read_progress(folder).get('work') == work:
        last = max(map(int, rungs))
        at_rung = {'status': 'ok', 'metrics': rungs[str(last)], 'rungs': rungs, unit: last}
        more = {name: result[name] for name in ('seconds', 'host', 'inherited') if name in result}
        write_result(folder, key_of(work, last), at_rung | more)
    else:
        (folder / RESULT).unlink(missing_ok=True)
