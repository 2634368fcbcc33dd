"""Measuring nets with a fake clock, which convolutions advance by their multiply-adds."""

import itertools
import time
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from detnas_mm.latency.choices import PATHS_PER_CHOICE, ChoiceSubject, covering_paths
from detnas_mm.latency.inputs import Inputs, settled
from detnas_mm.latency.measure import compared, measure_nets, measure_table
from detnas_mm.latency.stopwatch import Stopwatch, TimedRun, stopwatch
from detnas_mm.latency.timing import Pace
from detnas_mm.systems.detnas import DetNASNet, DetNASSpace, DetNASSupernet, MacsTable
from detnas_mm.systems.detnas.latency import DetNASLatencySubject
from detnas_mm.systems.mae_det import MAEDetSpace

from .test_latency import Uneven

TINY = dict(stem=4, channels=(8, 12), blocks=(1, 2))
SIZE = (16, 24)
PACE = Pace(rounds=3, min_time=0, pause=0)


def measured(watch, spec=TINY, nets=6, run=lambda net, image: net(image)):
    torch.manual_seed(0)
    inputs = Inputs('backbone', SIZE, 'cpu')
    inputs.run = lambda model, net: partial(run, net)
    subject = DetNASLatencySubject(DetNASSpace(spec), inputs, DetNASSupernet(spec), dict(space=spec))
    return measure_table(subject, watch, PACE, nets)


def test_a_table_of_multiply_adds(watch):
    """If time is proportional to multiply-adds, so is the measured table, and its sums equal the whole nets."""
    macs = MacsTable(TINY, SIZE)
    found = measured(watch)
    assert np.allclose(found['table_ms'], macs.table / 1000)
    assert found['constant_ms'] == pytest.approx(macs.constant / 1000)
    assert found['constant_parts_ms'] == dict(before=0, stem=pytest.approx(macs.constant / 1000), after=0)
    assert not np.any(found['iqr_ms'])
    check = found['check']
    assert check['nets'] == 6 and check['mean_absolute_error_percent'] == pytest.approx(0, abs=1e-6)
    for ranks in ('spearman', 'kendall', 'kendall_of_two_halves'):
        assert check[ranks] == pytest.approx(1)
    for row in check['rows']:
        assert row['measured_ms'] == pytest.approx(macs.total(macs.space.parse(row['arch'])) / 1000)


def test_what_a_detector_does_around_its_backbone_is_constant(watch):
    def run(net, image):
        watch.now += 0.002
        net(image)
        watch.now += 0.005

    found = measured(watch, run=run)
    assert found['constant_parts_ms']['before'] == pytest.approx(2)
    assert found['constant_parts_ms']['after'] == pytest.approx(5)
    assert np.allclose(found['table_ms'], MacsTable(TINY, SIZE).table / 1000)
    assert found['check']['bias_percent'] == pytest.approx(0, abs=1e-6)


def test_sums_are_brought_to_whole_nets(watch, monkeypatch):
    """Here whole nets take 1.25 times as long as their parts, one for another reason ten times: cells grow by 1.25."""
    runs = iter([10.0])

    class Slower(TimedRun):
        def __call__(self):
            self.slowness = getattr(self, 'slowness', None) or (1.0 if self.parts else next(runs, 1.25))
            return self.slowness * super().__call__()

    monkeypatch.setattr('detnas_mm.latency.measure.TimedRun', Slower)
    found, macs = measured(watch, nets=7), MacsTable(TINY, SIZE)
    assert found['factor'] == pytest.approx(1.25)
    assert np.allclose(found['table_ms'], 1.25 * macs.table / 1000)
    assert found['constant_ms'] == pytest.approx(1.25 * macs.constant / 1000)
    errors = [abs(row['predicted_ms'] / row['measured_ms'] - 1) for row in found['check']['rows']]
    assert sorted(errors) == pytest.approx([0] * 6 + [0.875])
    assert found['check']['mean_absolute_error_percent'] == pytest.approx(87.5 / 7)


def test_a_small_space_is_checked_by_all_its_nets(watch):
    spec = dict(stem=4, channels=(8,), blocks=(1,))
    check = measured(watch, spec, nets=30)['check']
    assert sorted(row['arch'] for row in check['rows']) == ['0', '1', '2', '3']


def test_another_kind_of_space_is_refused(watch):
    with pytest.raises(ValueError, match='needs a space with one choice at each position; this supernet has'):
        DetNASLatencySubject(MAEDetSpace(), Inputs('backbone', SIZE, 'cpu'), DetNASSupernet(TINY), {})


