#!/usr/bin/env python
"""Checks that searches give bit-identical results with this tree and with another commit; for refactorings.

Checks commit BASE out into a scratch folder (a git worktree, removed at the end); makes Digits, trains one small
supernet per detector and measures latency tables with BASE's code; then runs the same searches from both trees, only by
command lines, on this machine, with the same threads, checkpoints and tables. It compares rows in their order (id,
architecture, origin, parents, status, metrics, costs, racing's values), the best nets, certificates, tensors of
exported files, and model and preprocessing of exported configs. It prints a line per case: what was equal, or the
first difference with both values. The exit status is 1 if anything differs.

Everything runs on the CPU. Do not commit results: last bits depend on the processor. BASE's results are cached in the
work folder for the next run with the same BASE, cases, threads, torch and processor; logs and folders of all searches
are there, too.

Examples:
  python benchmarks/golden.py main               # all cases
  python benchmarks/golden.py main --cases evolution maedet-exact --jobs 2
  python benchmarks/golden.py --list             # lists the cases, and what is not compared
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import inspect
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import machine
from golden.cases import CASES, OPTIONS
from golden.compare import NOT_COMPARED, differences, read_result, summary
from golden.inputs import Inputs
from golden.run import Run
from golden.trees import RunError, Tree, Worktree, git, side_by_side

HERE = Path(__file__).resolve().parent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('base', nargs='?', help='commit to compare with, such as main or HEAD~3')
    parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES), metavar='NAME', help='default: all')
    parser.add_argument('--tree', type=Path, default=HERE.parent, help='the tree to compare; default: this one')
    parser.add_argument('--threads', type=int, default=1, help='threads per process [%(default)s]')
    parser.add_argument('--jobs', type=int, default=1, help='parallel cases; each needs a core [%(default)s]')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/golden'), help='[%(default)s]')
    parser.add_argument('--keep', action='store_true', help="keep BASE's worktree in the work folder")
    parser.add_argument('--list', action='store_true', help='list the cases and what is not compared')
    args = parser.parse_args()
    if args.base is None and not args.list:
        parser.error('give the commit to compare with, such as: python benchmarks/golden.py main')
    if min(args.threads, args.jobs) < 1:
        parser.error('--threads and --jobs must be at least 1')
    if not (args.tree / 'detnas_mm/__init__.py').is_file():
        parser.error(f'--tree {args.tree} is no checkout of this project: it has no detnas_mm/__init__.py')
    return args


def say(text: str) -> None:
    print(text, flush=True)


def listing() -> str:
    width = max(map(len, CASES))
    lines = ['cases:', *(f'  {name:{width}}  {case.about}' for name, case in CASES.items())]
    return '\n'.join([*lines, 'not compared:', *(f'  {what}: {why}' for what, why in NOT_COMPARED.items())])


def digest(*parts: object) -> str:
    """Returns a short hash of the parts; of files, their content is hashed."""
    texts = [part.read_text() if isinstance(part, Path) else repr(part) for part in parts]
    return hashlib.sha256('\0'.join(texts).encode()).hexdigest()[:8]


def key_of(commit: str, threads: int) -> str:
    """Returns the key of BASE's results: commit, command lines, inputs and machine."""
    started = inspect.getsource(Tree.environment)
    return f'{commit[:12]}-{digest(threads, version("torch"), machine()["cpu"], started, HERE / "golden/inputs.py")}'


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks the work folder.

    Raises:
        RunError: If another run has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f'another golden.py is running in {folder}; wait for it, or change --work-dir') from None
        yield


