"""Reads the results of a search, and compares two of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

#: What is not compared, and why.
NOT_COMPARED = {
    'time, seconds, host, attempt': 'of a run, not of the search',
    'environment in the header': 'names the code, which is what differs',
    'specs in the header, schema': 'space, strategy, evaluator and budget are named otherwise with every schema',
    'place of images and partial in a row': 'racing\'s fields move within a row; their values are compared',
    'data, schedule and hooks of exported configs': 'they become those of the training config',
    'name of an exported config': '*_search_val.py is compared where it is there, as it holds the searched model',
    'init_cfg of an exported backbone with weights': 'the weights replace it, and it is taken out',
    'measured milliseconds': 'a new measurement of every run',
    'pictures, logs, search_config.py': 'made of what is compared',
}  # fmt: skip

_ROW = ('index', 'generation', 'id', 'arch', 'origin', 'parents', 'status', 'reason', 'metrics', 'costs')
_RACING = ('images', 'partial')
_EMPTY = dict(parents=[], reason=None, metrics={}, costs={})
_ENTRY = ('rank', 'id', 'arch', 'metrics', 'costs')
_MEASURED = ('id', 'arch', 'fitness', 'tested', 'costs')
_SEARCH_VAL = '_search_val'


def read_result(work_dir: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """Reads everything in a search's folder that is compared.

    Args:
        work_dir: The folder.
        places: Replacements of folders in texts, the longest first.

    Raises:
        FileNotFoundError: If the search left no ledger or no best.json.
        ValueError: If a file is invalid.
    """
    header, *lines = map(json.loads, (work_dir / 'ledger.jsonl').read_text().splitlines())
    return dict(
        seed=header.get('seed'),
        weights=header.get('weights'),
        ledger=[_line(line) for line in lines],
        best=[_chosen(entry, _ENTRY) for entry in json.loads((work_dir / 'best.json').read_text())],
        certificate=_certificate(work_dir / 'certificate.json'),
        measured=_nets(work_dir),
        exported=_exported(work_dir / 'best', places),
    )


def _chosen(found: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: found[key] for key in keys if key in found}


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the compared part of a row, or of a snapshot of a population."""
    if 'population' in line:
        population = [_row(row) for row in line['population']]
        return _chosen(line, ('generation', 'drawn', 'evaluated')) | dict(population=population)
    return _row(line)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return _chosen(_EMPTY | dict(row), _ROW) | {name: _anywhere(row, name) or None for name in _RACING}


def _anywhere(node: Any, name: str) -> Any:
    """Returns the value of a key at any depth."""
    if not isinstance(node, Mapping):
        return None
    return node[name] if name in node else next(filter(None, (_anywhere(child, name) for child in node.values())), None)


def _certificate(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    return {key: value for key, value in json.loads(path.read_text()).items() if key != 'seconds'}


def _nets(work_dir: Path) -> list[dict[str, Any]] | None:
    """Returns measured and tested values of exported nets, without milliseconds."""
    for name in ('measured.json', 'front.json'):
        if (work_dir / name).is_file():
            return [_chosen(net, _MEASURED) for net in json.loads((work_dir / name).read_text())['nets']]
    return None


def _exported(folder: Path, places: Mapping[str, str]) -> dict[str, Any]:
    """Returns model, preprocessing and weights of every exported net."""
    nets: dict[str, Any] = {}
    for plain in sorted(folder.glob('rank*.py')):
        if plain.stem.endswith(_SEARCH_VAL):
            continue
        searched = plain.with_name(plain.stem + _SEARCH_VAL + '.py')
        cfg = Config.fromfile(searched if searched.is_file() else plain, import_custom_modules=False).to_dict()
        net = {key: _plain(cfg.get(key), places) for key in ('model', 'data_preprocessor')}
        weights = plain.with_suffix('.pth')
        if weights.is_file():
            net['model']['backbone'].pop('init_cfg', None)
            found = torch.load(weights, map_location='cpu', weights_only=True)
            net['meta'] = _chosen(found['meta'], _ENTRY)
            net['tensors'] = dict(found['state_dict'])
        nets[plain.stem] = net
    return nets


def _plain(node: Any, places: Mapping[str, str]) -> Any:
    """Converts a part of a config to JSON types (lists for tuples), with folders replaced."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value, places) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value, places) for value in node]
    if isinstance(node, str):
        for folder, word in places.items():
            node = node.replace(folder, word)
    return node


def differences(base: Any, here: Any, where: str = '') -> Iterator[str]:
    """Yields the differences of two results with both values; the first is BASE's."""
    if isinstance(base, Mapping) and isinstance(here, Mapping):
        for key in [*base, *(key for key in here if key not in base)]:
            name = f'{where}.{key}' if str(key).isidentifier() and where else f'{where}[{key!r}]' if where else key
            if key in base and key in here:
                yield from differences(base[key], here[key], name)
            else:
                yield f'{name} is only in {"BASE" if key in base else "the other"}: {_text((base | here)[key])}'
    elif isinstance(base, list) and isinstance(here, list):
        for number, (one, other) in enumerate(zip(base, here, strict=False)):
            yield from differences(one, other, f'{where}[{number}]')
        if len(base) != len(here):
            yield f'{where} has {len(base)} entries in BASE, {len(here)} in the other'
    elif isinstance(base, torch.Tensor) and isinstance(here, torch.Tensor):
        yield from _tensor_differences(base, here, where)
    elif type(base) is not type(here) and not _numbers(base, here) or base != here:
        yield f'{where} is {_text(base)} in BASE, {_text(here)} in the other'


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _tensor_differences(base: torch.Tensor, here: torch.Tensor, where: str) -> Iterator[str]:
    kinds = [f'{tensor.dtype} of shape {tuple(tensor.shape)}' for tensor in (base, here)]
    if kinds[0] != kinds[1]:
        yield f'{where} is {kinds[0]} in BASE, {kinds[1]} in the other'
        return
    unequal = ((base != here) & ~((base != base) & (here != here))).flatten()  # NaN equals NaN
    if unequal.any():
        at = int(unequal.int().argmax())
        one, other = (tensor.flatten()[at].item() for tensor in (base, here))
        count = f'{int(unequal.sum())} of {base.numel()} values'
        yield f'{where} differs in {count}, the first is {one!r} in BASE, {other!r} in the other'


def _text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f'{text[:160]}…'


def summary(result: Mapping[str, Any]) -> str:
    """Summarises what was compared."""
    ledger = result['ledger']
    kind = 'snapshots' if ledger and 'population' in ledger[0] else 'rows'
    tensors = sum(len(net.get('tensors', ())) for net in result['exported'].values())
    parts = [f'{len(ledger)} {kind}', f'{len(result["exported"])} nets']
    parts += [f'{tensors} tensors'] if tensors else []
    parts += ['certificate'] if result['certificate'] else []
    parts += ['measured nets'] if result['measured'] else []
    return f'{", ".join(parts)}; best {next(iter(result["best"][0]["metrics"].values())):.6g}'
