"""Conformance suite for evaluators: one function to call in the test of a new evaluator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detnas_mm.search import Budget, Evaluation, Evaluator, Objective, SearchJob
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.testing.common import check_json, global_states


def check_evaluator(
    evaluator: Evaluator, job: SearchJob | SearchSpace, archs: Sequence[Architecture], model: Any = None
) -> list[Evaluation]:
    """Checks that an evaluator fulfils the contract of :class:`~detnas_mm.evaluators.Evaluator`.

    Every candidate gets one evaluation, in order, and not all fail. An evaluation is bit-identical whatever candidates
    are evaluated before, after or together with it. The model and all random generators are unchanged afterwards.

    Args:
        evaluator: The evaluator to check; it is set up here.
        job: The search; or only a space, for evaluators that need nothing else.
        archs: At least three different candidates.
        model: The trained model, if the evaluator needs one.

    Returns:
        The evaluations of ``archs``.

    Raises:
        AssertionError: If the contract is violated; says how.
    """
    assert len(set(archs)) == len(archs) >= 3, f'archs must be at least three different candidates; got {archs}.'
    if isinstance(job, SearchSpace):
        job = SearchJob(job, [Objective('score')], Budget(job, {}), evaluator=evaluator)
    space = job.space
    evaluator.check(job)
    evaluator.setup(job, model)
    spec = evaluator.spec()
    check_json('spec()', spec)
    before = _state(model), global_states()
    together = list(evaluator.evaluate(archs))
    assert len(together) == len(archs), f'{len(archs)} candidates got {len(together)} evaluations.'
    for arch, evaluation in zip(archs, together, strict=True):
        _check_evaluation(arch, evaluation)
    assert any(evaluation.status == 'ok' for evaluation in together), (
        f'no candidate was evaluated successfully, so nothing can be checked; the first gave {together[0]}.'
    )
    backwards = list(evaluator.evaluate(archs[::-1]))[::-1]
    alone = [evaluation for arch in archs[:3] for evaluation in evaluator.evaluate([arch])]
    for how, others in (('in the opposite order', backwards), ('alone', alone)):
        for arch, first, second in zip(archs, together, others, strict=False):
            assert replace(first, time={}) == replace(second, time={}), (
                f'{space.describe(arch)} evaluated {how} gives {second}, and {first} before.'
            )
    assert list(evaluator.evaluate([])) == [], 'no candidates must give no evaluations.'
    assert (_state(model), global_states()) == before, 'evaluate() changed the model or a global random generator.'
    assert evaluator.spec() == spec, f'spec() was {spec}, and is {evaluator.spec()} after evaluating.'
    return together


def _check_evaluation(arch: Architecture, evaluation: Evaluation) -> None:
    assert isinstance(evaluation, Evaluation), f'{arch} got {evaluation!r}; an Evaluation is needed.'
    assert evaluation.lost is None, f'{arch} was lost ({evaluation.lost}), so nothing can be checked.'
    if evaluation.status == 'ok':
        assert evaluation.metrics, f'{arch} did not fail and has no metrics.'
        assert all(type(value) is float for value in evaluation.metrics.values()), (
            f'metrics must be plain floats; {arch} has {evaluation.metrics}.'
        )
    else:
        reason = evaluation.failure if evaluation.status == 'failed' else evaluation.dropped
        assert isinstance(reason, str) and reason, f'{arch} {evaluation.status} without a reason.'
        assert not evaluation.metrics, f'{arch} {evaluation.status} and must have no metrics; got {evaluation.metrics}.'
    assert all(math.isfinite(seconds) for seconds in evaluation.time.values()), f'{arch} took {evaluation.time}.'


def _state(model: Any) -> Any:
    """Returns weights, buffers, BN momenta and training modes of a torch model, in comparable form."""
    if model is None:
        return None
    tensors = {key: value.detach().cpu().numpy().tobytes() for key, value in model.state_dict().items()}
    modes = [(name, module.training, getattr(module, 'momentum', None)) for name, module in model.named_modules()]
    return tensors, modes