class Comparison:
    """Compares one tree with BASE, case by case.

    Args:
        folder: Folder of everything that belongs to this BASE.
        worktree: The worktree of BASE.
        args: The command-line arguments.
    """

    def __init__(self, folder: Path, worktree: Worktree, args: argparse.Namespace) -> None:
        self.folder = folder
        self.worktree = worktree
        self.args = args
        self.inputs = Inputs(folder / 'inputs', self.base, args.jobs, say)
        self.here = self._tree(args.tree.resolve(), 'the tree')
        self.here.check(folder)
        self._base: Tree | None = None
        self._lock = threading.Lock()

    def _tree(self, root: Path, name: str) -> Tree:
        return Tree(root, name, self.args.threads, self.folder / 'inputs/digits')

    def base(self) -> Tree:
        """Returns BASE's tree; checks it out at the first call."""
        with self._lock:
            if self._base is None:
                self._base = self._tree(self.worktree.get(), 'BASE')
                self._base.check(self.folder)
        return self._base

    def prepare(self) -> None:
        """Makes the inputs of the cases with BASE's code."""
        self.inputs.prepare({need for name in self.args.cases for need in CASES[name].all_needs})

    def compare(self, name: str) -> bool:
        """Runs a case in both trees and prints one line of result; returns True if all was equal."""
        try:
            verdict, equal = self._verdict(name)
        except (RunError, OSError, ValueError, KeyError) as error:
            verdict, equal = f'FAILS: {error}', False
        say(f'{name:{max(map(len, CASES))}}  {verdict}')
        return equal

    def _verdict(self, name: str) -> tuple[str, bool]:
        kept = self._run_base(name)
        base = self._result('base', name, self.worktree.folder)
        nothing = CASES[name].shows(base)
        if nothing:
            return f'FAILS: the result of BASE does not exercise the case: {nothing}', False
        seconds = self._run('here', name, self.here)
        found = list(differences(base, self._result('here', name, self.here.root)))
        if found:
            return f'DIFFERS: {found[0]}' + (f' (and {len(found) - 1} more)' if found[1:] else ''), False
        return f'equal: {summary(base)} (BASE {kept}, the tree {seconds:.0f} s)', True

    def _run_base(self, name: str) -> str:
        """Runs a case in BASE, unless its result is cached."""
        stamp = self.folder / 'base' / f'{name}.made'
        now = digest(CASES[name], OPTIONS, HERE / 'golden/run.py')
        if stamp.exists() and stamp.read_text() == now:
            return 'kept'
        stamp.unlink(missing_ok=True)
        seconds = self._run('base', name, self.base())
        stamp.write_text(now)
        return f'{seconds:.0f} s'

    def _run(self, side: str, name: str, tree: Tree) -> float:
        return Run(CASES[name], tree, self.inputs, self.folder / side / name).run()

    def _result(self, side: str, name: str, root: Path) -> dict[str, Any]:
        folder = self.folder / side / name
        places = {str(folder): 'RUN', str(self.inputs.folder): 'INPUTS', str(root): 'TREE'}
        return read_result(folder / 'search', places)


def compare_all(args: argparse.Namespace) -> bool:
    """Compares all cases; returns True if all were equal."""
    commit = git(HERE, 'rev-parse', '--verify', f'{args.base}^{{commit}}')
    with locked(args.work_dir):
        folder = args.work_dir.resolve() / key_of(commit, args.threads)
        folder.mkdir(exist_ok=True)
        say(f'BASE is {commit[:12]}, the tree is {args.tree.resolve()}; logs and results: {folder}')
        with Worktree(HERE, commit, folder / 'tree', args.keep) as worktree:
            comparison = Comparison(folder, worktree, args)
            comparison.prepare()
            equal = side_by_side(args.jobs, comparison.compare, args.cases)
    say(f'{sum(equal)} of {len(equal)} cases are equal.')
    return all(equal)


def main() -> None:
    args = parse_args()
    if args.list:
        say(listing())
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # kills running programs and removes the worktree
    try:
        equal = compare_all(args)
    except RunError as error:
        raise SystemExit(f'error: {error}') from error
    except KeyboardInterrupt:
        print("\nstopped; BASE's results so far are kept", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if equal else 1)


if __name__ == '__main__':
    main()
