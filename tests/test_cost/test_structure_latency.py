"""Latency of structures: measured with a fake clock, reading, interpolation, errors."""

import json
import warnings
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from detnas_mm.latency import LatencyTable
from detnas_mm.latency.inputs import Inputs
from detnas_mm.latency.measure import measure_table
from detnas_mm.latency.stopwatch import TimedRun
from detnas_mm.latency.timing import Pace
from detnas_mm.search import Constraint, Objective, PopulationEvolution
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace, StructureLatency, StructureMacs
from detnas_mm.systems.mae_det.grid import Grid
from detnas_mm.systems.mae_det.latency import MAEDetLatencySubject, NetBuilder, covering_structures
from detnas_mm.systems.mae_det.structure import RESNET50, read_structure, to_text, unpack
from detnas_mm.testing import check_cost_model
from tests import latency
from tests.jobs import make_job, run_in_memory

SMALL = dict(strides=[2, 1, 2], stem_widths=[8, 16], widths=[8, 64], growth=[1, 4], depths=[1, 3])
SIZE = (64, 96)
PACE = Pace(rounds=2, min_time=0, pause=0)


def test_sums_are_interpolated_between_points(tmp_path):
    """With times proportional to multiply-adds, it is also exact between the points of the grid."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        cost = StructureLatency('authors', latency.write_structures(tmp_path / 'a.json', 'authors'), (480, 480))
    codes = cost.space.sample_codes(np.random.default_rng(0), 500)
    macs = StructureMacs('authors')
    assert cost.totals(codes) == pytest.approx(macs.totals(codes) / 1e8, rel=1e-9)
    assert cost.bounds() == pytest.approx([value / 1e8 for value in macs.bounds()], rel=1e-9)
    assert cost.total('maedet-init') == pytest.approx(macs.total('maedet-init') / 1e8, rel=1e-9)
    assert cost.name == 'latency' and cost.scope.startswith('ms an image, backbone (MAEDetNet), batch 1, float32, at 4')


def test_relative_to_a_net_that_was_measured_too(tmp_path):
    file = latency.write_structures(tmp_path / 'a.json', 'authors')
    plain, relative = StructureLatency('authors', file), StructureLatency('authors', file, relative_to='resnet50')
    unit = StructureMacs('authors').total(RESNET50) / 1e8
    assert relative.total('maedet-init') * unit == pytest.approx(plain.total('maedet-init'), rel=1e-12)
    assert relative.scope.startswith('multiples of the ') and relative.scope.endswith(plain.scope)
    with pytest.raises(ValueError, match=r"no latency of 'resnet18', only of \['resnet50'\]"):
        StructureLatency('authors', file, relative_to='resnet18').bounds()


@pytest.mark.parametrize('spec', [SMALL, dict(SMALL, kernels=[3], depths=[1, 1], stem_widths=[8, 8])])
def test_keeps_the_contract(tmp_path, spec):
    cost = StructureLatency(spec, latency.write_structures(tmp_path / 'a.json', spec, SIZE))
    check_cost_model(cost, MAEDetSpace(spec))


def test_grows_with_every_gene_although_measured_with_noise(tmp_path):
    """So that the bounds are those of the space, and a wider net is never predicted to be faster."""
    spec = dict(SMALL, strides=[2, 1], depths=[1, 2])
    found, rng = latency.structures(spec, SIZE), np.random.default_rng(0)
    for place in found['tables_ms']:
        for name, table in place.items():
            place[name] = (np.array(table) * rng.uniform(0.3, 3, np.shape(table)) + 1).tolist()
    (tmp_path / 'a.json').write_text(json.dumps(found))
    cost = StructureLatency(spec, tmp_path / 'a.json')
    codes = np.unique(cost.space.sample_codes(np.random.default_rng(0), 20_000), axis=0)
    values = cost.totals(codes)
    low, high = cost.bounds()
    assert low == values.min() and values.max() <= high
    for gene in (0, 3, 4, 6, 7):
        larger = codes.copy()
        larger[:, gene] += {4: 2, 6: 1}.get(gene, 8)
        inside = cost.space.contains(larger)
        assert inside.sum() > 20 and (cost.totals(larger[inside]) >= values[inside] - 1e-9).all()


def test_two_measurements_are_two_scopes(tmp_path):
    first, same = (StructureLatency(SMALL, latency.write_structures(tmp_path / n, SMALL, SIZE)) for n in 'ab')
    other = StructureLatency(SMALL, latency.write_structures(tmp_path / 'c', SMALL, SIZE, constant_ms=0.001))
    assert first.scope == same.scope != other.scope


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(space='authors'), 'was measured with space .*this search has .*Measure again'),
        (dict(input_size=480), r'with input_size \(64, 96\); this search has \(480, 480\)'),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path, arguments, match):
    file = latency.write_structures(tmp_path / 'a.json', SMALL, SIZE)
    with pytest.raises(ValueError, match=match):
        StructureLatency(**(dict(space=SMALL, file=file) | arguments)).bounds()


def test_the_two_kinds_of_files_are_told_apart(tmp_path):
    space = DetNASSpace('small')
    choices = latency.write(tmp_path / 'a.json', space)
    with pytest.raises(ValueError, match='of this kind: it lacks grid, tables_ms, references_ms.*Measure again'):
        StructureLatency(SMALL, choices).bounds()
    with pytest.raises(ValueError, match='of this kind: it lacks weights, images, table_ms'):
        LatencyTable(space, latency.write_structures(tmp_path / 'b.json', SMALL, SIZE)).bounds()
    with pytest.raises(FileNotFoundError, match=r'measure_latency.py CONFIG \[CHECKPOINT\] --out .*none.json'):
        StructureLatency(SMALL, tmp_path / 'none.json').bounds()


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(schema=99), 'its schema is 99'),
        (dict(grid=dict(widths=[[8]])), 'its grid must be'),
        (
            dict(grid=dict(widths=[[8, 8], [8, 16]], bottlenecks=[[8]], kernels=[3], inner=[[8]])),
            'must be ascending lists',
        ),
        (dict(grid=dict(widths=[[8], ['x']], bottlenecks=[[8]], kernels=[3], inner=[[8]])), 'must be ascending lists'),
        (dict(grid=dict(widths=[[8], [8]], bottlenecks=[[8]], kernels=[3], inner=[[4]])), 'must be ascending lists'),
        (dict(references_ms=dict(resnet50=0)), 'references_ms must be positive'),
        (dict(constant_ms=-0.5), 'constant_ms must be a number of at least 0; it is -0.5'),
        (dict(constant_ms=10**400), 'constant_ms must be .* is 1000'),
        (dict(constant_ms=True), 'constant_ms must be .* is True'),
        (dict(references_ms=dict(resnet50='1.0')), 'references_ms must be positive'),
        (dict(grid=dict(widths=[[8], [8.5]], bottlenecks=[[8]], kernels=[3], inner=[[8]])), 'must be ascending lists'),
        (
            dict(grid=dict(widths=[[8], [float('inf')]], bottlenecks=[[8]], kernels=[3], inner=[[8]])),
            'must be ascending',
        ),
        (dict(grid=dict(widths=[[8], [8]], bottlenecks=[[8]], kernels=[3, 7], inner=[[8]])), "and the space's kernels"),
        (dict(tables_ms=[dict(stem=['1.0', '2.0'])] * 4), "'stem' at place 0 is no table of numbers of at least"),
        (dict(tables_ms=[]), 'tables_ms has 0 places; the grid has 4'),
        (dict(tables_ms=[{}] * 4), "no table 'stem' of numbers at place 0"),
        (dict(tables_ms=[dict(stem=[1.0])] * 4), "'stem' at place 0 is no table of numbers .* of shape"),
        (dict(tables_ms=[dict(stem=[1.0, float('nan')])] * 4), "'stem' at place 0 is no table of numbers of at least"),
        (dict(tables_ms=[dict(stem=[1.0, -1.0])] * 4), "'stem' at place 0 is no table of numbers of at least"),
        (dict(device=dict(kind='cpu')), 'device is'),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        StructureLatency(SMALL, latency.write_structures(tmp_path / 'a.json', SMALL, SIZE, **changes)).bounds()


def test_structures_outside_of_the_tables_are_refused(tmp_path):
    cost = StructureLatency('relaxed', latency.write_structures(tmp_path / 'a.json', 'relaxed'))
    assert cost.total('maedet-s') > 0
    with pytest.raises(ValueError, match='has strides .* and stem kernel 3; the table is for'):
        cost.total('maedet-init')
    with pytest.raises(ValueError, match='is outside of the measured range'):
        cost.total('32k3s2|48k5s2x2b32|272k3s2x4b120|1024k5s2x10b80|8192k3s2x10b240')


# -- measuring ----------------------------------------------------------------------------------------------------


def test_all_pairs_of_widths_that_meet_stand_in_some_net():
    space = MAEDetSpace('authors')
    grid = Grid.of(space, 5)
    found = covering_structures(space, grid)
    assert len(found) == 25 + 2 * 8, 'the square, and for both kernels two bottlenecks between any two'
    for block in range(space.num_blocks):
        seen = Counter()
        for arch in found:
            _, blocks = unpack(arch)
            one = blocks[block]
            seen.update([('cin, btn', one.cin, one.bottleneck), ('cin, out', one.cin, one.out)])
            seen.update([('out, btn', one.out, one.bottleneck), ('kernel, btn', one.kernel, one.bottleneck)])
        for what, first, second in (
            ('cin, btn', grid.widths[block], grid.bottlenecks[block]),
            ('cin, out', grid.widths[block], grid.widths[block + 1]),
            ('out, btn', grid.widths[block + 1], grid.bottlenecks[block]),
            ('kernel, btn', grid.kernels, grid.inner[block]),
        ):
            assert all(seen[what, i, j] for i, j in product(first, second)), what


def test_narrow_convolutions_stand_among_narrow_ones():
    """The first net of the square is narrow all over, the last wide; so are those of bottlenecks in between."""
    space = MAEDetSpace('authors')
    found = covering_structures(space, Grid.of(space, 5))
    macs = StructureMacs(space).totals(space.encode(found))
    assert macs[0] == macs[:25].min() and (np.diff(macs[25::2]) > 0).all()


def test_the_grid_reaches_the_ends_of_the_space():
    space = MAEDetSpace('authors')
    grid = Grid.of(space, 5)
    assert grid.widths[0] == [8, 16, 24, 32] and grid.widths[5] == grid.bottlenecks[4] == [8, 32, 128, 512, 2048]
    assert grid.widths[1][-1] == 256 and grid.kernels == [3, 5]
    assert grid.inner[4] == [8, 16, 24, 32, 48, 80, 128, 200, 320, 512, 816, 1288, 2048]
    with pytest.raises(ValueError, match='at least 2 widths per place; got 1'):
        Grid.of(space, 1)


def test_nets_share_weights_with_one_another_alone():
    build = NetBuilder('cpu')
    torch.manual_seed(0)
    first, second = (build(read_structure(f'8k3s2|16k3s2x3b8|16k3s2x{depth}b8')) for depth in (1, 2))
    weights = [parameter for name, parameter in first.named_parameters() if 'conv.weight' in name]
    assert len({weight.data_ptr() for weight in weights}) == len(weights)
    assert {weight.data_ptr() for weight in weights} < {parameter.data_ptr() for parameter in second.parameters()}
    out = first(torch.randn(1, 3, 32, 32))[-1]
    assert not first.training and torch.isfinite(out).all() and out.std() > 0.1


class Small(MAEDetLatencySubject):
    """Any members to check by, and a small net in ResNet-50's place."""

    references = dict(resnet50=dict(type='detnas_mm.MAEDetNet', arch='8k7s2|16k3s2x2b8'))

    def nets_to_check(self, count, rng):
        return self.space.sample_many(np.random.default_rng(1), count)


