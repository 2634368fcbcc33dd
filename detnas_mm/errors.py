"""Errors for inputs of users that cannot be used."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Libraries that read user input; other code outside the standard library is this package or user code.
_LIBRARIES = frozenset(
    {
        'PIL', 'addict', 'cv2', 'faster_coco_eval', 'hotcoco', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'numpy',
        'pycocotools', 'scipy', 'torch', 'torchvision', 'yaml', 'yapf',
    }
)  # fmt: skip
#: Modules of this package on the call stack of any training by mmengine.
_ON_THE_WAY = ('detnas_mm.errors', 'detnas_mm.registry', 'detnas_mm.engine.runner')
_LONGEST = 500


class DetNASError(ValueError):
    """An expected error: the message alone gives the fault, what is allowed and what to do.

    The tools print it as one line. Any other error is a bug and keeps its traceback.
    """


class MissingFileError(FileNotFoundError, DetNASError):
    """A file that the user named, or should have made, does not exist."""


class LibraryError(DetNASError):
    """An error that a library, or a class named in the config, raised for an input.

    The message begins with the name of the input; ``__cause__`` is the original error, whose traceback the tools write
    to a file.
    """


@contextmanager
def library_errors(what: str, alone: bool = False) -> Iterator[None]:
    """Converts errors of libraries into a :class:`LibraryError` of one line.

    For calls that pass a user's input to a library. Errors of this package and of user code keep their traceback, see
    :func:`from_library`. Running out of device memory counts as an expected error.

    Args:
        what: Name of the input: a file, or the key of a config.
        alone: Whether the error must have passed through libraries only. For whole trainings and tests, where this
            package and user code call libraries, too, and may call them wrongly.
    """
    try:
        yield
    except Exception as error:
        text = _of_worker(error)
        if isinstance(error, DetNASError):
            if not text:
                raise
            raise type(error)(text.rpartition(f'{type(error).__name__}: ')[2].strip()) from error
        if not from_library(error, alone) and type(error).__name__ != 'OutOfMemoryError':
            raise
        raise LibraryError(f'{what}: {said(error)}') from error


def from_library(error: BaseException, alone: bool = False) -> bool:
    """Returns True if an error is of a library or a config's code: decided by the innermost frame outside of Python's.

    Args:
        error: The error.
        alone: See :func:`library_errors`.
    """
    modules = [name for name in _modules(error) if name.partition('.')[0] not in sys.stdlib_module_names]
    libraries = [not name or name.partition('.')[0] in _LIBRARIES for name in modules]
    if not alone or libraries[:1] != [True]:
        return libraries[:1] == [True]
    before = error.__cause__ or error.__context__  # mmengine re-raises errors of hooks
    if before is not None and not from_library(before, alone):
        return False
    return all(library or name in _ON_THE_WAY for name, library in zip(modules, libraries, strict=True))


def is_bug(error: BaseException) -> bool:
    """Returns whether this package's own code raised an error that it does not raise on purpose.

    The innermost frame outside Python's standard library decides, see :func:`from_library`.
    """
    modules = (name for name in _modules(error) if name.partition('.')[0] not in sys.stdlib_module_names)
    return not isinstance(error, DetNASError) and next(modules, '').partition('.')[0] == __name__.partition('.')[0]


def _modules(error: BaseException) -> Iterator[str]:
    """Yields the modules of an error's traceback, innermost first; '' for code of a config."""
    text = _of_worker(error)
    if text:
        names = {getattr(module, '__file__', None): name for name, module in list(sys.modules.items())}
        for line in reversed(text.splitlines()):
            if line.startswith('  File "'):
                yield names.get(line.split('"')[1], '?')
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        yield frame.f_globals.get('__name__') or ''


def _of_worker(error: BaseException) -> str:
    """Returns the text, with traceback, of an error that torch re-raised from a loader's worker; else ''."""
    text = str(error.args[0]) if error.args else ''
    return text if text.startswith('Caught ') and 'Original Traceback' in text else ''


def said(error: BaseException) -> str:
    """Returns type and message of an error in one line; if it has no message, the line of code that raised it."""
    if _of_worker(error):
        return str(error.args[0]).rstrip().splitlines()[-1]
    while isinstance(error, ImportError) and isinstance(error.__context__, ImportError):
        error = error.__context__  # mmengine's own message is the whole sys.path
    kind = type(error).__name__ if type(error).__name__ != 'error' else f'{type(error).__module__}.error'
    text = ' '.join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = text or f'{last.line} ({Path(last.filename).name}, line {last.lineno})'
    for frame, line in traceback.walk_tb(error.__traceback__):
        if '__name__' not in frame.f_globals:
            kind = f'{frame.f_code.co_filename}, line {line}: {type(error).__name__}'
    return f'{kind}: {text}' if len(text) <= _LONGEST else f'{kind}: {text[:_LONGEST]} …'


def library_cause(error: BaseException | None) -> BaseException | None:
    """Returns the library's error from which an expected error was made; None if there is none."""
    while error is not None and not _of_worker(error):
        cause = error.__cause__
        if isinstance(error, LibraryError):
            return cause
        if not isinstance(error, (DetNASError, SystemExit)) and from_library(error):
            break
        error = cause
    return error


@contextmanager
def expected_errors() -> Iterator[None]:
    """Converts a ValueError into a :class:`DetNASError` with the same message.

    For calls of code that the user chose, where a ValueError means that the input is wrong: constructors, and methods
    that read or check user input. Can be used as a decorator, too.
    """
    try:
        yield
    except DetNASError:
        raise
    except ValueError as error:
        raise DetNASError(str(error) or repr(error)) from error


#: Methods of this package's interfaces that read or check user input.
_CHECKS = ('parse', 'configure', 'check', 'setup', 'observe', 'confirm')


class ChecksInput:
    """Base class of interfaces that user code may implement.

    In subclasses a ValueError from ``parse``, ``configure``, ``check``, ``setup``, ``observe`` or ``confirm`` becomes
    an expected error, a :class:`DetNASError`.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in _CHECKS:
            if name in vars(cls):
                setattr(cls, name, expected_errors()(vars(cls)[name]))
