"""Builds searches that need no Runner, in code or from configs. Shared by tests."""

from detnas_mm.engine.export import Exporter
from detnas_mm.engine.search import run_search
from detnas_mm.search import Budget, Ledger, Objective, SearchJob


def make_job(space, objectives=None, costs=None, constraints=(), **changes):
    """Builds a search in code, with defaults for missing arguments; nothing is logged or drawn."""
    settings = dict(log=lambda text: None, show_progress=False) | changes
    return SearchJob(space, objectives or [Objective('score')], Budget(space, costs or {}, constraints), **settings)


def run_in_memory(job):
    """Runs a search with its rows in memory; returns the successful ones, the best first."""
    job.prepare()
    job.evaluator.setup(job)
    with Ledger(None, job.header()) as ledger:
        return job.strategy.run(job.evaluator, ledger)


def prepared(cfg, log=print):
    """The search of a config, parsed and checked as the launcher does it."""
    job = SearchJob.from_config(cfg, log)
    job.exporter = Exporter(job)
    job.prepare()
    return job


def run(cfg, log=lambda text: None, retry_failed=False):
    """Runs the search of a config; returns it and its rows, the best first."""
    job = prepared(cfg, log)
    job.retry_failed = retry_failed
    return job, run_search(job)
