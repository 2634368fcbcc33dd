"""Terminal output of the tools: hides reports of the libraries while a job is set up, and breaks long silences.

mmengine, mmdet and mmpretrain report hundreds of lines before a training begins: environment, config, hooks, parameter
groups. Here they go to the log file alone, up to the first iteration. Warnings, errors, and all that this package or
the user's own code logs or prints stay on the terminal. The tools of this package turn it on (:func:`managed`, by
:func:`detnas_mm.cli.one_line_errors`); under another train script nothing changes. ``--verbose``, or
``DETNAS_VERBOSE=1``, shows everything.

While nothing is printed, a line names the current work every 25 seconds (:func:`doing`). While a bar is open, it is
redrawn as often, and the line is printed every 5 minutes.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

#: The environment variable that shows everything on the terminal.
VERBOSE = 'DETNAS_VERBOSE'
#: Seconds of silence after which a line is printed.
EVERY = 25.0
#: The same while a bar is open, which is redrawn every 25 seconds.
EVERY_WITH_BAR = 300.0
#: Packages whose reports go to the log file.
LIBRARIES = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'pycocotools')
#: Reports of these packages that are shown all the same.
_SHOWN = ('Load checkpoint from', 'resumed epoch')

#: Where launchers write the number of this process.
_RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')

_current: Terminal | None = None
_doing: list[tuple[str | Callable[[], str], float]] = []


class Terminal:
    """Decides what is shown, and keeps the rest for the log file.

    Args:
        beat: Receives the lines that break a silence.
        named_only: Whether a silence lasts while nothing is named by :func:`doing`: this process then has no work, and
            others write to the same terminal.

    Attributes:
        setting_up: Whether no iteration has begun yet.
    """

    def __init__(self, beat: Callable[[str], None], named_only: bool = False) -> None:
        self.setting_up = True
        self._beat, self._named_only = beat, named_only
        self._files: list[logging.Handler] | None = None
        self._held: list[logging.LogRecord] = []
        self._last = self._begun = time.monotonic()
        self._said = -math.inf  # when the last line broke a silence
        self._over = threading.Event()

    # -- what is shown ------------------------------------------------------------------------------------------

    def hides(self, frame: FrameType | None) -> bool:
        """Returns whether the output of a frame goes to the log file alone."""
        if not self.setting_up or os.environ.get(VERBOSE, '0') not in ('', '0'):
            return False
        return frame is not None and frame.f_globals.get('__name__', '').partition('.')[0] in LIBRARIES

    def follow(self, logger: Any) -> None:
        """Hides reports from the console of a logger; the first log file gets what was hidden before, and is named.

        Args:
            logger: An mmengine ``MMLogger``.
        """
        files: list[logging.Handler] = [one for one in logger.handlers if isinstance(one, logging.FileHandler)]
        for handler in logger.handlers:
            if handler not in files and not any(isinstance(one, _Reports) for one in handler.filters):
                handler.addFilter(_Reports(self, keep=not files))
        if self._files is None and files:
            self._files = files
            for record in self._held:
                self.keep(record)
            logger.info(f'Log, with what mmengine and mmdet report at the start: {logger.log_file}')

    def keep(self, record: logging.LogRecord) -> None:
        """Writes a hidden record into the log file, or holds it until there is one."""
        if self._files is None:
            self._held.append(record)
        for file in self._files or ():
            file.handle(record)

    # -- silence ------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Notes that something was shown."""
        self._last = time.monotonic()

    def start(self) -> None:
        """Starts the thread that watches for silence."""
        threading.Thread(target=self._watch, daemon=True, name='silence').start()

    def stop(self) -> None:
        """Stops watching; from here on nothing is hidden."""
        self.setting_up = False
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(max(self._last + EVERY - time.monotonic(), 0.01)):
            now = time.monotonic()
            if now - self._last < EVERY:
                continue
            self.touch()
            if any(os.environ.get(name, '0') != '0' for name in _RANKS) or (self._named_only and not _doing):
                continue
            bars = open_bars()
            if bars and now - self._said < EVERY_WITH_BAR:
                for bar in bars:
                    bar.refresh()
                continue
            self._said = now
            with bars[0].external_write_mode(file=sys.stderr) if bars else nullcontext():
                self._beat(self.line(now))

    def line(self, now: float) -> str:
        """Returns the line that breaks a silence: the current work, and how long it has taken."""
        unnamed = 'loading libraries and config' if self.setting_up else 'working'
        what, since = _doing[-1] if _doing else (unnamed, self._begun)
        minutes, seconds = divmod(int(now - since), 60)
        return f'… {what() if callable(what) else what} ({minutes}:{seconds:02d} so far)'


