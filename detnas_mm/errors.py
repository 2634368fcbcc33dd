"""What is raised where a user's input cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DetNASError(ValueError):
    """An expected error: the message alone says what is wrong, what is allowed and what to do.

    The tools print it as one line. Every other error is a fault of the program and keeps its traceback.
    """


class MissingFileError(FileNotFoundError, DetNASError):
    """A file that the user named, or should have made, is not there."""


@contextmanager
def expected_errors() -> Iterator[None]:
    """Turns a ValueError into a :class:`DetNASError` of the same message.

    For calls of code that the user chose, where a ValueError means that the input is refused: constructors, and methods
    that read or check what users write. Serves as a decorator, too.
    """
    try:
        yield
    except DetNASError:
        raise
    except ValueError as error:
        raise DetNASError(str(error) or repr(error)) from error


#: Methods of our interfaces that read or check what users write.
_CHECKS = ('parse', 'configure', 'check', 'setup', 'observe')


class ChecksInput:
    """A base of interfaces that are implemented elsewhere, too.

    In each subclass a ValueError from ``parse``, ``configure``, ``check``, ``setup`` or ``observe`` is an expected
    error: it comes out of the method as a :class:`DetNASError`.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for name in _CHECKS:
            if name in vars(cls):
                setattr(cls, name, expected_errors()(vars(cls)[name]))