def measured(watch, spec, nets=8):
    space = MAEDetSpace(spec)
    subject = Small(space, Inputs('backbone', SIZE, 'cpu'), grid=3)
    return space, measure_table(subject, watch, PACE, nets)


def test_tables_of_multiply_adds(watch, tmp_path):
    """If time is proportional to multiply-adds, so are the tables, and their sums equal the whole nets."""
    space, found = measured(watch, SMALL)
    on_paper = latency.structures(SMALL, SIZE, points=3)
    for own, wanted in zip(found['tables_ms'], on_paper['tables_ms'], strict=True):
        for name, table in own.items():
            assert np.allclose(table, np.array(wanted[name]) * 1e5), name  # ms of a microsecond each
    assert found['constant_ms'] == 0 and not any(np.any(t) for own in found['iqr_ms'] for t in own.values())
    check = found['check']
    assert check['nets'] == 8 and check['mean_absolute_error_percent'] == pytest.approx(0, abs=1e-3)
    macs = StructureMacs(SMALL, SIZE)
    for row in check['rows']:
        assert row['predicted_ms'] == pytest.approx(macs.total(row['arch']) / 1000, rel=1e-6)
        assert row['measured_ms'] == pytest.approx(macs.total(row['arch']) / 1000, rel=1e-6)
    assert found['references_ms']['resnet50'] == pytest.approx(macs.total('8k7s2|16k3s2x2b8') / 1000)
    (tmp_path / 'a.json').write_text(json.dumps(on_paper | found))
    cost = StructureLatency(space, tmp_path / 'a.json', SIZE)
    assert cost.total(check['rows'][0]['arch']) == pytest.approx(check['rows'][0]['predicted_ms'], rel=1e-6)


