"""Candidates as a tree of their common beginnings: shared segments are computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn

from detnas_mm.evaluators.one_shot.bn_recalibration import BatchStatistics, Statistics
from detnas_mm.evaluators.temporary import replaced
from detnas_mm.models.supernet import Segment

#: Approximate number of candidates in a part.
HANDFUL = 6
#: Outputs of a candidate's backbone.
Outputs = tuple[Tensor, ...]


@dataclass(eq=False)
class Node:
    """A segment after certain others; its BN statistics hold for all candidates that begin like this.

    Attributes:
        number: Position in the tree's order; the same on all ranks.
        segment: The segment that runs; None at the root, and at a candidate's end, which stands for neck and head.
        children: By segment key.
        collected: Statistics by batch, see :func:`bn_recalibration.recording`.
        statistics: Their average.
        failure: Reason why all candidates through this node fail, or None.
        dropped: At a candidate's end: reason why it is not evaluated further, or None.
    """

    number: int
    segment: Segment | None = None
    children: dict[Hashable, Node] = field(default_factory=dict)
    collected: dict[int, BatchStatistics] = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    failure: str | None = None
    dropped: str | None = None


class PathTree:
    """A tree of paths, walked depth first.

    Memory holds the outputs of one node at each depth where paths branch, for any number of candidates.

    Args:
        paths: The segments of each candidate; equal ones share all of their nodes.
    """

    def __init__(self, paths: Sequence[Sequence[Segment]]) -> None:
        self.nodes = [Node(0)]
        #: For each candidate its nodes, from the stem to the end.
        self.branches: list[list[Node]] = []
        for path in paths:
            branch, node = [], self.nodes[0]
            for segment in [*path, None]:
                key = _END if segment is None else segment.key
                if key not in node.children:
                    node.children[key] = Node(len(self.nodes), segment)
                    self.nodes.append(node.children[key])
                node = node.children[key]
                branch.append(node)
            self.branches.append(branch)

    @property
    def ends(self) -> list[Node]:
        """The last node of every candidate."""
        return [branch[-1] for branch in self.branches]

    def statistics(self, candidate: int) -> Statistics:
        """Returns all BN statistics of one candidate."""
        return {name: value for node in self.branches[candidate] for name, value in node.statistics.items()}

    def failure(self, candidate: int) -> str | None:
        """Returns the reason why a candidate fails; None if it does not."""
        return next((node.failure for node in self.branches[candidate] if node.failure), None)

    def goes_on(self, candidate: int) -> bool:
        """Returns True if a candidate has neither failed nor been dropped."""
        return self.failure(candidate) is None and self.branches[candidate][-1].dropped is None

    @property
    def open(self) -> bool:
        """True if at least one candidate has neither failed nor been dropped."""
        return any(map(self.goes_on, range(len(self.branches))))

    @property
    def parts(self) -> int:
        """Number of parts into which the remaining candidates may be split: neighbours, which share much."""
        return math.ceil(len(self._going_on()) / HANDFUL)

    def _going_on(self) -> list[list[Node]]:
        """Returns the branches of candidates that have neither failed nor been dropped, in order; equal ones once."""
        branches = {
            tuple(node.number for node in branch): branch
            for candidate, branch in enumerate(self.branches)
            if self.goes_on(candidate)
        }
        return [branch for _, branch in sorted(branches.items())]

    def walk(
        self, images: Tensor, enter: Callable[[Node], None], part: int = 0, parts: int = 1
    ) -> Iterator[tuple[Node, Outputs]]:
        """Runs candidates' backbones on a batch.

        Args:
            images: Shape (n, c, h, w), preprocessed.
            enter: Called before a node runs. Nodes that only failed or dropped candidates use are skipped.
            part: Index of the part of the candidates, from 0.
            parts: Number of parts.

        Yields:
            (the candidate's end, outputs of its backbone); equal candidates appear once.
        """
        branches = self._going_on()
        cuts = [len(branches) * number // parts for number in (part, part + 1)]
        live = {node.number for branch in branches[slice(*cuts)] for node in branch}
        yield from self._walk(self.nodes[0], images, (), enter, live)

    def _walk(
        self, node: Node, x: Tensor, outs: Outputs, enter: Callable[[Node], None], live: set[int]
    ) -> Iterator[tuple[Node, Outputs]]:
        children = [child for child in node.children.values() if child.number in live]
        for child in children:
            enter(child)
            if child.segment is None:
                yield child, outs
                continue
            # No variable here may keep data that are no longer needed: the result, and x before the last child.
            result = list(_run(child.segment, x, outs))
            if child is children[-1]:
                del x
            yield from self._walk(child, result.pop(0), result.pop(), enter, live)


_END = object()


def replayed(backbone: nn.Module, outputs: Outputs) -> AbstractContextManager[None]:
    """Replaces the backbone's outputs in the model's next forward."""
    return replaced(backbone, 'forward', lambda x: outputs)


def _run(segment: Segment, x: Tensor, outs: Outputs) -> tuple[Tensor, Outputs]:
    y = segment.module(x)
    own = (y if isinstance(y, tuple) else (y,)) if segment.keep else ()
    return y, (*outs, *own)
