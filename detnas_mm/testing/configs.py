"""Checks what a space's ``configure`` returns; part of the conformance suite for search spaces."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detnas_mm.spaces import Architecture, SearchSpace

#: Number of architectures that are configured, and that are built.
CONFIGURED, BUILT = 8, 2
#: Side of the image on which built nets run.
_SIDE = 128


def check_configure(space: SearchSpace, archs: Sequence[Architecture], cfg: Mapping[str, Any] | None) -> None:
    """Checks ``configure`` for some architectures; see :func:`~detnas_mm.testing.check_search_space`.

    Args:
        space: The space.
        archs: Members of it.
        cfg: A config that has a model, or None.
    """
    given = _plain_dicts(cfg or {})
    before = copy.deepcopy(given)
    some = list(dict.fromkeys(archs))[:CONFIGURED]
    try:
        found: list[tuple[Architecture, Any]] = [(arch, space.configure(given, arch)) for arch in some]
    except Exception as error:
        if cfg is None and isinstance(error, ValueError):
            return  # refuses a config without a model
        asked = 'a member' if cfg is not None else 'an empty config; give the config of your search as cfg'
        raise AssertionError(f'configure raised {error!r} for {asked}.') from error
    assert given == before, 'configure changed the config that it was given; it must return a copy.'
    if all(out is None for _, out in found):
        return
    texts: dict[str, str] = {}
    for arch, out in found:
        name = space.describe(arch)
        _check_config(name, out, given)
        again = space.configure(given, space.parse(name))
        assert again == out, f'configure gave {out!r:.300} and then {again!r:.300} for {name}.'
        shared = {id(part) for _, part in _containers(given)} | {id(part) for _, part in _containers(again)}
        for place, part in _containers(out):
            assert id(part) not in shared, f'{place} of the config of {name} is shared with another config; copy it.'
        # Without a given config there are no pipelines, in which whole detectors may differ.
        if cfg is not None or list(out['model']) == ['backbone']:
            other = texts.setdefault(repr(out), name)
            assert other == name, f'{other} and {name} have the same config, so one net would be evaluated twice.'
    _check_refusal(space, given)
    if cfg is not None:
        space.check(given)
        for arch, out in found[:BUILT]:
            _check_net(space, space.describe(arch), out)


def _plain_dicts(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as nested dicts, a copy."""
    if not hasattr(cfg, 'to_dict'):
        return copy.deepcopy(dict(cfg))
    from detnas_mm.config_types import as_text

    return as_text(cfg).to_dict()


def _containers(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yields all dicts and lists below a node, with their places."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in pairs:
        where = f'{place}.{key}' if place else str(key)
        if isinstance(value, (dict, list)):
            yield where, value
        yield from _containers(value, where)


def _check_config(name: str, out: Any, given: Mapping[str, Any]) -> None:
    assert isinstance(out, dict) and isinstance(out.get('model'), dict), (
        f'configure gave {out!r:.300} for {name}; a dict with a model is needed (None for all, if nets have no config).'
    )
    lost = [key for key in given if key != 'model' and key not in out]
    assert not lost or not given.get('model'), f'configure dropped {lost[0]!r} for {name}; it must keep the config.'
    for place, value in _leaves(out):
        plain = value is None or type(value) in (bool, int, float, str) or isinstance(value, type)
        assert plain, f'configure gave {value!r} ({type(value).__name__}) at {place} for {name}; it must be plain.'


def _leaves(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(node, (dict, list, tuple)):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(value, f'{place}.{key}' if place else str(key))
    else:
        yield place, node


def _check_refusal(space: SearchSpace, given: Mapping[str, Any]) -> None:
    try:
        space.configure(given, Architecture(('no such choice',)))
    except ValueError:
        return
    except Exception as error:
        raise AssertionError(f'configure must raise a ValueError for non-members; it raised {error!r}.') from error
    raise AssertionError('configure must raise a ValueError for architectures that are no members; it returned.')


def _check_net(space: SearchSpace, name: str, out: Mapping[str, Any]) -> None:
    """Writes the config of a net, builds its model, and runs backbone and neck on one image."""
    import torch
    from mmengine.config import Config

    from detnas_mm.config_types import as_text, config_text
    from detnas_mm.models import build_model

    step = 'written as a file'
    try:
        cfg = as_text(Config({key: value for key, value in out.items() if key != 'search'}))
        config_text(cfg)
        step = 'built'
        model = build_model(cfg).eval()
        step = 'run: backbone and neck'
        with torch.no_grad():
            model.extract_feat(torch.zeros(1, space.in_channels or 3, _SIDE, _SIDE))
    except Exception as error:
        raise AssertionError(f'The config of {name} cannot be {step} ({type(error).__name__}: {error}).') from error
