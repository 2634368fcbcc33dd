"""What is raised where a user's input cannot be used."""

from __future__ import annotations


class DetNASError(ValueError):
    """An expected error: the message alone says what is wrong, what is allowed and what to do.

    The tools print it as one line. Every other error is a fault of the program and keeps its traceback.
    """
