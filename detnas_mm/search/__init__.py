"""How a search runs: objectives, strategies, the ledger, the loop. Imports no torch."""

from detnas_mm.search.ledger import Ledger, LedgerError, read_ledger
from detnas_mm.search.objective import Budget, Constraint, Objective, UnmeetableConstraint, number_text, pareto_front
from detnas_mm.search.prefilter import Prefilter, Ranker, SurrogateRanker
from detnas_mm.search.record import Evaluation, Proposal, Record
from detnas_mm.search.searcher import Searcher
from detnas_mm.search.strategies import EvolutionStrategy, ParetoStrategy, RandomStrategy, Strategy

__all__ = [
    'Budget',
    'Constraint',
    'Evaluation',
    'EvolutionStrategy',
    'Ledger',
    'LedgerError',
    'Objective',
    'ParetoStrategy',
    'Prefilter',
    'Proposal',
    'RandomStrategy',
    'Ranker',
    'Record',
    'Searcher',
    'Strategy',
    'SurrogateRanker',
    'UnmeetableConstraint',
    'number_text',
    'pareto_front',
    'read_ledger',
]
