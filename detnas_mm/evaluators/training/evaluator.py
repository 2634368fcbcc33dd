"""Evaluator that trains each candidate as a whole config, in a process of its own."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from detnas_mm.checkpoints import load_checkpoint_file, weights_in
from detnas_mm.checks import flag, real, whole
from detnas_mm.config_types import config_text
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.training.checks import check_search, size_of
from detnas_mm.evaluators.training.folder import (
    CANDIDATES,
    CONFIG,
    LOST,
    TRIAL,
    WEIGHTS,
    Candidate,
    drop_result,
    drop_training,
    own_training,
    read_json,
    settings_digest,
    standing,
)
from detnas_mm.evaluators.training.forecast import Forecast
from detnas_mm.evaluators.training.halving import Halving
from detnas_mm.evaluators.training.rows import evaluation_of
from detnas_mm.evaluators.training.rungs import halved
from detnas_mm.evaluators.training.schedule import Schedule
from detnas_mm.evaluators.training.search_val import judged_on_search_val
from detnas_mm.evaluators.training.trainings import Trainings
from detnas_mm.files import write_text
from detnas_mm.registry import EVALUATORS, WORKERS, build_from
from detnas_mm.search import Evaluation, Evaluator, Proposal, Record, SearchJob, pareto_front
from detnas_mm.spaces import Architecture
from detnas_mm.workers import Task, Workers
from detnas_mm.workers.folder import RESULT

#: Keys of the searched config that candidates do not inherit.
_OF_THE_SEARCH = ('search', 'work_dir', 'resume', 'launcher')


@EVALUATORS.register_module()
class ShortTraining(Evaluator):
    """Trains each candidate by the schedule of the searched config, and evaluates it on search-val.

    A candidate is ``space.configure(searched config, architecture)``: a whole config, which a process of its own trains
    in ``candidates/ID/`` of the work dir. The search reads only its ``result.json``. Metrics are those of
    ``val_evaluator`` on ``val_dataloader``, unrounded.

    Args:
        workers: Workers that run the trainings, such as ``dict(type='LocalWorkers', count=2, threads=1)``. Defaults to
            one worker of one thread on this machine.
        time_limit: Seconds that training and evaluation of a candidate may take; a candidate that takes longer has
            failed, and is resumed when the search is started with a higher limit. Defaults to None: no limit.
        halving: ``dict(at=[3, 6], keep=0.5)``, see :class:`.Halving`: all trainings of a generation are paused at these
            epochs (or iterations), the best share is resumed, and the others are dropped. Defaults to None.
        inherit: Whether children are initialised with the weights of their first parent whose weights are kept, as far
            as names and shapes agree. Defaults to False.
        keep: Which weights are kept: ``'front'``, those of nets that would be exported now; ``'all'``; ``'none'``.
            Defaults to ``'front'``.
        retries: How often a lost training is started again. Defaults to 2.
        trials: Number of candidates that are trained for a few iterations first, to forecast the hours; 0 for none.
            Defaults to 2.

    Raises:
        ValueError: If a setting does not fit.
    """

    all_ranks = False
    trains = True
    first_alone = False

    def __init__(
        self,
        workers: Mapping[str, Any] | Workers | None = None,
        time_limit: float | None = None,
        halving: Mapping[str, Any] | None = None,
        inherit: bool = False,
        keep: str = 'front',
        retries: int = 2,
        trials: int = 2,
    ) -> None:
        self.workers: Workers = build_from(WORKERS, dict(type='LocalWorkers') if workers is None else workers)
        self.time_limit = None if time_limit is None else real('evaluator.time_limit', time_limit)
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise DetNASError(f'evaluator.time_limit must be None or seconds, more than 0; got {time_limit!r}.')
        self.halving = None if halving is None else Halving.from_config(halving)
        self.inherit = flag('evaluator.inherit', inherit)
        if keep not in ('front', 'all', 'none'):
            raise DetNASError(f"evaluator.keep must be 'front', 'all' or 'none'; got {keep!r}.")
        if self.inherit and keep == 'none':
            raise DetNASError("evaluator.inherit needs weights of parents: set evaluator.keep to 'front' or 'all'.")
        self.keep = keep
        self.retries = whole('evaluator.retries', retries)
        self.trials = whole('evaluator.trials', trials)
        self._generation: list[Proposal] = []
        self._rows: list[Record] = []
        self._forecast: Forecast | None = None
        self._logged: set[tuple[str, str]] = set()

    # -- before the search --------------------------------------------------------------------------------------

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`: checks search-val, the schedule, the workers, and builds one candidate."""
        if job.work_dir is None:
            raise DetNASError('ShortTraining trains candidates in folders of the search, which has none: set work_dir.')
        check_search(job, self._searched(job), self.halving, self.workers)
        self.workers.check(job.work_dir)
        self.workers.time_limit(self.time_limit)

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """See :meth:`Evaluator.setup`."""
        if job.work_dir is None:
            raise DetNASError('ShortTraining trains candidates in folders of the search, which has none: set work_dir.')
        self.job = job
        self.searched = self._searched(job)
        self.schedule = Schedule.read(self.searched)
        self.folder = Path(job.work_dir).absolute() / CANDIDATES
        self.trainings = Trainings(job, self.workers, self.time_limit, self.retries)
        self._spec = dict(
            type='ShortTraining',
            trained_and_judged_as=settings_digest(self.searched),
            schedule=f'{self.schedule.total} {self.schedule.unit}',
            workers=self.workers.spec(),
            halving=self.halving and self.halving.spec(),
            inherit=self.keep if self.inherit else None,
        )

    @staticmethod
    def _searched(job: SearchJob) -> dict[str, Any]:
        """Returns the searched config without its search, and with a seed."""
        cfg = job.cfg.to_dict() if hasattr(job.cfg, 'to_dict') else copy.deepcopy(dict(job.cfg))
        for key in _OF_THE_SEARCH:
            cfg.pop(key, None)
        randomness = dict(cfg.get('randomness') or {})
        cfg['randomness'] = randomness | ({} if randomness.get('seed') is not None else dict(seed=job.seed))
        return cfg

    def spec(self) -> dict[str, Any]:
        """See :meth:`Evaluator.spec`: without limits, retries and the number of workers, which change no result."""
        return self._spec

    # -- rows of earlier starts, and of finished generations ----------------------------------------------------

    def outdated(self, record: Record) -> bool:
        """See :meth:`Evaluator.outdated`: whether it failed by a time limit that is higher now."""
        return self._more_time_now(record.details.get('time_limit'))

    def _more_time_now(self, limit: float | None) -> bool:
        now = self.workers.time_limit(self.time_limit)
        return limit is not None and (now is None or now > limit)

    def forget(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.forget`: deletes their results; trainings that can be resumed are kept."""
        for record in records:
            drop_result(self.folder / record.id, self.schedule.unit)

    def observe(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.observe`: deletes weights of nets that will not be exported, and files of trainings.

        A net that is dominated by some rows is dominated by more rows, too, so the moment of the call does not matter.
        """
        self._rows = list(records)
        kept = {record.id for record in self._kept(records)}
        for record in records:
            folder = self.folder / record.id
            if not folder.is_dir():
                continue
            if record.id not in kept:
                (folder / WEIGHTS).unlink(missing_ok=True)
            if 'time_limit' not in record.details and not (folder / LOST).is_file():  # these can be resumed
                drop_training(folder)

    def _kept(self, records: Sequence[Record]) -> list[Record]:
        best = self.job.objectives[0].best_first(records)
        if self.keep == 'all':
            return best
        if self.keep == 'none' or not best:
            return []
        if len(self.job.objectives) > 1:
            return pareto_front(best, self.job.objectives)
        return best[: self.job.export.top_k]

    def expect(self, proposals: Sequence[Proposal]) -> None:
        """See :meth:`Evaluator.expect`: halving compares a whole generation, and children inherit from parents."""
        self._generation = list(proposals)

    # -- a generation -------------------------------------------------------------------------------------------

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`; a loss that is not finite, too little memory or time are failures."""
        expected = [proposal.arch for proposal in self._generation]
        generation = expected if set(archs) <= set(expected) else list(archs)
        candidates = {arch: self._candidate(arch) for arch in generation}
        for arch in archs:  # a search that was killed before the row of a failure was written, and has more time now
            one = candidates[arch]
            if self._more_time_now((standing(one.folder, one.work) or {}).get('time_limit')):
                drop_result(one.folder, self.schedule.unit)
        if self._forecast is None and any(standing(one.folder, one.work) is None for one in candidates.values()):
            self._forecast = Forecast(self.job, self.workers, self.trials, self.keep)
            self._forecast.announce(generation, self._rows, self._sizes(generation), self._trial)
        out = {}
        if self.halving is not None:
            renewed = partial(self._candidate, again=True)
            out = halved(self.job, self.halving, self.trainings, candidates, self.schedule.unit, renewed)
        with closing(self.trainings.run([candidates[arch] for arch in archs if arch not in out], None)) as outcomes:
            for arch in archs:
                one = candidates[arch]
                yield out[arch] if arch in out else evaluation_of(one, next(outcomes), self.schedule.total)
            for _ in outcomes:  # lets the last worker end
                pass

    def _candidate(self, arch: Architecture, again: bool = False) -> Candidate:
        """Returns a candidate; writes its config. If it is trained again, a result that it has does not count."""
        cfg = self.job.space.configure(self.searched, arch)
        assert cfg is not None  # checked
        folder = self.folder / arch.id
        text = config_text(Config(cfg))
        file = folder / CONFIG
        if not file.is_file() or file.read_text(encoding='utf-8') != text:
            write_text(file, text)
        parent, work = self._parent(arch, cfg, again)
        weights = None if parent is None else self._weights(parent)
        return Candidate(arch.id, folder, work, weights, parent, own_training(cfg, self.searched))

    def _parent(self, arch: Architecture, cfg: Mapping[str, Any], again: bool) -> tuple[str | None, str]:
        """Returns the parent that a candidate inherits from, and the digest of all that its result depends on.

        The parent is the first one whose weights are kept by the rows of the generations before, be its file there or
        not. If the file is gone, since rows were taken back, the next parent takes its place and a line says so, unless
        the candidate has its result already and is not trained again.
        """
        kept = {record.id for record in self._kept(self._rows)} if self.inherit else set()
        parents = [one for proposal in self._generation if proposal.arch == arch for one in proposal.parents]
        parents = [one for one in parents if one in kept]
        folder = self.folder / arch.id
        first = next(iter(parents), None)
        work = self._work(cfg, first)
        if first is None or self._weights(first).is_file() or (not again and standing(folder, work) is not None):
            return first, work
        other = next((one for one in parents if self._weights(one).is_file()), None)
        work = self._work(cfg, other)
        if standing(folder, work) is None and (arch.id, first) not in self._logged:
            self._logged.add((arch.id, first))
            self.job.log(
                f'{self.job.space.describe(arch)} cannot inherit from {first}, whose weights are gone: they were '
                f'deleted when better candidates were found, in rows that were taken back. It '
                f'{f"inherits from {other}" if other else "is trained from its own initial weights"}, so its score '
                f'may differ from that of a search without interruption.'
            )
        return other, work

    def _work(self, cfg: Mapping[str, Any], parent: str | None) -> str:
        source = None if parent is None else read_json(self.folder / parent / RESULT).get('key')
        what = json.dumps([self._spec, settings_digest(cfg), source], sort_keys=True)
        return hashlib.sha256(what.encode()).hexdigest()[:16]

    def _weights(self, id: str) -> Path:
        return self.folder / id / WEIGHTS

    def _sizes(self, generation: Sequence[Architecture]) -> dict[Architecture, int]:
        """Returns the bytes of the weights of some candidates of a generation."""
        step = max(len(generation) // 16, 1)
        return {arch: size_of(self.job, self.searched, arch) for arch in generation[::step]}

    def _trial(self, arch: Architecture, iterations: int) -> Task:
        """Returns a task that trains a candidate for a few iterations, in a folder of its own."""
        own = self._candidate(arch)
        folder = own.folder.with_name(f'{own.id}{TRIAL}')
        write_text(folder / CONFIG, (own.folder / CONFIG).read_text(encoding='utf-8'))
        return self.trainings.task(Candidate(own.id, folder, f'{own.work}-trial'), None, iterations)

    # -- what was found -----------------------------------------------------------------------------------------

    def weights(self, arch: Architecture) -> dict[str, Any] | None:
        """See :meth:`Evaluator.weights`: None for candidates whose weights are not kept."""
        file = self.folder / arch.id / WEIGHTS
        if file.is_file():
            return dict(weights_in(load_checkpoint_file(file), file))
        if arch.id in {record.id for record in self._kept(self._rows)}:
            self.job.log(
                f'The weights of {self.job.space.describe(arch)} are gone: they were deleted at an earlier start, when '
                f'better nets were found in rows that were taken back, or fewer weights were kept. Only its config is '
                f'exported; train it.'
            )
        return None

    @property
    def has_weights(self) -> bool:
        """See :attr:`Evaluator.has_weights`."""
        return self.keep != 'none'

    def rescoring(self, cfg: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Evaluator.rescoring`."""
        return judged_on_search_val(cfg)
