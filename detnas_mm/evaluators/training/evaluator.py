"""Candidates that are trained as whole configs, each in a process of its own."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
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
    key_of,
    read_json,
    settings_digest,
    standing,
)
from detnas_mm.evaluators.training.forecast import Forecast
from detnas_mm.evaluators.training.halving import Halving
from detnas_mm.evaluators.training.progress import Watched
from detnas_mm.evaluators.training.rows import evaluation_of
from detnas_mm.evaluators.training.schedule import Schedule
from detnas_mm.evaluators.training.search_val import judged_on_search_val
from detnas_mm.files import write_json, write_text
from detnas_mm.registry import EVALUATORS, WORKERS, build_from
from detnas_mm.search import Evaluation, Evaluator, Proposal, Record, SearchJob, pareto_front
from detnas_mm.spaces import Architecture
from detnas_mm.workers import Outcome, Task, Workers, run_in_order
from detnas_mm.workers.folder import RESULT

#: What of a search's config is none of its candidates'.
_OF_THE_SEARCH = ('search', 'work_dir', 'resume', 'launcher')
_COMMAND = 'detnas_mm.engine.candidate'


@EVALUATORS.register_module()
class ShortTraining(Evaluator):
    """Trains each candidate by the searched config's own schedule, and judges it on search-val.

    A candidate is ``space.configure(searched config, architecture)``: a whole config, which a process of its own trains
    in ``candidates/ID/`` of the search's folder. Its ``result.json`` is all that the search goes by. Metrics are those
    of ``val_evaluator`` on ``val_dataloader``, unrounded.

    Args:
        workers: What runs the trainings, such as ``dict(type='LocalWorkers', count=2, threads=1)``. Defaults to one
            worker of one thread on this machine.
        time_limit: Seconds that a candidate may take, its evaluation included; one that takes longer has failed, and
            is trained further when a search resumes with a higher limit. Defaults to None: as long as it takes.
        halving: ``dict(at=[3, 6], keep=0.5)``, see :class:`.Halving`: a generation's trainings are stopped at these
            epochs (or iterations), and the best share is trained further; the others are dropped. Defaults to None.
        inherit: Whether a child begins with what fits of the weights of its first parent that still has some.
            Defaults to False.
        keep: Whose weights stay: ``'front'``, of those that would be exported now; ``'all'``; ``'none'``. Defaults to
            ``'front'``.
        retries: How often a training is started again that its machine has lost. Defaults to 2.
        trials: How many candidates are trained for a few iterations before the first one, for a forecast of the
            hours; 0 for none. Defaults to 2.

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
            raise DetNASError(f'evaluator.time_limit must be seconds, more than 0, or None; got {time_limit!r}.')
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

    # -- before the search --------------------------------------------------------------------------------------

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`: search-val, the schedule, workers, and whether a candidate's model builds."""
        if job.work_dir is None:
            raise DetNASError('ShortTraining trains candidates in folders of the search, which has none: set work_dir.')
        check_search(job, self._searched(job), self.halving)
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
        """The searched config as a candidate's, with a seed."""
        cfg = job.cfg.to_dict() if hasattr(job.cfg, 'to_dict') else copy.deepcopy(dict(job.cfg))
        for key in _OF_THE_SEARCH:
            cfg.pop(key, None)
        randomness = dict(cfg.get('randomness') or {})
        cfg['randomness'] = randomness | ({} if randomness.get('seed') is not None else dict(seed=job.seed))
        return cfg

    def spec(self) -> dict[str, Any]:
        """See :meth:`Evaluator.spec`: limits, retries and the number of workers change no result."""
        return self._spec

    # -- rows of earlier starts, and of finished generations ----------------------------------------------------

    def outdated(self, record: Record) -> bool:
        """See :meth:`Evaluator.outdated`: it failed by a limit of time that is higher now."""
        return self._more_time_now(record.details.get('time_limit'))

    def _more_time_now(self, limit: float | None) -> bool:
        now = self.workers.time_limit(self.time_limit)
        return limit is not None and (now is None or now > limit)

    def forget(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.forget`: their results; what they have trained stays, where it can be resumed."""
        for record in records:
            drop_result(self.folder / record.id, self.schedule.unit)

    def observe(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.observe`: deletes weights of those that will not be exported, and what failed ones left.

        Whoever is not on the front of some rows never is on that of more, so it does not matter when this is called.
        """
        self._rows = list(records)
        kept = {record.id for record in self._kept(records)}
        for record in records:
            folder = self.folder / record.id
            if not folder.is_dir():
                continue
            if record.id not in kept:
                (folder / WEIGHTS).unlink(missing_ok=True)
            if 'time_limit' not in record.details:
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
        """See :meth:`Evaluator.expect`: halving compares all of a generation, and children inherit from parents."""
        self._generation = list(proposals)

    # -- a generation -------------------------------------------------------------------------------------------

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`. What diverges, needs too much memory or takes too long has failed."""
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
        dropped = {} if self.halving is None else self._halved(generation, candidates)
        going_on = [arch for arch in archs if arch not in dropped]
        outcomes = self._run([candidates[arch] for arch in going_on], None)
        for arch in archs:
            yield (
                dropped[arch]
                if arch in dropped
                else evaluation_of(candidates[arch], next(outcomes), self.schedule.total)
            )
        for _ in outcomes:  # lets the last worker end
            pass

    def _candidate(self, arch: Architecture) -> Candidate:
        """A candidate, its config written."""
        cfg = self.job.space.configure(self.searched, arch)
        assert cfg is not None  # checked
        folder = self.folder / arch.id
        parents = next((one.parents for one in self._generation if one.arch == arch), ())
        parent = next((one for one in parents if (self.folder / one / WEIGHTS).is_file()), None)
        parent = parent if self.inherit else None
        source = None if parent is None else read_json(self.folder / parent / RESULT).get('key')
        what = json.dumps([self._spec, settings_digest(cfg), source], sort_keys=True)
        work = hashlib.sha256(what.encode()).hexdigest()[:16]
        text = config_text(Config(cfg))
        file = folder / CONFIG
        if not file.is_file() or file.read_text(encoding='utf-8') != text:
            write_text(file, text)
        return Candidate(arch.id, folder, work, None if parent is None else self.folder / parent / WEIGHTS, parent)

    def _task(self, candidate: Candidate, until: int | None, *more: str) -> Task:
        limit = self.workers.time_limit(self.time_limit)
        options = {
            '--key': (key := key_of(candidate.work, until)),
            '--threads': self.workers.threads,
            '--until': until,
            '--time-limit': limit,
            '--inherit': candidate.inherit,
        }
        words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
        command = (sys.executable, '-m', _COMMAND, str(candidate.folder), *words, *more)
        return Task(key, command, candidate.folder, limit)

    def _run(self, candidates: Sequence[Candidate], until: int | None) -> Iterator[Outcome]:
        """Outcomes of trainings in the order asked for; what stands already is not run."""
        tasks = [self._task(candidate, until) for candidate in candidates]
        with Watched(self.job, candidates, until) as watched:
            for outcome in run_in_order(
                self.workers, tasks, self.retries, self.job.resume_command.removeprefix(': '), self.job.log
            ):
                watched.finished()
                yield outcome

    def _halved(
        self, generation: Sequence[Architecture], candidates: Mapping[Architecture, Candidate]
    ) -> dict[Architecture, Evaluation]:
        """Trains a generation from rung to rung; returns those that are not trained to the end."""
        assert self.halving is not None
        out: dict[Architecture, Evaluation] = {}
        for rung in self.halving.at:
            running = [arch for arch in generation if arch not in out]
            found = dict(self._at_rung(running, candidates, rung))
            ok = [arch for arch in running if found[arch].status == 'ok']
            promoted = self.halving.promoted(
                ok, [found[arch].metrics for arch in ok], self.job.objectives, self.job.budget
            )
            for arch in running:
                if found[arch].status != 'ok':
                    out[arch] = found[arch]
                elif arch.id not in promoted:
                    drop_training(candidates[arch].folder)
                    reason = f'not among the best {len(promoted)} of {len(ok)} after {rung} {self.schedule.unit}'
                    details = found[arch].details | dict(partial=found[arch].metrics)
                    out[arch] = Evaluation(dropped=reason, time=found[arch].time, details=details)
        return out

    def _at_rung(
        self, archs: Sequence[Architecture], candidates: Mapping[Architecture, Candidate], rung: int
    ) -> Iterator[tuple[Architecture, Evaluation]]:
        """What candidates had, or have now, at a rung; one that trained on since is not trained again.

        One that was lost each time stays lost when a search resumes within its generation: it may have its row.
        """
        missing = []
        for arch in archs:
            result = standing(candidates[arch].folder, candidates[arch].work) or {}
            there = result.get('rungs', {}).get(str(rung))
            lost = read_json(candidates[arch].folder / LOST)
            if there is not None:
                at_rung = result | dict(status='ok', metrics=there) | {self.schedule.unit: rung}
                yield arch, evaluation_of(candidates[arch], Outcome(at_rung), rung)
            elif result.get('status') == 'failed':
                yield arch, evaluation_of(candidates[arch], Outcome(result), rung)
            elif lost.get('key') == key_of(candidates[arch].work, rung):
                yield arch, evaluation_of(candidates[arch], Outcome(None, lost['lost'], memory=lost['memory']), rung)
            else:
                missing.append(arch)
        outcomes = self._run([candidates[arch] for arch in missing], rung)
        for arch, outcome in zip(missing, outcomes, strict=True):
            if outcome.result is None:
                key = key_of(candidates[arch].work, rung)
                write_json(candidates[arch].folder / LOST, dict(key=key, lost=outcome.lost, memory=outcome.memory))
            yield arch, evaluation_of(candidates[arch], outcome, rung)

    def _sizes(self, generation: Sequence[Architecture]) -> dict[Architecture, int]:
        """Bytes of the weights of some candidates of a generation."""
        step = max(len(generation) // 16, 1)
        return {arch: size_of(self.job, self.searched, arch) for arch in generation[::step]}

    def _trial(self, arch: Architecture, iterations: int) -> Task:
        """A task that trains a candidate for a few iterations, in a folder of its own."""
        own = self._candidate(arch)
        folder = own.folder.with_name(f'{own.id}{TRIAL}')
        write_text(folder / CONFIG, (own.folder / CONFIG).read_text(encoding='utf-8'))
        trial = Candidate(own.id, folder, f'{own.work}-trial')
        return self._task(trial, None, '--trial', str(iterations))

    # -- what was found -----------------------------------------------------------------------------------------

    def weights(self, arch: Architecture) -> dict[str, Any] | None:
        """See :meth:`Evaluator.weights`; None for candidates whose weights are not kept."""
        file = self.folder / arch.id / WEIGHTS
        if file.is_file():
            return dict(weights_in(load_checkpoint_file(file), file))
        if arch.id in {record.id for record in self._kept(self._rows)}:
            self.job.log(
                f'The weights of {self.job.space.describe(arch)} are gone: others were better at an earlier start, '
                f'whose rows were taken back or which kept fewer. Its config alone is exported; train that.'
            )
        return None

    def rescoring(self, cfg: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`Evaluator.rescoring`."""
        return judged_on_search_val(cfg)
