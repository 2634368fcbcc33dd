"""Measuring latencies: the table of a space, and whole nets. Imports torch."""

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
    """Measures the table of a space, whole nets to check its sums by, and nets to compare with; all take turns.

    Args:
        subject: What is measured.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: How thoroughly.
        nets: Whole nets to check the sums by.
        progress: Wraps what is iterated over, such as a progress bar.

    Returns:
        The subject's settings and its table, ``iqr_ms`` (the spreads of the table), ``constant_ms`` and its parts,
        ``factor``, see :func:`common_factor`, that all of these were multiplied by, ``references_ms``,
        ``other_work_bytes`` (read before each run) and ``check``, see :func:`compared`; JSON-ready. Medians are those
        of steadied rounds, spreads those of the rounds as they were.
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
    """What empties caches before a run, by reading so many bytes, as a detector's neck and head do between images."""
    return torch.ones(count // 4, device=device).sum if count else lambda: None


def _of(kind: str, samples: Mapping[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    """Samples of one kind by what is left of their keys."""
    return {key[1]: rounds for key, rounds in samples.items() if key[0] == kind}


def _each(how: Callable[[np.ndarray], Any], cells: Any) -> Any:
    """Cells with something done to each array of them."""
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
    """Measures whole nets in turn.

    Args:
        runs: What runs a net on one input, by name.
        inputs: What to run each on, by name.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: How thoroughly.
        progress: Wraps what is iterated over, such as a progress bar.
        before: See :class:`TimedRun`.

    Returns:
        Seconds for one input by name, shape (rounds, 1); as measured, and steadied.
    """
    things = {name: TimedRun(run, inputs[name], watch, before=before) for name, run in runs.items()}
    samples = interleaved(things, pace, progress)
    return samples, steadied(samples)


def common_factor(predicted: np.ndarray, measured: Sequence[np.ndarray]) -> float:
    """What predictions are multiplied by to agree with what was measured, in the median of the nets.

    Sums of parts are off by as much for all nets where taking the time of parts changes what they take: a GPU that
    has much to do hides what marks cost, and one that waits for Python does not.

    Args:
        predicted: Seconds by net, shape (nets,).
        measured: Seconds of every net, shape (rounds, 1) each.
    """
    return float(np.median(np.median(np.concatenate(measured, axis=1), axis=0) / predicted))


def compared(
    predicted: Mapping[str, float], measured: Mapping[str, np.ndarray], even: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """How well predictions agree with what was measured.

    Args:
        predicted: Seconds by name of the net.
        measured: Seconds by name, shape (rounds, 1): for the spreads.
        even: The same, see :func:`~detnas_mm.latency.timing.steadied`: for all else.

    Returns:
        Mean absolute error and bias in percent of what was measured; the factor between the two (the median), and the
        error that is left when all predictions are multiplied by it; rank correlations; how well two halves of the
        rounds agree with one another in rank, which shows what noise leaves of it; and a row for each net.
        Correlations are None where all values are alike.
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
    """Milliseconds with the digits that a measurement may have."""
    return np.round(np.asarray(seconds, dtype=float) * 1000, 6).tolist()
