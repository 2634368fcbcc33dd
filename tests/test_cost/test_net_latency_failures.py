"""Nets without a latency: those that fail, lack memory or end the process that measures them; and without a count."""

from types import SimpleNamespace

import numpy as np
import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.latency import counting
from detnas_mm.registry import EVALUATORS, SPACES
from detnas_mm.search import Evaluation, SearchJob, read_ledger
from tests import jobs
from tests.test_cost.paper import ARCHS, SPACE, PaperWorkers, measured
from tests.test_toys.detectors import DetectorSpace, UntrainedLoss, search_config


def test_a_net_that_does_not_run_has_failed_and_the_others_are_measured(prepared, tmp_path):
    job, cost, lines = prepared()
    PaperWorkers.failing = {'GFLHead@64': 'NotImplementedError: no kernel'}
    cost.measure(ARCHS)
    assert measured(ARCHS) and np.isnan(cost.total(ARCHS[1])) and cost.total(ARCHS[2]) == 92.16
    (folder,) = (tmp_path / 'latency.json.sessions').iterdir()
    reason = f'NotImplementedError: no kernel; log: latency.json.sessions/{folder.name}/log.txt'
    assert lines[1] == f'GFLHead@64 has no latency and counts as failed: {reason}'
    assert job.budget.failures(ARCHS) == {ARCHS[1]: f'latency: {reason}'} and job.budget.costs(ARCHS[1]) == {}
    with pytest.raises(DetNASError, match='GFLHead@64 was not measured'):
        cost.spread(ARCHS[1])
    PaperWorkers.failing = {}
    again, cost, _ = prepared(constraints=[dict(cost='latency', high=1000)])
    assert again.budget.failures(ARCHS) == job.budget.failures(ARCHS), 'it is in the file'
    assert again.budget.allows(ARCHS).tolist() == [True, False, True, True] and measured(ARCHS)
    again.budget.forget([SimpleNamespace(arch='GFLHead@64')])
    cost.measure(ARCHS)
    assert cost.total(ARCHS[1]) == 61.44 and again.budget.failures(ARCHS) == {}


def test_one_that_lacks_memory_beside_others_is_measured_alone(prepared):
    _, cost, _ = prepared()
    PaperWorkers.failing = {'RetinaHead@64': 'out of memory beside others', 'GFLHead@96': 'out of memory'}
    cost.measure([ARCHS[0], ARCHS[1], ARCHS[3]])
    assert measured([ARCHS[0], ARCHS[1], ARCHS[3]], [ARCHS[1], ARCHS[0]], [ARCHS[1], ARCHS[3]])
    assert cost.total(ARCHS[0]) == 40.96 and cost.failure(ARCHS[3]).startswith('out of memory; log: ')


def test_one_that_ran_before_and_fails_now_is_the_machines_fault(prepared):
    _, cost, _ = prepared()
    cost.measure(ARCHS[:2])
    PaperWorkers.failing = {'RetinaHead@64': 'out of memory'}
    with pytest.raises(DetNASError, match='The reference net RetinaHead@64 ran in the first session .* out of memory'):
        cost.measure(ARCHS[2:])
    assert not cost._kept.failed


def test_a_lost_session_is_begun_again(prepared):
    _, cost, lines = prepared()
    cost.spec()
    PaperWorkers.lost = 2
    cost.measure(ARCHS[:1])
    assert cost.total(ARCHS[0]) == 40.96 and 'Lost at attempt 2 of 3' in lines[1]


def test_one_that_kills_its_session_has_failed_if_another_session_finishes_since(prepared):
    _, cost, lines = prepared()
    PaperWorkers.failing = {'GFLHead@64': 'killed'}
    cost.measure(ARCHS[:3])
    assert any('GFLHead@64, RetinaHead@96 was killed 3 times by signal 9' in line for line in lines)
    assert cost.failure(ARCHS[1]) == 'killed 3 times by signal 9 (SIGKILL)'
    assert [cost.total(ARCHS[place]) for place in (0, 2)] == [40.96, 92.16]


@pytest.mark.parametrize('hung', [True, False])
def test_if_none_finishes_since_the_search_stops_with_the_ways_on(prepared, hung):
    """Killed, or hung: the machine may be at fault. With ``fail_lost`` the net is."""
    job, cost, _ = prepared()
    PaperWorkers.failing, PaperWorkers.hung = ({}, 'GFLHead@64') if hung else ({'GFLHead@64': 'killed'}, None)
    ways = r'record it as failed and resume: python \S*search.py .* --fail-lost; to resume and try it again: python '
    why = 'ended, since it made no step for 1800 s .step_limit; the step: measuring GFL' if hung else 'killed 3 times'
    with pytest.raises(DetNASError, match=f'measures the latency of GFLHead@64 was {why}.*log.txt.*{ways}'):
        cost.measure([ARCHS[0], ARCHS[1]])
    assert cost.total(ARCHS[0]) == 40.96, 'what was measured is kept'
    job.fail_lost = True
    cost.measure([ARCHS[0], ARCHS[1]])
    assert why.partition(',')[0] in cost.failure(ARCHS[1])


