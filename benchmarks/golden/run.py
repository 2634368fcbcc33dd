"""Runs one case in one tree, only by command lines."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from golden.cases import OPTIONS, Case
from golden.inputs import Inputs
from golden.trees import RunError, Tree

#: Rows after which the case ``killed`` is killed.
ROWS_BEFORE_KILL = 3
_LEDGER = 'ledger.jsonl'


class Run:
    """One case in one tree.

    Args:
        case: The case.
        tree: The tree of the code.
        inputs: The inputs of both trees.
        folder: Folder of the config, the log and the search's own folder; emptied first.
    """

    def __init__(self, case: Case, tree: Tree, inputs: Inputs, folder: Path) -> None:
        self.case = case
        self.tree = tree
        self.inputs = inputs
        self.folder = folder
        self.work_dir = folder / 'search'
        self.log = folder / 'log.txt'

    def run(self) -> float:
        """Runs it from the start; returns seconds.

        Raises:
            RunError: If a program fails.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        begin = time.perf_counter()
        STARTS[self.case.start](self)
        return time.perf_counter() - begin

    def search(self, *more: str) -> list[str | Path]:
        """Returns the command line of ``tools/search.py``."""
        return [sys.executable, self.tree.root / 'tools/search.py', *self.arguments(), *more]

    def config(self) -> Path:
        """Writes the case's config and returns its path; that of the tree if the case has none."""
        tree, case = self.tree, self.case
        if case.small:
            self.inputs.write(case.small, self.folder / 'small.py', tree)
        if not case.config:
            return tree.configs / 'digits/detnas-digits_search_retinanet.py'
        # A project with its own classes needs its own training config, or None, in trees that have this key.
        export = 'config=None,' if _exports_into_config(tree) else ''
        return self.inputs.write(case.config, self.folder / 'case.py', tree, EXPORT=export)

    def arguments(self) -> list[str | Path]:
        """Returns the arguments after the name of the tool."""
        checkpoint = [] if self.case.supernet is None else [self.inputs.checkpoint(self.case.supernet)]
        options = [] if self.case.config else ['--cfg-options', *OPTIONS]
        return [self.config(), *checkpoint, '--work-dir', self.work_dir, *options]

    def execute(self, command: list[str | Path]) -> None:
        self.tree.run(command, self.folder, self.log)

    def rows(self) -> int:
        """Returns the present number of rows in the ledger."""
        ledger = self.work_dir / _LEDGER
        return ledger.read_bytes().count(b'\n') - 1 if ledger.is_file() else 0


def _exports_into_config(tree: Tree) -> bool:
    """Returns True if the shipped searches set ``search.export.config``, the training config of found nets."""
    cfg = Config.fromfile(tree.configs / 'digits/detnas-digits_search_retinanet.py', import_custom_modules=False)
    return 'config' in cfg.search.get('export', {})


def _by_search(run: Run) -> None:
    run.execute(run.search())


def _by_train(run: Run) -> None:
    script = run.tree.root / 'tools/train.py'
    run.execute([sys.executable, script, run.config(), '--work-dir', run.work_dir])


def _by_mmdet(run: Run) -> None:
    spec = importlib.util.find_spec('mmdet')
    if spec is None or not spec.submodule_search_locations:
        raise RunError('mmdet is not installed')
    script = Path(spec.submodule_search_locations[0]) / '.mim/tools/train.py'
    run.execute([sys.executable, script, run.config(), '--work-dir', run.work_dir])


def _by_two_ranks(run: Run) -> None:
    assert run.case.supernet is not None
    script = run.tree.root / 'tools/dist_search.sh'
    checkpoint = run.inputs.checkpoint(run.case.supernet)
    run.execute(['bash', script, run.config(), checkpoint, '2', '--work-dir', run.work_dir])


def _killed(run: Run) -> None:
    command = run.search()
    run.tree.run_until(command, run.folder, run.log, lambda: run.rows() >= ROWS_BEFORE_KILL)
    left = run.rows()
    run.execute(command)
    if run.rows() <= left:
        raise RunError(f'{run.tree.name}: the search had all {left} rows already when it was killed')


def _measured(run: Run) -> None:
    pace = ['--device', 'cpu', '--threads', str(run.tree.threads), '--rounds', '2']
    front = run.tree.root / 'tools/front.py'
    if front.is_file():
        run.execute([sys.executable, front, *run.arguments(), *pace])
    else:
        run.execute(run.search('--measure', *pace))


#: Ways to start a search.
STARTS: dict[str, Callable[[Run], None]] = dict(
    search=_by_search, train=_by_train, mmdet=_by_mmdet, ranks=_by_two_ranks, killed=_killed, measure=_measured
)
