"""A search that needs no torch: fitness is a function of the architecture."""

import pytest

from detnas_mm.search import Budget, Constraint, Evaluation, EvolutionStrategy, Ledger, Objective, Searcher
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable


class CountingEvaluator:
    """Scores by counting 7x7 and Xception blocks; fails or stops where told; remembers what it was asked.

    ``together``: all that it is handed is evaluated before the first comes back, as in the one-shot evaluation.
    """

    def __init__(self, fail=(), stop_after=None, together=False):
        self.fail = fail
        self.stop_after = stop_after
        self.together = together
        self.asked = []

    def spec(self):
        return {'type': 'CountingEvaluator'}

    def observe(self, records, objectives):
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
                yield Evaluation(failure='told to')
            else:
                yield Evaluation({'acc': arch.genes.count(2) + 0.1 * arch.genes.count(3)}, time={'all': 0.0})


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
    ):
        space = DetNASSpace('small')
        costs = {'macs': MacsTable(space), 'params': ParamsTable(space)}
        ledger = Ledger(tmp_path / folder / 'ledger.jsonl', header or {'seed': seed})
        return Searcher(
            space,
            strategy or EvolutionStrategy(population=10, parents=4),
            evaluator or CountingEvaluator(),
            objective if isinstance(objective, list) else [objective or Objective('acc')],
            Budget(space, costs, [Constraint('macs', high=high)] if high else []),
            ledger,
            generations,
            seed,
            log or (lambda text: None),
            show_progress=False,
        )

    return make
