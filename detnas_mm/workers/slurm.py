"""Workers on a slurm cluster: submitit submits jobs; result files and ``squeue`` show when they are over."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.files import can_lock, write_json
from detnas_mm.registry import WORKERS
from detnas_mm.workers.base import Outcome, Task, Workers, finished, how_lost
from detnas_mm.workers.folder import read_result
from detnas_mm.workers.slurm_queue import Queue, call, said

#: Seconds between calls of ``squeue``, at least, and between checks for results.
ASK, LOOK = 10.0, 1.0
#: Consecutive answers without a job after which the job is over.
_ANSWERS = 2
#: Failures after which ``sbatch`` is given up.
_FAILURES = 3
#: Time of a command to end by itself before slurm ends it: seconds, or a share of the timeout if that is less.
_MARGIN, _SHARE = 300.0, 0.2
_COMMANDS = ('sbatch', 'squeue', 'scancel', 'sinfo')
#: Runs a command; appends its output, and its exit status and job if it fails, to the file ``$0``.
_SCRIPT = (
    '"$@" >>"$0" 2>&1 </dev/null; end=$?; job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}'
    '${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}; '
    '[ $end -eq 0 ] || echo "exit status $end of job $job" >>"$0"; exit $end'
)
#: File in a task's folder: its latest job.
_JOB = 'slurm.json'
#: A shell adds this to the number of the signal that has killed a command.
_KILLED = 128


@WORKERS.register_module()
class SlurmWorkers(Workers):
    """Runs commands as jobs of slurm: one job array for each call of :meth:`run`.

    If this process is killed, its jobs keep running, and the next process waits for them. If it ends by Ctrl-C or an
    error, its jobs are cancelled. A job that slurm requeues resumes from the files in its folder.

    Args:
        partition: The partition. All its nodes must see the folders of the tasks.
        timeout: Minutes after which slurm kills a command, counted from each start. A command with a time limit of its
            own ends before (:attr:`longest`); one without is lost.
        count: Largest number of jobs that run at a time. Defaults to 1.
        threads: CPU threads of a command. Defaults to 1.
        gpus: GPUs of a command. Defaults to 0.
        cpus: CPUs of a command, for its threads and the workers of its data loaders. Defaults to ``threads``.
        options: Further long options of ``sbatch``, such as ``dict(account='vision', mem='16G')``.
    """

    def __init__(
        self,
        partition: str,
        timeout: int | None = None,
        count: int = 1,
        threads: int = 1,
        gpus: int = 0,
        cpus: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(count, threads)
        if timeout is None:
            raise DetNASError(
                'SlurmWorkers need timeout, the minutes after which slurm kills a candidate: several times the length '
                'of a training, and at most the time limit of the partition (shown by sinfo).'
            )
        self.partition = partition
        self.timeout = whole('timeout', timeout, 1)
        self.gpus = whole('gpus', gpus)
        self.cpus = whole('cpus', threads if cpus is None else cpus, threads)
        self.options = dict(options or {})
        seconds = 60.0 * self.timeout
        self.longest: float = seconds - min(_MARGIN, _SHARE * seconds)
        self._folder: Path | None = None
        self._own: set[str] = set()  # jobs that this process has submitted or waited for

    def check(self, work_dir: Path) -> None:
        missing = [name for name in _COMMANDS if shutil.which(name) is None]
        if missing:
            raise DetNASError(
                f'SlurmWorkers need slurm, but this machine has no {", ".join(missing)}: start the search on a node '
                f"that can submit jobs, or use dict(type='LocalWorkers')."
            )
        if importlib.util.find_spec('submitit') is None:
            raise DetNASError("SlurmWorkers need submitit; install it by: pip install 'submitit>=1.5.2,<2'")
        can_lock(work_dir)
        asked = [f'--{key.replace("_", "-")}' + ('' if value is True else f'={value}') for key, value in self._asked()]
        tried = call('sbatch', '--test-only', *asked, '--wrap=true')
        if tried.returncode:
            partitions = ' '.join(dict.fromkeys(call('sinfo', '--noheader', '--format=%R').stdout.split()))
            raise DetNASError(
                f'slurm refuses a job with {" ".join(asked)}: {said(tried)}. Its partitions are: {partitions}.'
            )
        for limit in call('sinfo', '--noheader', f'--partition={self.partition}', '--format=%l').stdout.split():
            if self.timeout > _minutes(limit):
                raise DetNASError(
                    f'timeout is {self.timeout} minutes, but the time limit of partition {self.partition} is {limit} '
                    f'([days-]hours:minutes:seconds), and such a job would never start: lower timeout.'
                )
        self._folder = work_dir / 'slurm'

    def has_gpu(self) -> bool:
        return self.gpus > 0

    def run(self, tasks: Sequence[Task]) -> Generator[tuple[int, Outcome], None, None]:
        for task in tasks:
            self.time_limit(task.time_limit)
        done = finished(tasks)
        yield from done.items()
        waiting = [place for place in range(len(tasks)) if place not in done]
        if not waiting:
            return
        folder = self._logs(tasks)
        queue = Queue(_name(folder))
        jobs = self._adopt(queue, tasks, waiting)
        try:
            new = [place for place in waiting if place not in jobs.values()]
            if new:
                jobs |= dict(zip(self._submit(queue, folder, [tasks[p] for p in new]), new, strict=True))
            self._own |= jobs.keys()
            yield from self._follow(queue, tasks, jobs)
        finally:
            if jobs:
                call('scancel', *jobs)
                for place in jobs.values():  # the next process must not wait for a cancelled job
                    (tasks[place].folder / _JOB).unlink(missing_ok=True)

    def end_others(self, tasks: Sequence[Task]) -> None:
        """See :meth:`Workers.end_others`: cancels jobs, and waits until slurm does not know them any more."""
        kept = {job['job'] for task in tasks if (job := _noted(task.folder))}
        self._end(Queue(_name(self._logs(tasks))), kept)

    def _end(self, queue: Queue, kept: set[str]) -> dict[str, str]:
        """Waits until slurm knows these jobs only, and cancels those of earlier processes; returns what it knows."""
        cancelled: set[str] = set()
        while (known := queue.ask()) is None or known.keys() - kept:
            others = set(known or ()) - kept - self._own  # jobs of this process are about to end
            if others - cancelled:
                print(f'Cancelling jobs that an earlier start has left: {", ".join(sorted(others))}', flush=True)
                call('scancel', *sorted(others))
                cancelled |= others
            time.sleep(ASK)
        return known

    def _end_strays(self, queue: Queue, tasks: Sequence[Task]) -> dict[str, str]:
        """Ends jobs that no folder names, since a process was killed, or ``sbatch`` failed, before it was noted.

        Nothing would wait for them, and they would keep the folders of their tasks locked.

        Returns:
            The jobs that slurm knows, see :meth:`.Queue.ask`.
        """
        parents = {task.folder.parent for task in tasks}  # also tasks of other calls, which may be next
        noted = {_noted(file.parent)['job'] for parent in parents for file in parent.glob(f'*/{_JOB}')}
        return self._end(queue, noted | self._own)

    def _logs(self, tasks: Sequence[Task]) -> Path:
        """Returns the folder of submitit's files."""
        return (self._folder or tasks[0].folder.parent / 'slurm').absolute()

    def _adopt(self, queue: Queue, tasks: Sequence[Task], waiting: Sequence[int]) -> dict[str, int]:
        """Returns jobs of an earlier process that slurm still knows, with the indices of their tasks.

        A job for another key, as after a change of settings, is cancelled; so are jobs that no folder names.
        """
        known = self._end_strays(queue, tasks)
        jobs, others = {}, []
        for place in waiting:
            noted = _noted(tasks[place].folder)
            if noted.get('job') not in known:
                continue
            if noted.get('key') == tasks[place].key:
                jobs[noted['job']] = place
            else:
                others.append(noted['job'])
        if others:
            call('scancel', *sorted(others))
        return jobs

    def _submit(self, queue: Queue, folder: Path, tasks: Sequence[Task]) -> list[str]:
        """Submits tasks as a job array; returns the numbers of the jobs.

        Raises:
            DetNASError: If slurm refuses them at every attempt; quotes its message.
        """
        import submitit

        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(
            job_name=queue.name, partition=self.partition, time=self.timeout, cpus_per_task=self.cpus,
            array_parallelism=self.count, stderr_to_stdout=True, use_srun=False,
            additional_parameters=dict(self._asked()),
        )  # fmt: skip
        functions = [submitit.helpers.CommandFunction(self._command(task), verbose=False) for task in tasks]
        for failures in range(1, _FAILURES + 1):
            try:
                jobs = [job.job_id for job in executor.submit_array(functions)]
                break
            except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
                if failures == _FAILURES:
                    raise DetNASError(f'slurm refuses the jobs: {" ".join(str(error).split())}') from error
                time.sleep(ASK)
                self._end_strays(queue, tasks)  # slurm may have accepted them, and its answer was lost
        for job, task in zip(jobs, tasks, strict=True):
            write_json(task.folder / _JOB, dict(job=job, key=task.key))
        return jobs

    def _asked(self) -> list[tuple[str, Any]]:
        """Returns the settings of a job, as long options of ``sbatch``."""
        own: dict[str, Any] = {'partition': self.partition, 'time': self.timeout, 'cpus-per-task': self.cpus}
        if self.gpus:
            own['gpus-per-node'] = self.gpus
        return [*own.items(), *self.options.items()]

    def _command(self, task: Task) -> list[str]:
        """Returns a task's command with its environment; its output goes to the task's log."""
        env = self.environment() | ({} if self.gpus else dict(CUDA_VISIBLE_DEVICES=''))
        variables = [f'{key}={value}' for key, value in env.items()]
        return ['/usr/bin/env', *variables, '/bin/sh', '-c', _SCRIPT, str(task.log.absolute()), *task.command]

    def _follow(self, queue: Queue, tasks: Sequence[Task], jobs: dict[str, int]) -> Iterator[tuple[int, Outcome]]:
        """Yields outcomes as jobs end; removes these jobs from ``jobs``."""
        unknown = dict.fromkeys(jobs, 0)
        nodes: dict[str, str] = {}
        asked = time.monotonic()
        while jobs:
            if time.monotonic() - asked >= ASK:
                known = queue.ask(jobs)
                asked = time.monotonic()
                if known is not None:
                    unknown = {job: 0 if job in known else unknown[job] + 1 for job in jobs}
                    nodes |= {job: node for job, node in known.items() if node}
            for job, place in list(jobs.items()):
                task = tasks[place]
                os.listdir(task.folder)  # makes a network file system read the folder again
                result = read_result(task.folder, task.key)
                if result is None and unknown[job] < _ANSWERS:
                    continue
                del jobs[job]
                lost = None if result is not None else _how_lost(task, job)
                node = nodes.get(job, '')
                yield place, Outcome(result, lost, f'{node or "slurm"}, job {job}', host=node)
            if jobs:
                time.sleep(min(LOOK, ASK))