def test_positions_with_unequal_numbers_of_choices(watch):
    """Each block takes the seconds of its choice, the stem 5; the table contains these seconds."""
    seconds = [[1.0, 2.0], [3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]

    class Ticking(nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            watch.now += self.seconds
            return x

    class OnPaper(ChoiceSubject):
        model_name = 'Ticking'

        def setup(self):
            pass

        def _cut_out(self, arch):
            return nn.Sequential(Ticking(5.0), *(Ticking(row[gene]) for row, gene in zip(seconds, arch.genes)))

        def modules(self, net):
            return list(net)

    found = measure_table(OnPaper(Uneven(), Inputs('backbone', SIZE, 'cpu')), watch, PACE, 10)
    for row, wanted in zip(found['table_ms'], seconds, strict=True):
        assert row == pytest.approx([1000 * one for one in wanted])
    assert found['constant_ms'] == pytest.approx(5000) and found['factor'] == pytest.approx(1)
    assert found['check']['nets'] == 10 and found['check']['mean_absolute_error_percent'] == pytest.approx(0, abs=1e-6)
    paths = covering_paths(Uneven(), PATHS_PER_CHOICE, np.random.default_rng(0))
    for position, choices in enumerate(Uneven.choices):
        counts = Counter(path.genes[position] for path in paths)
        assert len(counts) == choices and min(counts.values()) >= PATHS_PER_CHOICE


def test_every_choice_is_measured_as_often():
    space = DetNASSpace('small')
    paths = covering_paths(space, PATHS_PER_CHOICE, np.random.default_rng(0))
    for position in range(space.num_blocks):
        assert set(Counter(path.genes[position] for path in paths).values()) == {PATHS_PER_CHOICE}
    assert len(set(paths)) == len(paths) == 4 * PATHS_PER_CHOICE
    pairs = {(path.genes[0], path.genes[1]) for path in paths}
    assert len(pairs) > 4, 'choices are not tied to one another'


def test_a_timed_run_is_the_mean_over_inputs(watch):
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    images = [torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 8, 8)]
    parts = TimedRun(net, images, watch, [net[0], net[2]])
    mean = (16 + 64) / 2
    assert np.allclose(parts() * 1e6, [0, 6 * mean, 2 * mean, 0])
    assert np.allclose(parts() * 1e6, [0, 6 * mean, 2 * mean, 0])
    whole = TimedRun(net, images, watch)
    assert np.allclose(whole() * 1e6, [8 * mean])


def test_whole_nets_by_name(watch):
    nets = {arch: DetNASNet(arch, space=TINY).eval() for arch in ('0|00', '3|12')}
    raw, even = measure_nets(nets, dict.fromkeys(nets, [torch.zeros(1, 3, *SIZE)]), watch, PACE)
    macs = MacsTable(TINY, SIZE)
    for arch in nets:
        assert raw[arch].shape == (3, 1)
        assert np.allclose(raw[arch] * 1e6, macs.total(macs.space.parse(arch)))
        assert np.allclose(even[arch], raw[arch])


def test_statistics_of_a_batch():
    """Afterwards activations are of order one, for any initial weights."""
    torch.manual_seed(0)
    net, batch = DetNASNet('3|12', space=TINY), torch.randn(4, 3, *SIZE)
    net.init_weights()
    before = net.eval()(batch)[-1].std()
    after = settled(net, batch)(batch)[-1].std()
    assert not net.training and before < 0.05 < 0.3 < after < 3


def test_comparison_by_hand():
    rounds = {'a': np.array([[1.0], [1.0], [3.0], [1.0]]), 'b': np.full((4, 1), 2.0), 'c': np.full((4, 1), 4.0)}
    found = compared({'a': 1.1, 'b': 1.8, 'c': 4.0}, rounds, rounds)
    assert found['mean_absolute_error_percent'] == pytest.approx((10 + 10 + 0) / 3)
    assert found['bias_percent'] == pytest.approx(0, abs=1e-9)
    assert found['factor'] == 1
    slower = compared({'a': 0.5, 'b': 1.0, 'c': 2.2}, rounds, rounds)
    assert slower['factor'] == 2 and slower['error_after_factor_percent'] == pytest.approx(10 / 3)
    assert found['spearman'] == found['kendall'] == pytest.approx(1)
    assert found['measured_range_ms'] == [1000, 4000]
    assert [row['iqr_ms'] for row in found['rows']] == [500, 0, 0]
    swapped = compared({'a': 2.0, 'b': 1.0, 'c': 4.0}, rounds, rounds)
    assert swapped['kendall'] == pytest.approx(1 / 3) and swapped['spearman'] == pytest.approx(0.5)
    alike = {name: np.ones((4, 1)) for name in 'abc'}
    assert compared(dict.fromkeys('abc', 1.0), alike, alike)['kendall'] is None


@pytest.mark.parametrize('threads', [1, 2])
def test_the_clock_of_a_processor_goes_forward(threads):
    watch = Stopwatch(threads)
    marks = [watch.mark() for _ in range(4)]
    seconds = watch.seconds(marks)
    assert len(seconds) == 3 and min(seconds) >= 0
    assert sum(seconds) == pytest.approx(marks[-1] - marks[0])


def test_with_one_thread_waiting_does_not_count():
    """Half a second of sleep, as if another program had the processor: it took hardly any of our thread's time."""
    times = []
    for threads in (1, 2):
        watch = Stopwatch(threads)
        begin = watch.mark()
        time.sleep(0.5)
        times += watch.seconds([begin, watch.mark()])
    assert times[0] < 0.5 <= times[1]


def test_the_clock_of_a_gpu_waits_for_its_work(monkeypatch):
    """With fake events: no time is read before the last event is synchronised."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing
            self.number = None

        def record(self):
            log.append('record')
            self.number = len(log)

        def synchronize(self):
            log.append(f'wait for {self.number}')

        def elapsed_time(self, other):  # in ms, as torch's
            log.append('read')
            return 1000.0 * (other.number - self.number)

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    watch = stopwatch('cuda')
    assert watch.seconds([watch.mark() for _ in range(3)]) == [1.0, 1.0]
    assert log == ['record'] * 3 + ['wait for 3'] + ['read'] * 2


def test_all_paths_of_the_table_differ_in_context():
    """Every pair of choices of neighbouring blocks can be drawn."""
    space = DetNASSpace(TINY)
    paths = covering_paths(space, 40, np.random.default_rng(0))
    assert {path.genes[:2] for path in paths} == set(itertools.product(range(4), repeat=2))
