"""Searches without a Runner, whose candidates need no model: shared by tests of what a search leaves behind."""

from detnas_mm.engine.search import run_search
from detnas_mm.search import SearchJob


def prepared(cfg, log=print):
    """The search of a config, parsed and checked as the launcher does it."""
    job = SearchJob.from_config(cfg, log)
    job.prepare()
    return job


def run(cfg, log=lambda text: None):
    """Runs the search of a config; returns it and its rows, the best first."""
    job = prepared(cfg, log)
    return job, run_search(job)