def test_two_that_are_lost_in_a_row_are_the_machines_fault(prepared):
    _, cost, _ = prepared()
    PaperWorkers.failing = dict.fromkeys(map(SPACE.describe, ARCHS), 'killed')
    with pytest.raises(DetNASError, match='measures the latency of RetinaHead@64 was killed'):
        cost.measure(ARCHS)
    names = [names for names in PaperWorkers.sessions if names]
    assert names[3:] == [['RetinaHead@64']] * 3 + [['GFLHead@64']] * 3 and not cost._kept.failed


@EVALUATORS.register_module(force=True)
class CountsLetters(UntrainedLoss):
    asked: list = []

    def evaluate(self, archs):
        for arch in archs:
            name = self.job.space.describe(arch)
            self.asked.append(name)
            yield Evaluation(dict(score=float(len(name))))

    def weights(self, arch):
        return None


def test_a_candidate_that_cannot_be_measured_is_a_failed_row(digits_folder, tmp_path):
    """It is not evaluated, and the others are; a search that resumes has the same rows, and may measure it again."""
    PaperWorkers.failing = {'GFLHead@64': 'NotImplementedError: no kernel'}
    cost = dict(type='NetLatency', file=str(tmp_path / 'latency.json'), workers=dict(type='PaperWorkers'))
    cfg = search_config(
        tmp_path / 'search', costs=dict(latency=cost), evaluator=dict(type='CountsLetters'),
        strategy=dict(type='ListStrategy', archs=[SPACE.describe(ARCHS[place]) for place in (1, 0, 3)]),
        objectives=[dict(name='score'), dict(name='latency', direction='minimize')], budget=dict(generations=1),
        export=dict(),
    )  # fmt: skip
    CountsLetters.asked = []

    def rows(**options):
        jobs.run(cfg, **options)
        return read_ledger(tmp_path / 'search' / 'ledger.jsonl')[1]

    found = rows()
    expected = [('GFLHead@64', 'failed'), ('RetinaHead@64', 'ok'), ('GFLHead@96', 'ok')]
    assert [(row.arch, row.status) for row in found] == expected
    assert found[0].reason.startswith('latency: NotImplementedError: no kernel; log: ') and found[0].costs == {}
    assert found[1].costs == dict(latency=40.96) and 'GFLHead@64' not in CountsLetters.asked
    PaperWorkers.failing = {}
    assert rows() == found
    assert [row.status for row in rows(retry_failed=True)] == ['ok'] * 3


@SPACES.register_module(force=True)
class OneWithoutNeck(DetectorSpace):
    """One of its detectors does not build."""

    def configure(self, cfg, arch):
        out = super().configure(cfg, arch)
        if arch == ARCHS[1]:
            out['model']['neck'] = dict(type='NoNeck')
        return out


def by_macs(folder, **section):
    own = dict(
        space=dict(type='OneWithoutNeck'), costs=dict(macs=dict(type='NetMacs')), evaluator=dict(type='CountsLetters'),
        strategy=dict(type='ListStrategy', archs=[SPACE.describe(ARCHS[place]) for place in (1, 0)]),
        objectives=[dict(name='score'), dict(name='macs', direction='minimize')], export=dict(),
    )  # fmt: skip
    return search_config(folder, **(own | section))


def test_a_candidate_that_cannot_be_counted_is_a_failed_row(digits_folder, tmp_path):
    """It is not evaluated, and the others are; evaluated again, it is counted again."""
    CountsLetters.asked = []
    cfg = by_macs(tmp_path / 'search')
    for again in (False, True):
        jobs.run(cfg, retry_failed=again)
        failed, other = read_ledger(tmp_path / 'search' / 'ledger.jsonl')[1]
        assert (failed.status, failed.costs, other.status) == ('failed', {}, 'ok') and other.costs['macs'] > 0
        assert failed.reason.startswith("macs: model: 'NoNeck' is not a registered model")
    assert set(CountsLetters.asked) == {'RetinaHead@64'}


def test_one_that_cannot_be_counted_is_within_no_limit(digits_folder, tmp_path):
    lines = []
    cfg = by_macs(tmp_path / 'search', constraints=[dict(cost='macs', high=1e12)])
    job = SearchJob.from_config(cfg, lines.append)
    with pytest.raises(DetNASError, match='search.strategy.archs: GFLHead@64 breaks macs'):
        job.prepare()
        job.strategy.ask(0)
    assert lines == [f'GFLHead@64 cannot be counted and has failed: {job.budget.cost_model("macs").failure(ARCHS[1])}']


def test_a_file_that_is_missing_stops_the_search(digits_folder, tmp_path, monkeypatch):
    """The machine, not the net, is at fault."""

    def gone(*args):
        raise FileNotFoundError('lost.py')

    monkeypatch.setattr(counting, 'count_detector_macs', gone)
    job = SearchJob.from_config(by_macs(tmp_path / 'search'))
    job.prepare()
    with pytest.raises(DetNASError, match='RetinaHead@64 cannot be counted: FileNotFoundError: lost.py'):
        job.budget.measure(ARCHS[:1])
    assert job.budget.cost_model('macs')._failed == {}
