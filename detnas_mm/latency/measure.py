"""Measures the latency table of a space, and whole nets. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from detnas_mm.latency.inputs import Run, load_backbone
from detnas_mm.latency.stopwatch import Stopwatch, TimedRun
from detnas_mm.latency.subject import LatencySubject
from detnas_mm.latency.timing import Pace, interleaved, spread, steadied


def measure_table(
    subject: LatencySubject,
    watch: Stopwatch,
    pace: Pace,
    nets: int = 30,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measures the table of a space, whole nets to validate its sums, and reference nets, in interleaved order.

    Args:
        subject: The nets of the table and how the table is computed.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: Number of rounds and their length.
        nets: Number of whole nets that validate the sums.
        progress: Wraps an iterable, such as a progress bar does.

    Returns:
        The subject's settings and its table, ``iqr_ms`` (the spreads of the table), ``constant_ms`` and its parts,
        ``factor``, see :func:`common_factor`, that all of these were multiplied by, ``references_ms``,
        ``other_work_bytes`` (read before each run) and ``check``, see :func:`compared`; JSON-ready. Medians are over
        corrected rounds (:func:`~detnas_mm.latency.timing.steadied`), spreads over uncorrected ones.
    """
    rng = np.random.default_rng(pace.seed)
    archs = subject.nets_to_check(nets, rng)
    runs: dict[Any, tuple[Run, Sequence[nn.Module]]] = {}
    runs |= {('table', key): run for key, run in subject.table_nets(rng).items()}
    runs |= {('net', subject.space.describe(arch)): (subject.net(arch), ()) for arch in archs}
    for name, settings in subject.reference_backbones(subject.inputs.channels).items():
        runs['reference', name] = load_backbone(settings, subject.inputs), ()
    before = other_work(subject.other_work, subject.inputs.device)
    things = {key: TimedRun(run, subject.inputs.values, watch, parts, before) for key, (run, parts) in runs.items()}
    samples = interleaved(things, pace, progress)
    even = steadied(samples)

    cells = _each(partial(np.median, axis=0), subject.cells(_of('table', even)))
    spreads = _each(spread, subject.cells(_of('table', samples)))
    sums = subject.sums(cells, archs)
    whole = _of('net', even)
    factor = common_factor(sums, list(whole.values()))
    in_ms, spreads_ms = (_each(lambda array: milliseconds(factor * array), tree) for tree in (cells, spreads))
    table, constant = in_ms.pop('table'), in_ms.pop('constant')
    return {
        **subject.settings,
        **in_ms,
        subject.table_key: table,
        'iqr_ms': spreads_ms['table'],
        'constant_ms': round(sum(constant.values()), 6),
        'constant_parts_ms': constant,
        'factor': factor,
        'references_ms': {name: milliseconds(np.median(rounds)) for name, rounds in _of('reference', even).items()},
        'other_work_bytes': subject.other_work,
        'check': compared(dict(zip(whole, factor * sums, strict=True)), _of('net', samples), whole),
    }


def other_work(count: int, device: str) -> Callable[[], Any]:
    """Returns a function that empties caches by reading bytes, as neck and head of a detector do between images."""
    return torch.ones(count // 4, device=device).sum if count else lambda: None


def _of(kind: str, samples: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """Returns the samples of one kind, by the second part of their keys."""
    return {key[1]: rounds for key, rounds in samples.items() if key[0] == kind}


def _each(how: Callable[[np.ndarray], Any], cells: Any) -> Any:
    """Applies a function to each array in nested dicts and lists; returns the same structure."""
    if isinstance(cells, Mapping):
        return {key: _each(how, part) for key, part in cells.items()}
    return [_each(how, part) for part in cells] if isinstance(cells, list) else how(cells)


def measure_nets(
    runs: Mapping[str, Callable[[Any], Any]],
    inputs: Mapping[str, Sequence[Any]],
    watch: Stopwatch,
    pace: Pace,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    before: Callable[[], Any] = lambda: None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measures whole nets in interleaved order.

    Args:
        runs: Functions that run a net on one input, by name.
        inputs: Inputs of each net, by name.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: Number of rounds and their length.
        progress: Wraps an iterable, such as a progress bar does.
        before: See :class:`TimedRun`.

    Returns:
        Seconds for one input by name, shape (rounds, 1): uncorrected, and corrected by
        :func:`~detnas_mm.latency.timing.steadied`.
    """
    things = {name: TimedRun(run, inputs[name], watch, before=before) for name, run in runs.items()}
    samples = interleaved(things, pace, progress)
    return samples, steadied(samples)


def common_factor(predicted: np.ndarray, measured: Sequence[np.ndarray]) -> float:
    """Returns the median ratio of measured to predicted latency.

    Where timing the parts of a net changes their time, all sums are off by about the same factor: a busy GPU hides the
    cost of the marks, and one that waits for Python does not.

    Args:
        predicted: Seconds by net, shape (nets,).
        measured: Seconds of each net, shape (rounds, 1).
    """
    return float(np.median(np.median(np.concatenate(measured, axis=1), axis=0) / predicted))


def compared(
    predicted: Mapping[str, float], measured: Mapping[str, np.ndarray], even: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Compares predicted with measured latencies.

    Args:
        predicted: Seconds by name of the net.
        measured: Seconds by name, shape (rounds, 1): for the spreads.
        even: The same, corrected by :func:`~detnas_mm.latency.timing.steadied`: for all other values.

    Returns:
        Mean absolute error and bias in percent of the measured latency; the median ratio of both, and the error after
        all predictions are multiplied by it; rank correlations; the rank correlation of two halves of the rounds, which
        shows the effect of noise; and a row for each net. Correlations are None if all values are equal.
    """
    names = list(predicted)
    wanted = np.array([predicted[name] for name in names])
    rounds = np.concatenate([even[name] for name in names], axis=1)  # (rounds, nets)
    middle = np.median(rounds, axis=0)
    width = np.array([spread(measured[name][:, 0]) for name in names])
    error = (wanted - middle) / middle
    factor = common_factor(wanted, [even[name] for name in names])
    return dict(
        nets=len(names),
        mean_absolute_error_percent=float(np.abs(error).mean() * 100),
        bias_percent=float(error.mean() * 100),
        factor=factor,
        error_after_factor_percent=float(np.abs(factor * wanted / middle - 1).mean() * 100),
        spearman=_correlation(stats.spearmanr, wanted, middle),
        kendall=_correlation(stats.kendalltau, wanted, middle),
        kendall_of_two_halves=_correlation(
            stats.kendalltau, np.median(rounds[::2], axis=0), np.median(rounds[1::2], axis=0)
        ),
        measured_range_ms=[milliseconds(middle.min()), milliseconds(middle.max())],
        iqr_percent=float(np.median(width / middle) * 100),
        rows=[
            dict(arch=name, predicted_ms=milliseconds(p), measured_ms=milliseconds(m), iqr_ms=milliseconds(w))
            for name, p, m, w in zip(names, wanted, middle, width, strict=True)
        ],
    )


def _correlation(how: Callable[[Any, Any], Any], first: np.ndarray, second: np.ndarray) -> float | None:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(how(first, second).statistic)


def milliseconds(seconds: Any) -> Any:
    """Converts seconds to milliseconds, rounded to nanoseconds."""
    return np.round(np.asarray(seconds, dtype=float) * 1000, 6).tolist()
