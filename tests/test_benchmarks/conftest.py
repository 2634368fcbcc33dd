"""Imports benchmarks, which are scripts in a folder that is not a package, as modules."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture(scope='session')
def load():
    """Imports a benchmark by name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