def test_caches_are_emptied_before_every_run(watch, monkeypatch):
    """Other work comes before the clock starts, in nets of the tables and in whole nets alike."""
    done = []

    def slow(count, device):
        assert count == 128 * 2**20

        def work():
            watch.now += 1000
            done.append(device)

        return work

    monkeypatch.setattr('detnas_mm.latency.measure.other_work', slow)
    _, found = measured(watch, SMALL)
    things = 2 + len(covering_structures(MAEDetSpace(SMALL), Grid.of(MAEDetSpace(SMALL), 3))) + 8 + 1
    assert done == ['cpu'] * things * (PACE.rounds + 1)
    assert found['check']['mean_absolute_error_percent'] == pytest.approx(0, abs=1e-3)
    assert found['check']['measured_range_ms'][1] < 1e6


def test_sums_are_brought_to_whole_nets(watch, monkeypatch):
    """Here all runs without marks take 1.25 times as long as their parts: so do tables and sums in the end."""

    class Slower(TimedRun):
        def __call__(self):
            return super().__call__() * (1.0 if self.parts else 1.25)

    monkeypatch.setattr('detnas_mm.latency.measure.TimedRun', Slower)
    space, found = measured(watch, SMALL)
    on_paper = latency.structures(SMALL, SIZE, points=3)
    assert found['factor'] == pytest.approx(1.25) and found['mark_ms'] == 0
    for own, wanted in zip(found['tables_ms'], on_paper['tables_ms'], strict=True):
        for name, table in own.items():
            assert np.allclose(table, np.array(wanted[name]) * 1.25e5), name
    assert found['check']['mean_absolute_error_percent'] == pytest.approx(0, abs=1e-3)
    macs = StructureMacs(SMALL, SIZE)
    for row in found['check']['rows']:
        assert row['predicted_ms'] == pytest.approx(1.25 * macs.total(row['arch']) / 1000, rel=1e-6)


