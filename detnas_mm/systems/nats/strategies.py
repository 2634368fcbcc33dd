"""Strategy of EDO: chooses the best dilation of every group independently of the others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.registry import STRATEGIES
from detnas_mm.search import Evaluator, Ledger, LedgerError, Proposal, Record, Strategy
from detnas_mm.search.loop import announce, check_replayed, make_record, progress, refuse_if_all_failed
from detnas_mm.spaces import Architecture
from detnas_mm.systems.nats.convs import Genotype, genotype_text
from detnas_mm.systems.nats.space import DilationSpace

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@runtime_checkable
class ScoresGenes(Protocol):
    """Evaluator whose score is a sum over groups of channels.

    Attributes:
        metric: Name of the score in ledger rows and objectives.
    """

    metric: str

    def gene_scores(self, conv: int) -> np.ndarray:
        """Returns scores of every group of one convolution with every genotype, shape (groups, genotypes)."""


@STRATEGIES.register_module()
class EDOStrategy(Strategy):
    """Efficient dilation search (Liu et al., CVPR 2021, section 3): chooses the best dilation of every group.

    The evaluator must score single groups, as :class:`RepresentationError` does; the score is minimised. Each ledger
    row decides one more convolution, in the order of the table; convolutions after it have the first genotype of their
    stage. The last row is the found architecture. A search has one row per convolution of the space;
    ``budget.generations`` is not used. Ties go to the smaller dilation: the smaller sum of both directions, then the
    smaller height. ``genotypes.png`` beside the ledger shows the share of each dilation per convolution of the found
    net.
    """

    _space: DilationSpace

    def spec(self) -> dict[str, Any]:
        return dict(type='EDOStrategy')

    def setup(self, job: SearchJob) -> None:
        """See :meth:`Strategy.setup`.

        Raises:
            DetNASError: If the space, the evaluator, the objectives or the constraints do not fit this strategy.
        """
        super().setup(job)
        evaluator: Any = job.evaluator
        objectives = job.objectives
        if not isinstance(job.space, DilationSpace):
            raise DetNASError(f'EDOStrategy needs a DilationSpace; search.space is a {type(job.space).__name__}.')
        if not isinstance(evaluator, ScoresGenes):
            raise DetNASError(
                f'EDOStrategy needs an evaluator that scores single groups, such as RepresentationError; '
                f'{type(evaluator).__name__} scores whole architectures only.'
            )
        if [(one.name, one.direction) for one in objectives] != [(evaluator.metric, 'minimize')]:
            raise DetNASError(
                f'search.objectives must be [dict(name={evaluator.metric!r}, '
                f"direction='minimize')] for EDOStrategy; got {objectives}."
            )
        if job.budget.constraints:
            raise DetNASError(
                f'EDOStrategy cannot use constraints, since it chooses the dilation of each group independently; got '
                f'{" and ".join(map(str, job.budget.constraints))}. Remove search.constraints: dilations do not change '
                f'parameters and multiply-adds.'
            )
        self._space = job.space

    def run(self, evaluator: Evaluator, ledger: Ledger) -> list[Record]:
        """See :meth:`Strategy.run`; returns the last row first.

        Raises:
            LedgerError: If the ledger's rows are not those of this search.
            DetNASError: If every row failed.
        """
        job, space = self.job, self._space
        known = list(ledger.records)
        announce(job, ledger, f'{len(known)} of {len(space.convs)} convolutions' if known else '')
        if len(known) > len(space.convs):
            raise LedgerError(
                f'{ledger.path} has {len(known)} rows, more than the {len(space.convs)} of this search: choose another '
                f'--work-dir.'
            )
        genes = [(0,) * len(sizes) for sizes in space.splits]
        parents: tuple[str, ...] = ()
        with progress(job, len(space.convs), len(known)) as bar:
            for number, conv in enumerate(space.convs):
                row = known[number] if number < len(known) else None
                if row is not None:
                    genes[number] = space.genes(space.parse(row.arch))[number]
                else:
                    genes[number] = self._best(evaluator, number)
                arch = Architecture(tuple(gene for ids in genes for gene in ids))
                proposal = Proposal(arch, 'decided', parents)
                if row is not None:
                    check_replayed(ledger, [row], [proposal], number)
                else:
                    (evaluation,) = evaluator.evaluate([arch])
                    ledger.append(make_record(job, ledger, number, proposal, evaluation))
                    bar.update(1)
                parents = (arch.id,)
                counts = Counter(map(genotype_text, space.dilations(arch)[number]))
                found = ', '.join(f'{name} {count}' for name, count in counts.most_common())
                job.log(f'{number + 1}/{len(space.convs)} {conv.name}: channels by dilation {found}')
        refuse_if_all_failed(ledger)
        job.log(space.shares_text(arch))
        if ledger.path is not None:  # only rank 0 has a file
            from detnas_mm.systems.nats.pictures import (
                draw_genotypes,
            )  # here, so that reading ledgers loads no matplotlib

            draw_genotypes(space, [arch], ledger.path.with_name('genotypes.png'))
        last = ledger.records[-1]
        return [last, *(row for row in job.objectives[0].best_first(ledger.records) if row is not last)]

    def _best(self, evaluator: Evaluator, number: int) -> tuple[int, ...]:
        """Returns the index of the genotype with the lowest score, for every group of a convolution."""
        assert isinstance(evaluator, ScoresGenes)
        genotypes = self._space.genotypes[self._space.convs[number].stage]
        order = np.array(sorted(range(len(genotypes)), key=lambda i: _size(genotypes[i])))
        return tuple(order[evaluator.gene_scores(number)[:, order].argmin(axis=1)].tolist())


def _size(genotype: Genotype) -> tuple[int, int]:
    return sum(genotype), genotype[0]
