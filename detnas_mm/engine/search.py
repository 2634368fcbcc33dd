"""From a config's ``search`` section to a finished search: the one way in for hooks and tools alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import nn

from detnas_mm.compat import load_checkpoint_file
from detnas_mm.engine.provenance import environment, model_digest, weights_digest
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.evaluators import Evaluator
from detnas_mm.export import check_backbones, export_best, export_net
from detnas_mm.files import replacing, write_json
from detnas_mm.models import build_model, checked_weights
from detnas_mm.registry import COSTS, EVALUATORS, SPACES, STRATEGIES, build_from
from detnas_mm.search import (
    Budget,
    Constraint,
    Ledger,
    LedgerError,
    Objective,
    PopulationEvolution,
    PopulationSearcher,
    Record,
    Searcher,
    Strategy,
    pareto_front,
    read_ledger,
    thinned,
)
from detnas_mm.search.checks import keyed, listed, whole
from detnas_mm.search.population_searcher import check_proof
from detnas_mm.spaces import SearchSpace
from detnas_mm.visualization import plot_population, plot_progress

LEDGER, CONFIG = 'ledger.jsonl', 'search_config.py'
_OBJECTIVES = "[dict(name='coco/bbox_mAP', direction='maximize')]"
_COSTS = "dict(macs=dict(type='MacsTable'))"
_CONSTRAINTS = "[dict(cost='macs', high=300e6)]"
_SECTION = ('space', 'strategy', 'evaluator', 'objectives', 'costs', 'constraints', 'budget', 'seed', 'export')


class SearchPlan:
    """A config's ``search`` section, built and checked; nothing has been loaded or run yet.

    Args:
        cfg: The section: ``dict(space=…, strategy=…, evaluator=…, objectives=…, costs=…, constraints=…, budget=…)``,
            and if wanted ``seed`` and ``export``.

    Raises:
        ValueError: If something is missing, unknown or does not fit; UnmeetableConstraint if no candidate can.
    """

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        if not isinstance(cfg, Mapping):
            raise DetNASError(f'The search section of the config must be a dict; got {cfg!r}.')
        unknown = sorted(set(cfg) - set(_SECTION))
        missing = [key for key in ('space', 'strategy', 'evaluator', 'objectives') if key not in cfg]
        if unknown or missing:
            raise DetNASError(
                f'The search section of the config has no {missing or "room for"} {unknown or ""}. It holds '
                f'{", ".join(_SECTION)}; the first four are required. See configs/_base_/search/.'
            )
        self.seed = whole('search.seed', cfg.get('seed', 0))
        self.space: SearchSpace = build_from(SPACES, cfg['space'])
        self.strategy: Strategy | PopulationEvolution = build_from(STRATEGIES, cfg['strategy'])
        self.evaluator: Evaluator = build_from(EVALUATORS, cfg['evaluator'])
        check_proof(self.strategy, self.evaluator)
        self.objectives = [
            Objective(**keyed('search.objectives', objective, ('name', 'direction'), _OBJECTIVES, ('name',)))
            for objective in listed('search.objectives', cfg['objectives'], _OBJECTIVES)
        ]
        if not self.objectives:
            raise DetNASError(f'search.objectives is empty; name what is wanted: {_OBJECTIVES}.')
        wanted = cfg.get('costs', {})
        if not isinstance(wanted, Mapping):
            raise DetNASError(f'search.costs must be a dict by name, such as {_COSTS}; got {wanted!r}.')
        costs = {name: build_from(COSTS, cost, space=self.space) for name, cost in wanted.items()}
        constraints = [
            Constraint(**keyed('search.constraints', constraint, ('cost', 'low', 'high'), _CONSTRAINTS, ('cost',)))
            for constraint in listed('search.constraints', cfg.get('constraints', ()), _CONSTRAINTS)
        ]
        self.budget = Budget(self.space, costs, constraints)
        budget = keyed('search.budget', cfg.get('budget', {}), ('generations',), 'dict(generations=20)')
        self.generations = whole('search.budget.generations', budget.get('generations', 20), 1)
        wanted = cfg.get('export', {})
        export: dict[str, Any] = dict(wanted) if isinstance(wanted, Mapping) else {'': wanted}
        self.top_k = export.get('top_k', 1)
        self.front_k = export.get('front_k')
        counts = [self.top_k, *([] if self.front_k is None else [self.front_k])]
        if set(export) - {'top_k', 'front_k', 'retrain'} or not all(isinstance(k, int) and k > 0 for k in counts):
            raise DetNASError(
                f'search.export holds top_k=… (how many nets are written out, 1 or more), front_k=… (how many of a '
                f'front, those with most room around them; None, the default: all) and retrain=dict(…) (training '
                f'settings for their configs); got {wanted!r}.'
            )

    def rehearse(self) -> None:
        """Draws a first generation, where that costs next to nothing.

        Raises:
            UnmeetableConstraint: If constraints cannot be met together.
            ValueError: If strategy or racing cannot serve the objectives.
        """
        self.evaluator.observe([], self.objectives)
        if getattr(self.strategy, 'begins_at_random', False):
            self.strategy.setup(self.space, self.budget, self.objectives, self.seed)
            self.strategy.ask(0)  # type: ignore[union-attr]

    def header(self, model: Mapping[str, str] | None) -> dict[str, Any]:
        """What makes rows comparable: the first line of the ledger; ``model`` is its :func:`model_digest`."""
        return dict(
            space=self.space.spec(),
            strategy=self.strategy.spec(),
            evaluator=self.evaluator.spec(),
            objectives=[vars(objective) for objective in self.objectives],
            budget=self.budget.spec(),
            **(dict(weights=None, settings=None) if model is None else model),
            seed=self.seed,
        )


def open_ledger(path: Path, header: Mapping[str, Any], told: Mapping[str, Any]) -> Ledger:
    """The ledger on rank 0, a copy of its rows in memory on all others; what is ``told`` is never compared.

    Raises:
        LedgerError: On all ranks, if rank 0 cannot open it.
    """
    box: list[Any] = [None, None]
    ledger = None
    if is_main_process():
        try:
            ledger = Ledger(path, header, told)
            box = [(ledger.records, ledger.snapshots), None]
        except DetNASError as error:
            box = [None, str(error)]
    broadcast_object_list(box)
    if box[1]:
        raise LedgerError(box[1])
    if ledger is None:
        ledger = Ledger(None, header, None, *box[0])
    return ledger


def run_search(
    cfg: Config,
    model: nn.Module | None = None,
    log: Callable[[str], None] | None = None,
    sampler: str | None = None,
) -> list[Record]:
    """Runs the search of a config to its end, and exports what it found.

    Everything lands in ``cfg.work_dir``: the ledger, ``best.json``, ``best/`` with configs and weights of the best nets
    (with several objectives, of the Pareto front), ``progress.png``, and ``certificate.json`` where something is
    proven. Run again on the same folder, it goes on where it stopped.

    Args:
        cfg: A config with ``search`` and ``work_dir``.
        model: The trained model, if the evaluator needs one.
        log: Receives lines of text. Defaults to mmengine's logger.
        sampler: How paths were sampled while the model was trained, if that is known; the ledger tells it.

    Returns:
        All successful records, the best in the first objective first.

    Raises:
        DetNASError: If the section does not fit, or every candidate failed; LedgerError if the folder belongs to
            another search, or is in use.
    """
    log = log or (lambda text: print_log(text, logger='current'))
    plan = SearchPlan(cfg.search)
    if plan.evaluator.needs_model and model is None:
        raise DetNASError(f'{type(plan.evaluator).__name__} needs a trained model: give its checkpoint.')
    plan.evaluator.setup(plan.space, model, plan.seed)
    if not plan.evaluator.needs_model:
        check_backbones(cfg, plan.space)
    work_dir = Path(cfg.work_dir)
    header = plan.header(None if model is None else model_digest(cfg, model))
    told = environment() | ({} if sampler is None else dict(sampler=sampler))
    with open_ledger(work_dir / LEDGER, header, told) as ledger:
        if is_main_process():
            with replacing(work_dir / CONFIG) as draft:  # before anything long: any row can be exported meanwhile
                cfg.dump(draft)
        searcher = _searcher(plan, ledger, log)
        best = searcher.run()
        if not best:
            reasons = sorted({record.reason or '' for record in ledger.records})
            raise DetNASError(
                f'All {len(ledger.records)} candidates failed: {"; ".join(reasons[:3])}. Mend the cause and search in '
                f'another folder (--work-dir), or delete {work_dir}/ledger.jsonl, whose rows stay as they are.'
            )
        if is_main_process():
            if ledger.snapshots:
                bound = (plan.strategy.certificate or {}).get('bound')
                plot_population(ledger.snapshots, plan.objectives[0], work_dir / 'progress.png', bound)
            else:
                plot_progress(ledger.records, plan.objectives, work_dir / 'progress.png')
            if plan.strategy.certificate is not None:
                write_json(work_dir / 'certificate.json', plan.strategy.certificate, indent=2)
        if len(plan.objectives) == 1:
            chosen = best[: plan.top_k]
        else:
            chosen = thinned(pareto_front(best, plan.objectives), plan.objectives, plan.front_k)
        export_best(cfg, plan.space, plan.evaluator, chosen, work_dir, log)
    return best


def _searcher(plan: SearchPlan, ledger: Ledger, log: Callable[[str], None]) -> Searcher | PopulationSearcher:
    """The loop that fits the strategy."""
    kind: Any = PopulationSearcher if isinstance(plan.strategy, PopulationEvolution) else Searcher
    show = is_main_process() and os.environ.get('TQDM_DISABLE') != '1'
    return kind(
        plan.space, plan.strategy, plan.evaluator, plan.objectives, plan.budget, ledger, plan.generations, plan.seed,
        log, show_progress=show,
    )  # fmt: skip


def export_row(
    work_dir: Path, wanted: str, checkpoint: str | None = None, trust: bool = False
) -> tuple[Path, Path | None]:
    """Exports any row of a finished or running search as an ordinary config and checkpoint.

    Args:
        work_dir: Folder of the search.
        wanted: The id or the architecture of a row.
        checkpoint: The trained supernet; by default the one that the search loaded.
        trust: Whether the checkpoint may hold more than tensors, see :func:`~detnas_mm.compat.load_checkpoint_file`.

    Returns:
        Paths of the config and of the checkpoint, in the folder's ``exported/``; None if the search had no weights.

    Raises:
        FileNotFoundError: If the folder holds no search.
        ValueError: If there is no such row, it failed, the checkpoint is another one than the search's, or of another
            model, or the space has no backbone that stands alone.
    """
    for name in (LEDGER, CONFIG):
        if not (work_dir / name).is_file():
            raise MissingFileError(
                f'{work_dir} has no {name}: it is no folder of a search, or one that has only begun.'
            )
    cfg = Config.fromfile(work_dir / CONFIG)
    header, records = read_ledger(work_dir / LEDGER)
    plan = SearchPlan(cfg.search)
    found = [record for record in records if wanted in (record.id, record.arch)]
    if not found or not found[0].ok:
        best = plan.objectives[0].best_first(records)[:3]
        raise DetNASError(
            f'{wanted!r} is no successfully evaluated row of {work_dir / LEDGER}. The best are '
            f'{", ".join(f"{record.id} ({record.arch})" for record in best)}.'
        )
    row = found[0]
    arch, stem = plan.space.parse(row.arch), work_dir / 'exported' / row.id
    meta = dict(id=row.id, arch=row.arch, space=plan.space.spec(), metrics=row.metrics, costs=row.costs)
    checkpoint = checkpoint or cfg.get('load_from')
    if plan.evaluator.needs_model and checkpoint is None:
        raise DetNASError('The search ran right after training, so its config names no checkpoint: give one.')
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        if plan.evaluator.needs_model:
            model = build_model(cfg)
            model.load_state_dict(checked_weights(model, load_checkpoint_file(checkpoint, trust), checkpoint))
            if weights_digest(model) != header['weights']:
                raise DetNASError(f'{checkpoint} holds other weights than the ones of {work_dir / LEDGER}.')
            plan.evaluator.setup(plan.space, model.to(get_device()), plan.seed)
        config, weights = export_net(cfg, plan.space, plan.evaluator, arch, stem, meta)
    if config is None:
        raise DetNASError(f'{type(plan.space).__name__} does not say how a net of its own is built.')
    return config, weights
