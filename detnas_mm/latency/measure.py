"""Measuring latencies: of all parts of a space's nets, and of whole nets. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from detnas_mm.errors import DetNASError
from detnas_mm.latency.stopwatch import Stopwatch, TimedRun
from detnas_mm.latency.timing import Pace, interleaved, spread, steadied
from detnas_mm.models.subnet import extract_subnet
from detnas_mm.models.supernet import Supernet
from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas.space import DetNASSpace

#: How many paths of the table hold each choice at each position.
PATHS_PER_CHOICE = 4


def covering_paths(space: DetNASSpace, times: int, rng: np.random.Generator) -> list[Architecture]:
    """Random paths in which every choice stands at every position as often.

    Args:
        space: The space.
        times: How often.
        rng: Draws the paths.
    """
    found = []
    for _ in range(times):
        columns = [rng.permutation(space.num_choices) for _ in range(space.num_blocks)]
        found += [Architecture(tuple(map(int, genes))) for genes in zip(*columns, strict=True)]
    return found


def settled(net: nn.Module, batch: Tensor) -> nn.Module:
    """Gives a net's BN the statistics of a batch, as activations out of all proportion would change what comes after.

    Args:
        net: A backbone.
        batch: Images as the backbone gets them, shape (n, 3, h, w), n at least 2.
    """
    update_bn([batch], net)
    net.eval()  # of some backbones it returns nothing
    return net


def measure_space(
    supernet: Supernet,
    backbone: Mapping[str, Any],
    run: Callable[[nn.Module, Any], Any],
    inputs: Sequence[Any],
    batch: Tensor,
    watch: Stopwatch,
    pace: Pace,
    nets: int = 30,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, Any]:
    """Measures the parts of a space's nets, and random whole nets to check their sums by.

    All nets are cut out of the supernet first. Then the paths of the table and the whole nets take turns.

    Args:
        supernet: Of a :class:`DetNASSpace`, on the device to measure on.
        backbone: The config that the supernet was built of.
        run: Runs a backbone on one input, alone or inside a detector.
        inputs: What to run on; times are means over them.
        batch: See :func:`settled`.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: How thoroughly.
        nets: Random whole nets to check the sums by.
        progress: Wraps what is iterated over, such as a progress bar.

    Returns:
        ``table_ms`` and ``iqr_ms`` of shape (positions, choices), ``constant_ms``, its three parts (before the
        backbone, its stem, after its blocks) with their spreads, ``factor``, see :func:`common_factor`, that all of
        these were multiplied by, and ``check``, see :func:`compared`; JSON-ready. Medians are those of steadied rounds,
        spreads those of the rounds as they were.

    Raises:
        ValueError: If the supernet's space is of another kind.
    """
    space = supernet.space
    if not isinstance(space, DetNASSpace):
        raise DetNASError(f'Latency tables are of spaces that are a DetNASSpace; this supernet has {space!r}.')
    rng = np.random.default_rng(pace.seed)
    paths = covering_paths(space, PATHS_PER_CHOICE, rng)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < min(nets, space.size):
        drawn[space.sample(rng)] = None

    things: dict[tuple[str, int], TimedRun] = {}
    for kind, archs in (('path', paths), ('net', list(drawn))):
        for number, arch in enumerate(archs):
            net: Any = settled(extract_subnet(supernet, arch, backbone), batch)
            parts = (net.stem, *net.blocks) if kind == 'path' else ()
            things[kind, number] = TimedRun(partial(run, net), inputs, watch, parts)
    samples = interleaved(things, pace, progress)
    middle = np.median(_cells(space, paths, steadied(samples)), axis=-1)
    width = spread(np.moveaxis(_cells(space, paths, samples), -1, 0))
    positions = space.num_blocks
    sums = np.array([middle[positions:, 0].sum() + middle[range(positions), arch.genes].sum() for arch in drawn])
    names = {number: space.describe(arch) for number, arch in enumerate(drawn)}
    whole = {names[number]: rounds for (kind, number), rounds in samples.items() if kind == 'net'}
    even = {names[number]: rounds for (kind, number), rounds in steadied(samples).items() if kind == 'net'}
    factor = common_factor(sums, list(even.values()))
    middle, width = factor * middle, factor * width
    before, stem, after = middle[positions:, 0]
    return dict(
        factor=factor,
        table_ms=milliseconds(middle[:positions]),
        iqr_ms=milliseconds(width[:positions]),
        constant_ms=milliseconds(before + stem + after),
        constant_parts_ms=dict(before=milliseconds(before), stem=milliseconds(stem), after=milliseconds(after)),
        constant_iqr_parts_ms=dict(zip(('before', 'stem', 'after'), milliseconds(width[positions:, 0]), strict=True)),
        check=compared(dict(zip(whole, factor * sums, strict=True)), whole, even),
    )


def _cells(space: DetNASSpace, paths: Sequence[Architecture], samples: Mapping[Any, np.ndarray]) -> np.ndarray:
    """What a choice takes at a position, as the mean over the paths that hold it.

    Args:
        space: The space.
        paths: The paths of the table.
        samples: Seconds by ('path', number), shape (rounds, parts).

    Returns:
        Seconds of shape (positions + 3, choices, rounds); the last three rows are what comes before the backbone, its
        stem, and what comes after its blocks, the same for every choice.
    """
    seconds = np.stack([samples['path', number] for number in range(len(paths))])  # (paths, rounds, parts)
    genes = space.encode(paths)
    rows = [
        [seconds[genes[:, position] == choice, :, 2 + position].mean(axis=0) for choice in range(space.num_choices)]
        for position in range(space.num_blocks)
    ]
    rows += [[seconds[:, :, part].mean(axis=0)] * space.num_choices for part in (0, 1, -1)]
    return np.array(rows)


def measure_nets(
    runs: Mapping[str, Callable[[Any], Any]],
    inputs: Sequence[Any],
    watch: Stopwatch,
    pace: Pace,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
    before: Callable[[], Any] = lambda: None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measures whole nets in turn.

    Args:
        runs: What runs a net on one input, by name.
        inputs: What to run them on.
        watch: See :func:`~detnas_mm.latency.stopwatch.stopwatch`.
        pace: How thoroughly.
        progress: Wraps what is iterated over, such as a progress bar.
        before: See :class:`TimedRun`.

    Returns:
        Seconds for one input by name, shape (rounds, 1); as measured, and steadied.
    """
    things = {name: TimedRun(run, inputs, watch, before=before) for name, run in runs.items()}
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