def test_what_marking_takes_is_taken_off(watch, monkeypatch):
    """Here a mark takes as long as 500,000 multiply-adds; tables and sums know nothing of it."""
    mark = type(watch).mark

    def costly(self):
        self.now += 0.5
        return mark(self)

    monkeypatch.setattr(type(watch), 'mark', costly)
    _, found = measured(watch, SMALL)
    on_paper = latency.structures(SMALL, SIZE, points=3)
    assert found['mark_ms'] == pytest.approx(500, rel=0.1)
    for own, wanted in zip(found['tables_ms'], on_paper['tables_ms'], strict=True):
        for name in set(own) - {'sum'}:
            assert np.allclose(np.array(own[name]) / found['factor'], np.array(wanted[name]) * 1e5, atol=50), name
    assert found['factor'] == pytest.approx(1, abs=0.02)  # a whole net's last mark is left


# -- searching ----------------------------------------------------------------------------------------------------


def test_evolution_within_a_limit_on_latency(tmp_path):
    """The limit binds: the best come close to it, none exceeds it, and without it they are slower."""
    from detnas_mm.systems.mae_det import EntropyScore

    space = MAEDetSpace('authors')
    table = StructureLatency(space, latency.write_structures(tmp_path / 'a.json', space))
    best = {}
    for limit in (60.0, 1e9):
        job = make_job(
            space, [Objective('entropy')], dict(latency=table), [Constraint('latency', high=limit)],
            strategy=PopulationEvolution(population=32, candidates=2000), evaluator=EntropyScore(), generations=2,
        )  # fmt: skip
        best[limit] = run_in_memory(job)
    assert all(record.costs['latency'] <= 60 for record in best[60.0])
    assert 50 < best[60.0][0].costs['latency'] < best[1e9][0].costs['latency']
    assert best[60.0][0].metrics['entropy'] < best[1e9][0].metrics['entropy']
    row = best[60.0][0]
    assert row.costs['latency'] == table.total(row.arch) and to_text(space.parse(row.arch)) == row.arch
