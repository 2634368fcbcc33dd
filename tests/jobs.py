"""Searches put together in code, for tests that need no config file."""

from detnas_mm.search import Budget, Ledger, Objective, SearchJob


def make_job(space, objectives=None, costs=None, constraints=(), **changes):
    """A search; what is not given has the defaults of SearchJob, and nothing is logged or drawn."""
    settings = dict(log=lambda text: None, show_progress=False) | changes
    return SearchJob(space, objectives or [Objective('score')], Budget(space, costs or {}, constraints), **settings)


def run(job):
    """Runs a search with its rows in memory; returns the successful ones, the best first."""
    job.prepare()
    job.evaluator.setup(job)
    with Ledger(None, job.header()) as ledger:
        return job.strategy.run(job.evaluator, ledger)
