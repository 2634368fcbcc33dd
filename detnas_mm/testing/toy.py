"""Minimal space, cost and evaluator, for the conformance suites and for tests of searches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from detnas_mm.cost import AdditiveTable
from detnas_mm.errors import DetNASError
from detnas_mm.registry import COSTS, EVALUATORS, SPACES
from detnas_mm.search import ArrayEvaluator, Evaluation, SearchJob
from detnas_mm.spaces import Architecture, ArraySpace


@SPACES.register_module()
class ToySpace(ArraySpace):
    """Space of sequences of digits, such as ``'0213'``.

    Args:
        positions: Number of digits.
        choices: Number of values per digit, at most 10.
    """

    gene_kinds = ('first', 'others')

    def __init__(self, positions: int = 6, choices: int = 4) -> None:
        self.positions, self.choices = positions, choices

    @property
    def size(self) -> int:
        return self.choices**self.positions

    def spec(self) -> dict[str, Any]:
        return dict(type='ToySpace', positions=self.positions, choices=self.choices)

    def sample_codes(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(self.choices, size=(count, self.positions))

    def mutate_codes(
        self, codes: np.ndarray, rng: np.random.Generator, prob: float, kinds: Sequence[str] | None = None
    ) -> np.ndarray:
        free = np.array(
            [('first' if i == 0 else 'others') in (kinds or self.gene_kinds) for i in range(self.positions)]
        )
        hit = free & (rng.random(codes.shape) < prob)
        return np.where(hit, self.sample_codes(rng, len(codes)), codes)

    def contains(self, codes: np.ndarray) -> np.ndarray:
        if codes.ndim != 2 or codes.shape[1] != self.positions:
            return np.zeros(len(codes), dtype=bool)
        return np.all((codes >= 0) & (codes < self.choices), axis=1)

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self.decode(self.sample_codes(rng, 1))[0]

    def sample_many(self, rng: np.random.Generator, count: int) -> list[Architecture]:
        return self.decode(self.sample_codes(rng, count))

    def mutate(self, arch: Architecture, rng: np.random.Generator, prob: float) -> Architecture:
        return self.decode(self.mutate_codes(self.encode([arch]), rng, prob))[0]

    def crossover(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture:
        pick = rng.random(self.positions) < 0.5
        return Architecture(tuple(np.where(pick, first.genes, second.genes).tolist()))

    def smallest(self) -> Architecture:
        return Architecture((0,) * self.positions)

    def parse(self, value: Any) -> Architecture:
        try:
            arch = Architecture(tuple(int(digit) for digit in getattr(value, 'genes', value)))
        except (TypeError, ValueError) as error:
            raise DetNASError(f'{value!r} must be a sequence of {self.positions} digits.') from error
        if len(arch.genes) != self.positions or not self.contains(self.encode([arch]))[0]:
            raise DetNASError(f'{value!r} must have {self.positions} digits of 0 to {self.choices - 1}.')
        return arch

    def describe(self, arch: Architecture) -> str:
        return ''.join(map(str, arch.genes))


@COSTS.register_module()
class ToyCost(AdditiveTable):
    """Cost of a toy architecture: the sum of its digits, plus 1.

    Args:
        space: The space.
    """

    def __init__(self, space: ToySpace) -> None:
        super().__init__('toy', 'sum of digits', np.tile(np.arange(space.choices), (space.positions, 1)), 1)
        self.space = space


@EVALUATORS.register_module()
class ToyEvaluator(ArrayEvaluator):
    """Scores toy architectures by a formula in which the digit 2 counts most; each metric has its own formula.

    Args:
        metrics: Names of the metrics.
        failing: Texts of architectures that fail.
        lost: How often an architecture is lost, by text, before it is evaluated.

    Attributes:
        asked: Texts of all architectures that it has evaluated, one by one or as rows of an array.
    """

    def __init__(
        self, metrics: Sequence[str] = ('score',), failing: Sequence[str] = (), lost: dict[str, int] | None = None
    ) -> None:
        self.metrics = list(metrics)
        self.metric = self.metrics[0]
        self.failing = set(failing)
        self.lost = dict(lost or {})
        self.asked: list[str] = []

    def setup(self, job: SearchJob, model: Any = None) -> None:
        self.space = job.space

    def spec(self) -> dict[str, Any]:
        return dict(type='ToyEvaluator', metrics=self.metrics, failing=sorted(self.failing))

    def score_codes(self, codes: np.ndarray) -> np.ndarray:
        self.asked += [''.join(map(str, row)) for row in codes.tolist()]
        return self._scores(codes)

    @staticmethod
    def _scores(codes: np.ndarray) -> np.ndarray:
        return (codes == 2) @ np.arange(1.0, codes.shape[1] + 1) + codes.sum(axis=1) / 100

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        for arch in archs:
            text = self.space.describe(arch)
            self.asked.append(text)
            if self.lost.get(text, 0) > 0:
                self.lost[text] -= 1
                yield Evaluation(lost='the machine went away')
            elif text in self.failing:
                yield Evaluation(failure='asked to fail')
            else:
                codes = np.array([arch.genes])
                values = {name: float(self._scores((codes + k) % 4)[0]) for k, name in enumerate(self.metrics)}
                yield Evaluation(values)