def _name(folder: Path) -> str:
    """Returns the name of all jobs whose files are in a folder."""
    return 'detnas_mm-' + hashlib.sha256(str(folder).encode()).hexdigest()[:12]


def _noted(folder: Path) -> dict[str, Any]:
    """Returns the latest slurm job of a task's folder, its number ``job`` and the task's ``key``; empty if none."""
    file = folder / _JOB
    return json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}


def _how_lost(task: Task, job: str) -> str:
    """Returns how a job that slurm no longer lists has ended without a result.

    The last line of the log has the exit status of the command, see :data:`_SCRIPT`, unless the whole job was killed.
    """
    unknown = 'no longer in squeue, without a result; '
    if not task.log.exists():
        return f'{unknown}it has no log: check that the nodes see {task.folder.absolute()}'
    with task.log.open('rb') as log:
        log.seek(max(task.log.stat().st_size - 1000, 0))
        last = log.read().decode(errors='replace').rstrip('\n').rpartition('\n')[2]
    ended = re.fullmatch(rf'exit status (\d+) of job {job}', last)
    if ended is None:
        return f'{unknown}see {task.log}'
    status = int(ended[1])
    return how_lost(_KILLED - status if status > _KILLED else status, task)


def _minutes(limit: str) -> float:
    """Reads a time limit of slurm, ``'infinite'``, ``'1-00:00:00'``, ``'12:00:00'`` or ``'5:00'``; returns minutes."""
    if not limit[:1].isdigit():
        return float('inf')
    days, _, rest = limit.rpartition('-')
    seconds = 0.0
    for part in rest.split(':'):
        seconds = seconds * 60 + int(part)
    return (seconds + 86400 * int(days or 0)) / 60
