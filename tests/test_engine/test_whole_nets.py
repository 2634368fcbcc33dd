"""A search for the front of whole detectors by measured latency, also killed and resumed."""

import copy
import json

import matplotlib.image
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from detnas_mm.engine import found as found_module
from detnas_mm.engine.measure import check_device, search_and_measure
from detnas_mm.errors import DetNASError
from detnas_mm.latency.device import describe_device
from detnas_mm.latency.text import UNSTEADY
from detnas_mm.latency.timing import Pace
from detnas_mm.registry import EVALUATORS
from detnas_mm.search import Evaluation, SearchJob, read_ledger
from tests import jobs
from tests.test_cost.paper import PaperWorkers, paper  # noqa: F401 (its workers are new for every test)
from tests.test_toys.detectors import UntrainedLoss, search_config

FRONT = [dict(name='score'), dict(name='latency', direction='minimize')]
QUICK = dict(rounds=2, min_time=0, pause=0)


@EVALUATORS.register_module(force=True)
class RescoredLoss(UntrainedLoss):
    """Its search-val is the test set of the config."""

    def rescoring(self, cfg):
        return copy.deepcopy(cfg)


@EVALUATORS.register_module(force=True)
class EndsEarly(UntrainedLoss):
    """Counts letters; is killed at the third candidate, once."""

    left = 2

    def evaluate(self, archs):
        for arch in archs:
            if not self.left:
                type(self).left = -1
                raise KeyboardInterrupt
            type(self).left -= 1
            yield Evaluation(dict(score=float(len(self.job.space.describe(arch)))))

    def weights(self, arch):
        return None


def by_latency(folder, evaluator, workers=None, **section):
    cost = dict(type='NetLatency', file=str(folder / 'latency.json'), pace=QUICK)
    cost |= dict(workers=workers) if workers else {}
    return search_config(
        folder / 'search',
        evaluator=dict(type=evaluator),
        strategy=dict(type='ParetoStrategy', population=2, parents=2),
        objectives=FRONT,
        costs=dict(latency=cost),
        export=dict(),
        **section,
    )


@pytest.mark.slow
def test_front_members_are_measured_again_each_at_its_own_size(digits_folder, tmp_path):
    """A process of its own measures before the search; afterwards images of search-val are looked at, with weights."""
    cfg = by_latency(tmp_path, 'RescoredLoss', budget=dict(generations=2))
    lines = []
    with DefaultScope.overwrite_default_scope('mmdet'):
        found = search_and_measure(cfg, None, 'cpu', Pace(**QUICK), threads=1, say=lines.append)
    (machine,) = json.loads((tmp_path / 'latency.json').read_text())['machines']
    latencies = {net['arch']: net['ms'] for net in machine['nets'].values()}
    _, rows = read_ledger(tmp_path / 'search' / 'ledger.jsonl')
    assert len(rows) == 4 and {row.arch: row.costs['latency'] for row in rows} == latencies
    assert all(net['boxes'] for net in machine['nets'].values()), 'no untrained net is sure of anything'
    assert machine['device']['threads'] == 1 and machine['clock'] == 'processor time of the thread'
    first, second = machine['sessions']
    assert first['ratio'] == 1 and set(second['references']) == set(machine['references'])
    assert found['untrained'] and found['images'] == 'search-val' and found['latency'] == 'latency'
    for net in found['nets']:
        size = int(net['arch'].partition('@')[2])
        assert net['input_size'] == [size, size] and net['as_measured']['latency'] == net['measured_ms']
        assert net['predicted_ms'] == pytest.approx(latencies[net['arch']], abs=1e-5) and 'tested' in net
    sizes = {tuple(net['input_size']) for net in found['nets']}
    assert found['input_size'] is None if len(sizes) > 1 else tuple(found['input_size']) in sizes
    text = '\n'.join(lines)
    differ = abs(found['predictions']['factor'] - 1) > UNSTEADY  # by chance, where nets are so small
    assert ('fully loaded post-processing' in text) == differ and text.count('search-val') >= 2
    assert matplotlib.image.imread(tmp_path / 'search' / 'front.png').std() > 0.02


def test_rows_are_equal_after_a_kill(digits_folder, tmp_path):
    """With the file of latencies; after the kill only the missing ones are measured."""
    rows = {}
    for name, left in (('whole', -1), ('killed', 2)):
        EndsEarly.left, PaperWorkers.pace = left, 1.0
        cfg = by_latency(tmp_path / name, 'EndsEarly', dict(type='PaperWorkers'), budget=dict(generations=2))
        if left > 0:
            with pytest.raises(KeyboardInterrupt):
                jobs.run(cfg)
            assert len(read_ledger(tmp_path / name / 'search' / 'ledger.jsonl')[1]) == 2
            PaperWorkers.pace = 1.25  # the nets in common are measured again, and take that off
        jobs.run(cfg)
        _, found = read_ledger(tmp_path / name / 'search' / 'ledger.jsonl')
        rows[name] = [(row.id, row.costs, row.metrics, row.origin, row.parents) for row in found]
    assert rows['whole'] == rows['killed'] and len(rows['whole']) == 4


def test_on_another_machine_than_the_candidates_nothing_is_measured(digits_folder, tmp_path):
    EndsEarly.left = -1
    cfg = by_latency(tmp_path, 'EndsEarly', dict(type='PaperWorkers'), budget=dict(generations=1))
    lines = []
    assert search_and_measure(cfg, None, 'cpu', Pace(**QUICK), threads=1, say=lines.append) is None
    device = 'on the same device only: Analytical Engine, 1 thread, on which workers of the cost have measured. '
    assert lines[-1].startswith('Latencies are those before training. ') and device in lines[-1]
    assert '. Run there: ' in lines[-1] and ' --found --work-dir ' in lines[-1]


def test_without_weights_boxes_are_as_many_as_before_training(digits_folder, tmp_path, monkeypatch):
    """A net with random weights finds none above its own threshold, so it would seem faster than any trained one."""
    here = dict(device=describe_device('cpu', 1), versions=PaperWorkers.machine['versions'])
    monkeypatch.setattr(PaperWorkers, 'machine', here)
    EndsEarly.left = -1
    job, _ = jobs.run(by_latency(tmp_path, 'EndsEarly', dict(type='PaperWorkers'), budget=dict(generations=1)))
    thresholds = []

    def built(cfg, checkpoint, inputs):
        assert checkpoint is None
        thresholds.append(cfg.model.test_cfg.score_thr)

    def on_paper(runs, inputs, watch, pace, progress, before):
        seconds = {name: np.full((pace.rounds, 1), 0.005) for name in runs}
        return seconds, seconds

    monkeypatch.setattr(found_module, 'load_net', built)
    monkeypatch.setattr(found_module, 'measure_nets', on_paper)
    lines = []
    nets = found_module.measure_found(job, say=lines.append)['nets']
    assert thresholds == [0.0] * len(nets) and nets
    assert '\n'.join(lines).count('no weights: measured as before training') == len(nets)


def test_what_was_found_is_measured_on_the_same_device(digits_folder, tmp_path):
    job = SearchJob.from_config(by_latency(tmp_path, 'RescoredLoss'))
    check_device(job, 'cpu', None)
    with pytest.raises(
        DetNASError, match='measures on cpu with threads=1, but the command has --device cuda. Use the sa'
    ):
        check_device(job, 'cuda', None)
    with pytest.raises(DetNASError, match='the command has --device cpu --threads 2'):
        check_device(job, 'cpu', 2)
    check_device(SearchJob.from_config(Config(dict(search=search_config(tmp_path).search))), 'cuda', 2)