class _Reports(logging.Filter):
    """Passes warnings, errors, and what is no report of a library to the console."""

    def __init__(self, terminal: Terminal, keep: bool) -> None:
        super().__init__()
        self.terminal, self.keep = terminal, keep

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING or record.getMessage().startswith(_SHOWN):
            return True
        if not self.terminal.hides(_caller(sys._getframe(1))):
            return True
        if self.keep:
            self.terminal.keep(record)
        return False


def _caller(frame: FrameType | None) -> FrameType | None:
    """Returns the innermost frame outside of logging."""
    while frame is not None and f'{frame.f_globals.get("__name__", "")}.'.startswith(('logging.', 'mmengine.logging.')):
        frame = frame.f_back
    return frame


class _Stream:
    """Replaces a standard stream: notes when something is shown, hides printed reports, and keeps bars whole.

    Args:
        stream: The stream that it replaces.
        terminal: Decides what is shown.
        reports: Whether libraries print reports to it.
    """

    def __init__(self, stream: Any, terminal: Terminal, reports: bool) -> None:
        self._stream, self._terminal, self._reports = stream, terminal, reports
        self._pid = os.getpid()
        self._part = ''  # of a line, while a bar is open

    def write(self, text: str) -> int:
        if os.getpid() != self._pid:  # a forked worker has no bars, and may not wait for their lock
            return self._stream.write(text)
        frame = sys._getframe(1)
        if self._reports and self._terminal.hides(frame):
            package, where = frame.f_globals['__name__'].partition('.')[0], (frame.f_code.co_filename, frame.f_lineno)
            for line in filter(None, map(str.rstrip, text.splitlines())):
                self._terminal.keep(logging.LogRecord(package, logging.INFO, *where, line, None, None))
            return len(text)
        self._terminal.touch()
        if not self._reports:
            return self._stream.write(text)
        shown, self._part = self._part + text, ''
        bars = open_bars()
        if bars:
            shown, newline, self._part = shown.rpartition('\n')
            shown += newline
        if shown:
            with bars[0].external_write_mode(file=self) if bars else nullcontext():
                self._stream.write(shown)
        return len(text)

    def flush(self) -> None:
        if self._part and not open_bars():
            part, self._part = self._part, ''
            self._stream.write(part)
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_bars() -> list[Any]:
    """Returns the open bars of tqdm."""
    module = sys.modules.get('tqdm')
    if module is None or not getattr(module.tqdm, '_instances', None):
        return []
    with module.tqdm.get_lock():
        return [bar for bar in module.tqdm._instances if not bar.disable]


# -- for the rest of the package --------------------------------------------------------------------------------------


@contextmanager
def managed() -> Iterator[None]:
    """Manages stdout and stderr of this process while it is entered; within another one nothing changes."""
    global _current
    if _current is not None:
        yield
        return
    out, err = sys.stdout, sys.stderr
    _current = Terminal(lambda line: print(line, file=err, flush=True))
    sys.stdout, sys.stderr = _Stream(out, _current, True), _Stream(err, _current, False)
    _current.start()
    try:
        yield
    finally:
        _current.stop()
        _current = None
        sys.stdout, sys.stderr = out, err


@contextmanager
def doing(what: str | Callable[[], str]) -> Iterator[None]:
    """Names the current work for the lines that break silences.

    Args:
        what: Text such as ``'reading annotations'``; a function is called when a line is printed.
    """
    entry = (what, time.monotonic())
    _doing.append(entry)
    try:
        yield
    finally:
        _doing.remove(entry)  # generators may end in another order


def follow(logger: Any) -> None:
    """Calls :meth:`Terminal.follow`, if a tool of this package manages the terminal."""
    if _current is not None:
        _current.follow(logger)


def begun() -> None:
    """Notes that the first iteration is done: from here on everything is shown."""
    if _current is not None:
        _current.setting_up = False
