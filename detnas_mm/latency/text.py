"""Formats measurements as text. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detnas_mm.latency.device import device_text
from detnas_mm.search import counted, number_text

#: Relative spread between rounds, or difference between measurements, above which a machine counts as busy.
UNSTEADY = 0.1
BUSY = 'The machine was busy or changed its speed: ranks are more reliable than milliseconds. Measure again when idle.'
OFF = 'The speed of the machine has not changed: the tables do not fit such nets. Use a finer --grid or more --rounds.'
LOADED = (
    'Predicted latencies are those of untrained nets with fully loaded post-processing (score threshold 0); exported '
    'nets keep fewer boxes.'
)


def table_text(found: Mapping[str, Any], table: str) -> str:
    """Formats a measured table.

    Args:
        found: Content of the file.
        table: Key of the table.
    """
    cells, spreads = (np.array(list(_numbers(found[key]))) for key in (table, 'iqr_ms'))
    constant = ', '.join(f'{name} {ms:.3f}' for name, ms in found['constant_parts_ms'].items())
    check = found['check']
    low, high = check['measured_range_ms']
    height, width = found['input_size']

    def shown(value: float | None) -> str:
        return 'undefined' if value is None else f'{value:.3f}'

    lines = [
        f'{found["part"]} ({found["model"]}), one image of {height}x{width} ({found["images"]}), '
        f'{device_text(found["device"])}; {found["clock"]}, {found["pace"]["rounds"]} rounds',
        f'  constant {found["constant_ms"]:.3f} ms: {constant}',
        f'  {len(cells)} cells of {cells.min():.3f} to {cells.max():.3f} ms; spread between rounds (IQR): median '
        f'{np.median(spreads[cells > 0] / cells[cells > 0]):.1%} of a cell, at most {spreads.max():.3f} ms',
        f'  sums vs {check["nets"]} measured whole nets of {low:.3f} to {high:.3f} ms (spread between rounds '
        f'{check["iqr_percent"]:.1f} %):',
        f'    mean absolute error {check["mean_absolute_error_percent"]:.2f} %, bias {check["bias_percent"]:+.2f} %, '
        f'after all cells were scaled by {found["factor"]:.3f}, the median ratio of measured to predicted latency',
        f'    rank correlation: Spearman {shown(check["spearman"])}, Kendall {shown(check["kendall"])}; of two halves '
        f'of the rounds: Kendall {shown(check["kendall_of_two_halves"])}',
    ] + [BUSY] * (check['iqr_percent'] > 100 * UNSTEADY)
    for name, ms in found['references_ms'].items():
        lines.append(
            f'  {name}: {ms:.3f} ms. To search at its latency: constraints=[dict(cost=…, high={ms:.6g})], or '
            f'relative_to={name!r} in the cost and high=1.0'
        )
    return '\n'.join(lines)


def _numbers(node: Any) -> Iterator[float]:
    """Yields all numbers in nested dicts and lists."""
    if isinstance(node, (Mapping, list)):
        for part in node.values() if isinstance(node, Mapping) else node:
            yield from _numbers(part)
    else:
        yield node


def size_text(found: Mapping[str, Any]) -> str:
    """Returns the size at which nets were measured, such as ``'of 480x640'``."""
    size = found['input_size']
    return 'of the input size of each net' if size is None else f'of {size[0]}x{size[1]}'


def predictions_text(check: Mapping[str, Any], kept_pace: bool | None = False) -> list[str]:
    """Formats how well the latencies of found nets were predicted.

    Args:
        check: See :func:`~detnas_mm.latency.measure.compared`.
        kept_pace: Whether the reference nets take as long as when the tables were measured, so that the machine is not
            the cause of differences. None if nets were measured untrained: post-processing is the main cause then.
    """
    off = LOADED if kept_pace is None else OFF if kept_pace else BUSY
    kendall = '' if check['kendall'] is None else f'; rank correlation: Kendall {check["kendall"]:.2f}'
    return [
        f'predicted vs measured latency: mean absolute error {check["mean_absolute_error_percent"]:.1f} % (bias '
        f'{check["bias_percent"]:+.1f} %), {check["error_after_factor_percent"]:.1f} % after scaling by '
        f'{check["factor"]:.2f}{kendall}'
    ] + [off] * (abs(check['factor'] - 1) > UNSTEADY)


def session_text(nets: Sequence[Mapping[str, Any]], session: Mapping[str, Any]) -> str:
    """Formats a session of measuring whole nets.

    Args:
        nets: Its nets in the file.
        session: Its entry in the file.
    """
    times = [net['ms'] for net in nets]
    shares = [net['iqr_ms'] / net['ms'] for net in nets]
    lines = [
        f'Latency of {counted(len(nets), "net")} before training: {min(times):.3f} to {max(times):.3f} ms; median '
        f'spread between rounds (IQR): {np.median(shares):.1%}'
    ]
    if session['references']:
        lines[0] += (
            f'; divided by {1 / session["ratio"]:.3f}, the slowdown of the reference nets since the first session '
            f'(they differ by {session["unlike"]:.1%})'
        )
    lines += [f'  {net["arch"]} finds no boxes, so its latency is without NMS.' for net in nets if not net['boxes']]
    unsteady = max(np.median(shares), session['unlike'], abs(session['ratio'] - 1))
    return '\n'.join(lines + [f'  {BUSY}'] * bool(unsteady > UNSTEADY))


def found_text(found: Mapping[str, Any]) -> str:
    """Formats found nets as a table, with predicted and measured latencies.

    Args:
        found: Content of ``measured.json``.
    """
    metric, nets = found['objectives'][0]['name'], found['nets']
    predicted = found['predictions'] is not None
    columns: list[tuple[str, int, Any]] = [('fitness', 10, lambda net: _shown(net['fitness'], metric, '.4f'))]
    for key, head in (('tested', 'tested'), ('test_set', 'test set')):
        if any(key in net for net in nets):
            columns.append((head, 10, lambda net, key=key: _shown(net.get(key, {}), metric, '.3f')))
    times = {'predicted': 'predicted_ms', 'measured': 'measured_ms', 'spread': 'iqr_ms'}
    for head in list(times)[0 if predicted else 1 :]:
        columns.append((head, 10, lambda net, key=times[head]: f'{net[key]:.3f}'))
    if found['input_size'] is None:
        columns.append(('input', 10, lambda net: 'x'.join(map(str, net['input_size']))))
    for name in [name for name, value in nets[0]['costs'].items() if nets[0]['as_measured'][name] == value]:
        columns.append((name, 14, lambda net, name=name: number_text(net['costs'][name])))
    lines = [
        f'{metric}; latency in ms of the {found["part"]}, one image {size_text(found)} ({found["images"]}), '
        f'{device_text(found["device"])}',
        f'{"net":14}' + ''.join(f'{head:>{width}}' for head, width, _ in columns) + '  architecture',
    ]
    for net in nets:
        lines.append(f'{net["id"]:14}' + ''.join(f'{text(net):>{w}}' for _, w, text in columns) + f'  {net["arch"]}')
        broken = ', '.join(f'{name} {number_text(net["as_measured"][name])}' for name in net['breaks'])
        if broken:
            lines.append(f'{"":14}violates {" and ".join(net["breaks"].values())} (measured): {broken}')
        if net['beaten']:
            lines.append(f'{"":14}dominated (measured)')
        if found.get('untrained') and 'checkpoint' not in net:
            lines.append(f'{"":14}no weights: measured as before training, with fully loaded post-processing')
    if not predicted:
        return '\n'.join(lines)
    if found.get('untrained'):
        return '\n'.join([*lines, *predictions_text(found['predictions'], None)])
    tables, now = found['references_ms']['tables'], found['references_ms']['now']
    for name, ms in now.items():
        before = f'{tables[name]:10.3f}' if name in tables else f'{"–":>10}'
        lines.append(f'{name:26}{before}{ms:10.3f}  (when the tables were measured, and now)')
    kept_pace = bool(now) and found['predictions']['iqr_percent'] <= 100 * UNSTEADY
    kept_pace &= all(name in tables and abs(ms / tables[name] - 1) <= UNSTEADY for name, ms in now.items())
    return '\n'.join(lines + predictions_text(found['predictions'], kept_pace))


def _shown(values: Mapping[str, float], name: str, digits: str) -> str:
    return format(values[name], digits) if name in values else '–'
