"""Common checks of the conformance suites."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def check_json(name: str, value: Any) -> None:
    """Checks that a value is a dict that survives JSON, as ledgers require."""
    assert isinstance(value, dict), f'{name} must be a dict; got {value!r}.'
    try:
        again = json.loads(json.dumps(value))
    except TypeError as error:
        raise AssertionError(f'{name} is not JSON-ready ({error}): {value!r}.') from error
    assert again == value, f'{name} does not survive JSON (tuples, numpy numbers?): {value!r}.'


def check_light_import(thing: Any) -> None:
    """Checks that the module of an object's class can be imported alone and does not load torch."""
    module = type(thing).__module__
    if module == '__main__':
        return
    code = f'import sys, {module}; sys.exit("torch" in sys.modules)'
    path = repr([p for p in sys.path if p])
    done = subprocess.run(
        [sys.executable, '-c', f'import sys; sys.path[:] = {path}\n{code}'], capture_output=True, text=True
    )
    assert done.returncode == 0, (
        f'importing {module} must work alone and must not load torch, so that ledgers and reports open fast; '
        f'{done.stderr.strip() or "torch was loaded."}'
    )


def check_repeatable(name: str, call: Callable[[np.random.Generator], Any], seed: int) -> None:
    """Checks that a call draws random numbers only from the generator that it is given."""
    states = random.getstate(), np.random.get_state()
    try:
        results = []
        for world in (1, 2):
            random.seed(world)
            np.random.seed(world)
            rng = np.random.default_rng([seed, 3])
            before = global_states()
            results.append((call(rng), rng.random()))
            assert global_states() == before, f'{name} draws from a global generator; use the one it is given.'
        assert results[0] == results[1], f'{name} gave {results[0]} and then {results[1]} for equal generators.'
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def global_states() -> tuple[Any, ...]:
    """Returns the states of the global generators of Python, numpy and torch (if loaded), in comparable form."""
    torch: Any = sys.modules.get('torch')
    drawn = None if torch is None else torch.random.get_rng_state().numpy().tobytes()
    return random.getstate(), repr(np.random.get_state(legacy=False)), drawn
