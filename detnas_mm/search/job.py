"""A search as described by its config, parsed once a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from detnas_mm.checks import flag, keyed, listed, whole
from detnas_mm.cli import typed
from detnas_mm.config_types import as_text, config_text
from detnas_mm.errors import DetNASError
from detnas_mm.registry import COSTS, EVALUATORS, SPACES, STRATEGIES, build_from
from detnas_mm.search.budget import Budget, Constraint
from detnas_mm.search.evaluator import Evaluator
from detnas_mm.search.objective import Objective
from detnas_mm.search.strategies.base import Strategy
from detnas_mm.spaces import Architecture, SearchSpace
from detnas_mm.spaces.images import check_images

#: Files in the folder of a search: its rows, and its config as written.
LEDGER, CONFIG = 'ledger.jsonl', 'search_config.py'
_OBJECTIVES = "[dict(name='coco/bbox_mAP', direction='maximize')]"
_COSTS = "dict(macs=dict(type='…'))"
_CONSTRAINTS = "[dict(cost='macs', high=300e6)]"
_SECTION = ('space', 'strategy', 'evaluator', 'objectives', 'costs', 'constraints', 'budget', 'seed', 'export')


@dataclass(frozen=True)
class ExportSettings:
    """Settings of the nets that a search writes: its ``export`` section.

    Attributes:
        top_k: Number of nets, 1 or more, for one objective.
        front_k: Number of nets of a front, those with the largest crowding distance; None for all.
        config: The ordinary training config that found nets are put into: a file or ``'detnas_mm::…'``; None for the
            searched config without its search.
        sort_channels: Whether nets are exported with their channels in the order that is fastest
            (:attr:`SearchSpace.channel_sorter`). Outputs stay the same.

    Raises:
        ValueError: If a setting does not fit.
    """

    top_k: int = 1
    front_k: int | None = None
    config: str | None = None
    sort_channels: bool = False

    def __post_init__(self) -> None:
        whole('search.export.top_k', self.top_k, 1)
        flag('search.export.sort_channels', self.sort_channels)
        if self.front_k is not None:
            whole('search.export.front_k', self.front_k, 1)
        if self.config is not None and not isinstance(self.config, str):
            raise DetNASError(
                f"search.export.config must be a config file, 'detnas_mm::folder/name.py' or None; got {self.config!r}."
            )


class NetWriter(Protocol):
    """Writes nets of a search as configs and checkpoints, see :class:`detnas_mm.engine.export.Exporter`."""

    searched: dict[str, Any]
    training: dict[str, Any]

    def write(self, arch: Architecture, stem: Path, meta: Mapping[str, Any], weights: Any = None) -> dict[str, Path]:
        """Writes one net and returns the paths of its files by name."""


@dataclass
class SearchJob:
    """All parts of a search, before anything is loaded or run.

    Attributes:
        space: The search space.
        objectives: Metrics and costs to optimise; the first one ranks rows.
        budget: Costs and constraints.
        strategy: Proposes candidates; None for a search that is a training run.
        evaluator: Computes the metrics of candidates; None for a search that is a training run.
        generations: Number of generations.
        seed: Seed of all random draws.
        export: Settings of the nets that are written.
        cfg: The whole config as written, with command-line options applied and classes as text; empty for a search that
            is built in code.
        work_dir: Folder of the search; None if nothing is written.
        log: Receives log lines, on rank 0 only.
        show_progress: Whether to draw a progress bar, on rank 0 only.
        retry_failed: Whether rows that failed in an earlier run are evaluated again.
        fail_lost: Whether candidates that are lost at every attempt become failed rows although nothing else has
            finished since; otherwise the search stops.
        exporter: Writes found nets as configs and checkpoints; None if they are not written.
    """

    space: SearchSpace
    objectives: list[Objective]
    budget: Budget
    strategy: Strategy | None = None
    evaluator: Evaluator | None = None
    generations: int = 20
    seed: int = 0
    export: ExportSettings = field(default_factory=ExportSettings)
    cfg: Any = field(default_factory=dict)
    work_dir: Path | None = None
    log: Callable[[str], None] = print
    show_progress: bool = True
    retry_failed: bool = False
    fail_lost: bool = False
    exporter: NetWriter | None = None

    def __post_init__(self) -> None:
        whole('search.budget.generations', self.generations, 1)
        if not self.objectives:
            raise DetNASError(f'search.objectives is empty; give at least one, such as {_OBJECTIVES}.')

    @classmethod
    def from_config(cls, cfg: Any, log: Callable[[str], None] = print) -> SearchJob:
        """Parses a config's ``search`` section.

        Args:
            cfg: The whole config as written, with ``search=dict(space=…, objectives=…)`` and optionally ``strategy``,
                ``evaluator``, ``costs``, ``constraints``, ``budget``, ``seed`` and ``export``; not changed.
            log: See :class:`SearchJob`.

        Raises:
            ValueError: If something is missing, unknown or does not fit; UnmeetableConstraint if no candidate meets a
                constraint.
        """
        cfg = as_text(cfg)
        section = cfg.get('search')
        if not isinstance(section, Mapping):
            raise DetNASError(f'The search section of the config must be a dict; got {section!r}.')
        unknown = sorted(set(section) - set(_SECTION))
        missing = [key for key in ('space', 'objectives') if key not in section]
        if unknown or missing:
            faults = [
                f'{what} key{"s" if len(keys) > 1 else ""} {", ".join(map(repr, keys))}'
                for what, keys in (('missing', missing), ('unknown', unknown))
                if keys
            ]
            raise DetNASError(
                f'search: {"; ".join(faults)}. Keys: {", ".join(_SECTION)}; space and objectives are required. See '
                f'configs/_base_/search/.'
            )
        space: SearchSpace = _given('search.space', build_from(SPACES, section['space']))
        budget = keyed('search.budget', section.get('budget', {}), ('generations',), 'dict(generations=20)')
        export = keyed(
            'search.export', section.get('export', {}), ('top_k', 'front_k', 'config', 'sort_channels'),
            "dict(top_k=3, config='detnas_mm::…/net.py')",
        )  # fmt: skip
        return cls(
            space=space,
            objectives=_objectives(section),
            budget=_budget(section, space),
            strategy=_built(STRATEGIES, section.get('strategy')),
            evaluator=_built(EVALUATORS, section.get('evaluator')),
            generations=budget.get('generations', 20),
            seed=whole('search.seed', section.get('seed', 0)),
            export=ExportSettings(**export),
            cfg=cfg,
            work_dir=Path(cfg['work_dir']) if cfg.get('work_dir') else None,
            log=log,
        )

    @property
    def needs_model(self) -> bool:
        """True if it runs inside a Runner, on a model; False if candidates are evaluated without one."""
        return self.evaluator is None or self.evaluator.needs_model

    @property
    def exports_weights(self) -> bool:
        """True if found nets are exported with weights; False if their configs alone are."""
        return self.evaluator is None or self.evaluator.has_weights

    @cached_property
    def text(self) -> str:
        """Text of a config file that reads back as ``cfg``.

        Raises:
            DetNASError: See :func:`~detnas_mm.config_types.config_text`.
        """
        return config_text(self.cfg)

    def prepare(self) -> None:
        """Checks all that can be checked without a model or data, and sets the strategy up; called once.

        Opens the files of measured costs.

        Raises:
            FileNotFoundError: If the file of a measured cost does not exist yet.
            ValueError: If parts do not fit together; UnmeetableConstraint if no candidate meets all constraints.
        """
        check_images(self.cfg, self.space.in_channels)
        if self.exporter is not None and self.export.config is not None:
            check_images(self.exporter.training, self.space.in_channels, self.export.config)
        self.space.check(self.cfg)
        self.budget.setup(self)
        self.budget.check()
        if self.evaluator is not None:
            self.evaluator.check(self)
        if self.strategy is not None:
            self.strategy.setup(self)

    def header(self, **more: Any) -> dict[str, Any]:
        """Returns the first line of the ledger: all that must be equal for rows to be comparable.

        Args:
            **more: Further such entries, such as digests of the model.
        """
        return dict(
            space=self.space.spec(),
            strategy=self.strategy and self.strategy.spec(),
            evaluator=self.evaluator and self.evaluator.spec(),
            objectives=[vars(objective) for objective in self.objectives],
            budget=self.budget.spec(),
            seed=self.seed,
            **more,
        )

    def command(self, *options: str) -> str:
        """Returns the command that resumes the search; empty for a search without a folder."""
        if self.work_dir is None:
            return ''
        return typed('search.py', self.work_dir / CONFIG, '--work-dir', self.work_dir, *options)


def _built(registry: Any, cfg: Any) -> Any:
    return None if cfg is None else build_from(registry, cfg)


def _given(name: str, part: Any) -> Any:
    if part is None:
        raise DetNASError(f"{name} is None; give its settings, such as dict(type='…'), or leave the key out.")
    return part


def _objectives(section: Mapping[str, Any]) -> list[Objective]:
    return [
        Objective(**keyed('search.objectives', objective, ('name', 'direction'), _OBJECTIVES, ('name',)))
        for objective in listed('search.objectives', section['objectives'], _OBJECTIVES)
    ]


def _budget(section: Mapping[str, Any], space: SearchSpace) -> Budget:
    costs = section.get('costs', {})
    if not isinstance(costs, Mapping):
        raise DetNASError(f'search.costs must be a dict by name, such as {_COSTS}; got {costs!r}.')
    constraints = [
        Constraint(**keyed('search.constraints', constraint, ('cost', 'low', 'high'), _CONSTRAINTS, ('cost',)))
        for constraint in listed('search.constraints', section.get('constraints', ()), _CONSTRAINTS)
    ]
    built = {name: _given(f'search.costs.{name}', build_from(COSTS, cost, space=space)) for name, cost in costs.items()}
    return Budget(space, built, constraints)
