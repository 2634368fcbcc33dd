"""A search that needs no torch: fitness is a function of the architecture."""

import json

import pytest

from detnas_mm.search import Constraint, Evaluation, Evaluator, EvolutionStrategy, Ledger, Objective
from detnas_mm.search.record import VOLATILE
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable
from tests.jobs import make_job


class CountingEvaluator(Evaluator):
    """Scores by counting 7x7 and Xception blocks; fails or stops where it is to; remembers what it was asked.

    ``together``: all that it is handed is evaluated before the first comes back, as in the one-shot evaluation.
    """

    def __init__(self, fail=(), stop_after=None, together=False):
        self.fail = fail
        self.stop_after = stop_after
        self.together = together
        self.asked = []

    def setup(self, job, model=None):
        self.space = job.space

    def spec(self):
        return {'type': 'CountingEvaluator'}

    def observe(self, records):
        self.observed = [record.id for record in records]

    def evaluate(self, archs):
        one_by_one = self._one_by_one(archs)
        yield from list(one_by_one) if self.together else one_by_one

    def _one_by_one(self, archs):
        for arch in archs:
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(arch.id)
            if self.fail == 'all' or arch.id in self.fail:
                yield Evaluation(failure='asked to')
            else:
                yield Evaluation({'acc': arch.genes.count(2) + 0.1 * arch.genes.count(3)}, time={'all': 0.0})


class Search:
    """A job that is ready to run, and its ledger, as the engine puts them together.

    Args:
        job: The search; it is prepared here.
        path: Of the ledger; None for rows in memory.
        header: Of the ledger; by default the job's own.
    """

    def __init__(self, job, path=None, header=None):
        job.prepare()
        job.evaluator.setup(job)
        self.job = job
        self.strategy, self.evaluator, self.objectives = job.strategy, job.evaluator, job.objectives
        self.ledger = Ledger(path, job.header() if header is None else header)

    def run(self):
        return self.strategy.run(self.evaluator, self.ledger)

    def rows(self):
        """Returns the content of the folder, without values that may differ between two runs."""
        lines = self.ledger.path.read_bytes().splitlines()[1:]
        return [{k: v for k, v in json.loads(line).items() if k not in VOLATILE} for line in lines]


@pytest.fixture
def make_search(tmp_path):
    """Builds a search; what is not given has defaults."""

    def make(
        evaluator=None,
        strategy=None,
        generations=4,
        folder='a',
        seed=0,
        high=300e6,
        header=None,
        objective=None,
        log=None,
        costs=None,
        constraints=(),
    ):
        space = DetNASSpace('small')
        own = {'macs': MacsTable(space), 'params': ParamsTable(space)} | (costs or {})
        bounds = [*([Constraint('macs', high=high)] if high else []), *constraints]
        job = make_job(
            space,
            objective if isinstance(objective, list) else [objective or Objective('acc')],
            own,
            bounds,
            strategy=strategy or EvolutionStrategy(population=10, parents=4),
            evaluator=evaluator or CountingEvaluator(),
            generations=generations,
            seed=seed,
            log=log or (lambda text: None),
        )
        return Search(job, tmp_path / folder / 'ledger.jsonl', header or {'seed': seed})

    return make
