"""Evaluator that looks scores up in a table: a search in milliseconds, to study strategies and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.one_shot.racing import Racing, judged_on, partial, spared
from detnas_mm.registry import EVALUATORS, build_from
from detnas_mm.search import Evaluation, Evaluator, Record, SearchJob, read_ledger
from detnas_mm.spaces import Architecture


@EVALUATORS.register_module()
class TabularEvaluator(Evaluator):
    """Looks candidates up in the ledger of an earlier search, like in a tabular NAS benchmark.

    Args:
        ledger: A ledger, whose rows are the table; any search can run if it has all architectures of the space.
        racing: See :class:`OneShotEvaluator`; the table's rows must have the shares at which it stops, as they do if
            they were evaluated with racing.

    Raises:
        ValueError: On :meth:`setup`, if the ledger is of another space, or its shares were evaluated with another
            calibration than racing has; on :meth:`evaluate`, if a row, or its share, is missing.
    """

    def __init__(self, ledger: str, racing: Mapping[str, Any] | None = None) -> None:
        self.path = Path(ledger)
        self.racing = None if racing is None else build_from(EVALUATORS, racing, type=Racing)

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`."""
        if self.racing is not None:
            self.racing.setup(job.objectives)

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """See :meth:`Evaluator.setup`."""
        self.check(job)
        header, records = read_ledger(self.path)
        if header['space'] != job.space.spec():
            raise DetNASError(
                f'{self.path} is a table of the space {header["space"]}, but search.space is {job.space.spec()}: set '
                f'both alike.'
            )
        made = (header['evaluator'].get('racing') or {}).get('calibration', 1.0)
        if self.racing is not None and self.racing.calibration != made:
            raise DetNASError(
                f'The shares of {self.path} were evaluated after {made:g} of the calibration images, but '
                f'racing.calibration '
                f'is {self.racing.calibration:g}. Set it to {made:g}.'
            )
        self._header = header
        self._rows = {record.id: record for record in records}

    def spec(self) -> dict[str, Any]:
        spec = dict(type='TabularEvaluator', rows=len(self._rows), of=self._header['evaluator'])
        return spec if self.racing is None else spec | dict(racing=self.racing.spec())

    def observe(self, records: Sequence[Record]) -> None:
        """See :meth:`Evaluator.observe`."""
        if self.racing is not None:
            self.racing.observe(records)

    def remark(self, records: Sequence[Record]) -> str:
        """See :meth:`Evaluator.remark`."""
        return '' if self.racing is None else spared(records)

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`."""
        for arch in archs:
            row = self._rows.get(arch.id)
            if row is None:
                raise DetNASError(
                    f'{self.path} has no row of {list(arch.genes)}, which the search proposes: use a ledger of the '
                    f'whole space.'
                )
            yield self._raced(row) if row.ok and self.racing else self._as_it_is(row)

    @staticmethod
    def _as_it_is(row: Record) -> Evaluation:
        failure, dropped = (row.reason if row.status == status else None for status in ('failed', 'dropped'))
        return Evaluation(row.metrics, failure, dropped=dropped, details=row.details)

    def _raced(self, row: Record) -> Evaluation:
        """Returns the result of racing for a row that was evaluated on the full set."""
        full = judged_on(row)
        assert self.racing is not None and full is not None
        seen: dict[str, dict[str, float]] = {}
        for share in self.racing.shares:
            # Shares end at whole batches, so a row has its own numbers of images: the smallest that is large enough.
            images = min((n for n in map(int, partial(row)) if n >= share * full - 1e-9), default=None)
            if images is None:
                raise DetNASError(
                    f'{self.path} has no metrics of {row.arch} on {share} of the images; it has {partial(row)}. Change '
                    f'racing.shares.'
                )
            seen[str(images)] = partial(row)[str(images)]
            dropped = self.racing.verdict(images, seen[str(images)])
            if dropped:
                return Evaluation(dropped=dropped, details=dict(images=images, partial=seen))
        return Evaluation(row.metrics, details=dict(images=full, partial=seen))
