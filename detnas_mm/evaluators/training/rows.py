"""Makes rows of the ledger from results of trainings."""

from __future__ import annotations

from detnas_mm.evaluators.training.folder import Candidate
from detnas_mm.evaluators.training.search_val import read_metrics
from detnas_mm.search import Evaluation
from detnas_mm.search.fronts import OWN_TRAINING
from detnas_mm.workers import Outcome


def evaluation_of(candidate: Candidate, outcome: Outcome, at: int) -> Evaluation:
    """Returns the evaluation of a candidate.

    It is the same in every run, but for times, the host, and failures by the limit of time.

    Args:
        candidate: The candidate.
        outcome: The outcome of its task.
        at: Epoch or iteration that it was trained to.
    """
    log = f'log: {candidate.log}'
    result = outcome.result
    if result is None:
        memory = {} if outcome.memory is None else dict(peak_memory_mb=outcome.memory / 2**20)
        return Evaluation(failure=f'{outcome.lost}; {log}', details=memory, host=outcome.host)
    host = result.get('host', '')
    time = {name: float(value) for name, value in result.get('seconds', {}).items()}
    if result['status'] != 'ok':
        names = ('time_limit', 'host', 'load', 'cores') if 'time_limit' in result else ()
        details = {name: result[name] for name in names if name in result}
        return Evaluation(failure=f'{result["reason"]}; {log}', time=time, details=details, host=host)
    details = {name: result[name] for name in ('epochs', 'iterations') if name in result}
    if candidate.own_training is not None:
        details[OWN_TRAINING] = candidate.own_training
    if candidate.parent is not None and 'inherited' in result:
        shared, of = result['inherited']
        details['inherited'] = dict(parent=candidate.parent, tensors=shared, of=of)
    rungs = {rung: values for rung, values in result.get('rungs', {}).items() if int(rung) < at}
    if rungs:
        details['rungs'] = rungs
    return Evaluation(read_metrics(result['metrics']), time=time, details=details, host=host)
