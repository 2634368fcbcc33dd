"""What every evaluator must keep, as one function that a test of a new evaluator calls."""

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
    """Checks that an evaluator keeps the contract of :class:`~detnas_mm.evaluators.Evaluator`.

    Every candidate gets one evaluation, in order, and not all fail; it depends on that candidate alone, to the last
    bit, whatever is evaluated before, after or together with it; the model and all random generators are left as they
    were.

    Args:
        evaluator: What to check; it is set up here.
        job: The search; or a space, for evaluators that need to know no more.
        archs: At least three candidates, no two equal.
        model: The trained model, if the evaluator needs one.

    Returns:
        The evaluations of ``archs``.

    Raises:
        AssertionError: If the contract is broken; says where.
    """
    assert len(set(archs)) == len(archs) >= 3, 'give at least three different candidates.'
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
        f'none of these was evaluated to the end, so there is nothing to check: {together[0]}.'
    )
    backwards = list(evaluator.evaluate(archs[::-1]))[::-1]
    alone = [evaluation for arch in archs[:3] for evaluation in evaluator.evaluate([arch])]
    for how, others in (('in the opposite order', backwards), ('alone', alone)):
        for arch, first, second in zip(archs, together, others, strict=False):
            assert replace(first, time={}) == replace(second, time={}), (
                f'{space.describe(arch)} evaluated {how} gives {second}, and {first} before.'
            )
    assert list(evaluator.evaluate([])) == [], 'no candidates must give no evaluations.'
    assert (_state(model), global_states()) == before, 'evaluating leaves a trace in the model or a random generator.'
    assert evaluator.spec() == spec, f'spec() was {spec}, and is {evaluator.spec()} after evaluating.'
    return together


def _check_evaluation(arch: Architecture, evaluation: Evaluation) -> None:
    assert isinstance(evaluation, Evaluation), f'{arch} got {evaluation!r}; an Evaluation is needed.'
    assert evaluation.lost is None, f'{arch} was lost ({evaluation.lost}), so there is nothing to check.'
    if evaluation.status == 'ok':
        assert evaluation.metrics, f'{arch} did not fail and has no metrics.'
        assert all(type(value) is float for value in evaluation.metrics.values()), (
            f'metrics must be plain floats; {arch} has {evaluation.metrics}.'
        )
    else:
        reason = evaluation.failure if evaluation.status == 'failed' else evaluation.dropped
        assert isinstance(reason, str) and reason, f'{arch} {evaluation.status} without a reason.'
        assert not evaluation.metrics, f'{arch} {evaluation.status} and has metrics all the same: {evaluation.metrics}.'
    assert all(math.isfinite(seconds) for seconds in evaluation.time.values()), f'{arch} took {evaluation.time}.'


def _state(model: Any) -> Any:
    """Weights, buffers, momenta and modes of a torch model, comparable."""
    if model is None:
        return None
    tensors = {key: value.detach().cpu().numpy().tobytes() for key, value in model.state_dict().items()}
    modes = [(name, module.training, getattr(module, 'momentum', None)) for name, module in model.named_modules()]
    return tensors, modes
