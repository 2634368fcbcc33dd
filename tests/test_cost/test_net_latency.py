"""Latency of whole nets as a cost: its file, sessions and messages, with workers that take no time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config

from detnas_mm.errors import DetNASError
from detnas_mm.latency import NetLatency, NetMacs
from detnas_mm.latency.net_file import NetFile
from detnas_mm.latency.whole import loaded, whole_net
from detnas_mm.search import SearchJob
from detnas_mm.spaces.images import RGB
from detnas_mm.testing import check_cost_model
from tests.test_cost.paper import ARCHS, SPACE, VERSIONS, PaperWorkers, measured
from tests.test_toys.detectors import search_config


def test_nets_are_measured_once_and_kept(prepared, tmp_path):
    _, cost, lines = prepared()
    cost.measure(ARCHS[:2])
    assert measured(ARCHS[:2]) and lines == [
        'Latency of 2 nets before training: 40.960 to 61.440 ms; median spread between rounds (IQR): 1.0%'
    ]
    assert [cost.total(arch) for arch in ARCHS[:2]] == [40.96, 61.44] and cost.spread(ARCHS[0]) == 0.4096
    _, again, lines = prepared()
    assert again.totals(SPACE.encode(ARCHS[:2])).tolist() == [40.96, 61.44] and lines == []
    assert measured(ARCHS[:2]), 'nothing was measured twice'
    assert again.spec() == cost.spec() and cost.spec()['device']['name'] == 'Analytical Engine'
    assert not any((tmp_path / 'latency.json.sessions').iterdir())
    check_cost_model(again, SPACE)
    PaperWorkers.pace = 7.0
    assert again.totals(SPACE.encode(ARCHS)).tolist() == [40.96, 61.44, 92.16, 138.24]


def test_sessions_are_comparable(prepared, tmp_path):
    """A machine that has become slower by half, for one of the two nets in common a little more."""
    _, cost, lines = prepared()
    cost.measure(ARCHS[:3])
    PaperWorkers.pace = 1.5
    PaperWorkers.unlike = PaperWorkers.unlike | {'RetinaHead@96': 1.21}
    try:
        cost.measure(ARCHS[3:])
    finally:
        PaperWorkers.unlike = dict.fromkeys(PaperWorkers.unlike, 1.0)
    assert measured(ARCHS[:3], [ARCHS[0], ARCHS[2], ARCHS[3]]), 'in turn with the quickest and the slowest'
    # The nets in common took 1.5 and 1.5 * 1.21 times as long: 1.5 * 1.1 together.
    assert cost.total(ARCHS[3]) == pytest.approx(138.24 * 1.5 / (1.5 * 1.1))
    assert cost.spread(ARCHS[3]) == pytest.approx(0.1 * cost.total(ARCHS[3]))
    assert cost.total(ARCHS[0]) == 40.96, 'what stands in the file never changes'
    session = json.loads((tmp_path / 'latency.json').read_text())['machines'][0]['sessions'][1]
    assert session['ratio'] == pytest.approx(1 / 1.65) and session['unlike'] == pytest.approx(0.1)
    assert 'divided by 1.650, the slowdown of the reference nets' in lines[1] and '(they differ by 10.0%)' in lines[1]
    assert 'The machine was busy' in lines[1]


def test_memory_bounds_a_session(prepared):
    _, cost, _ = prepared(at_once=2)
    cost.measure(ARCHS)
    assert measured(ARCHS[:2], ARCHS)


def test_numbers_of_other_machines_are_kept_and_not_used(prepared, tmp_path, monkeypatch):
    _, cost, _ = prepared()
    cost.measure(ARCHS[:2])
    first = json.loads((tmp_path / 'latency.json').read_text())['machines'][0]
    monkeypatch.setattr(PaperWorkers, 'machine', PaperWorkers.machine | dict(versions=VERSIONS | dict(torch='2.11.0')))
    _, cost, lines = prepared()
    cost.measure(ARCHS[:1])
    assert len(lines) == 2 and 'has latencies of 2 nets of Analytical Engine, 1 thread (torch 2.10.0, ' in lines[0]
    assert 'They are not used: this is Analytical Engine, 1 thread (torch 2.11.0, ' in lines[0]
    there = json.loads((tmp_path / 'latency.json').read_text())['machines']
    assert there[0] == first and len(there) == 2 and measured(ARCHS[:2], ARCHS[:1])
    monkeypatch.setattr(PaperWorkers, 'machine', PaperWorkers.machine | dict(versions=VERSIONS))
    with pytest.raises(DetNASError, match='was measured on Analytical Engine, 1 thread, those of others on'):
        cost.measure(ARCHS[2:])


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('{', 'is no JSON'),
        ('{"schema": 1, "part": "detector"}', 'it has another schema or kind'),
        (
            json.dumps(dict(schema=1, kind='latencies of whole nets', machines=[dict(nets={})])),
            'lacks device, versions',
        ),
    ],
)
def test_other_files_are_left_alone(prepared, tmp_path, content, match):
    (tmp_path / 'other.json').write_text(content)
    _, cost, _ = prepared(file='other.json')
    with pytest.raises(DetNASError, match=f'other.json is no file of latencies of whole nets.*{match}.*Name another'):
        cost.measure(ARCHS)
    assert (tmp_path / 'other.json').read_text() == content


def test_limits_on_what_is_not_known_beforehand(prepared):
    job, cost, _ = prepared(constraints=[dict(cost='latency', low=50, high=100)])
    budget = job.budget
    assert cost.bounds() == (0, np.inf) and not budget.idle_constraints()
    assert budget.range_text().startswith('This space has latency in a range that is not known beforehand (ms an image')
    assert budget.lower_bounds() == budget.upper_limits() == list(budget.constraints)
    assert budget.allows(ARCHS).tolist() == [False, True, True, False]
    assert budget.range_text().startswith(
        'This space has latency from 40.96 to 138.24 ms among 4 nets so far (ms an image'
    )


def test_few_candidates_are_measured_in_vain(prepared):
    """As many are drawn as are needed, and those that break a limit which costs nothing are not measured."""
    job, _, _ = prepared(constraints=[dict(cost='latency', high=70)])
    proposals = job.strategy.ask(0)
    assert {SPACE.describe(p.arch) for p in proposals} == {'RetinaHead@64', 'GFLHead@64'}
    assert all(len(names) <= 4 + 2 for names in PaperWorkers.sessions)


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(device='tpu'), "device must be 'cpu' or 'cuda'; got 'tpu'"),
        (dict(threads=0), 'threads must be a whole number of at least 1'),
        (dict(pace=dict(round=3)), 'pace must be a dict such as'),
        (dict(pace=dict(rounds=1)), 'rounds must be at least 2'),
        (dict(at_once=0), 'at_once must be'),
        (dict(step_limit=0), 'step_limit must be seconds, more than 0; got 0'),
        (dict(workers=dict(type='NoWorkers')), "Unknown workers 'NoWorkers'"),
    ],
)
def test_bad_settings(prepared, changes, match):
    with pytest.raises(ValueError, match=match):
        prepared(**changes)


def test_without_a_search_there_is_no_config(tmp_path):
    with pytest.raises(DetNASError, match='NetLatency needs the searched config'):
        NetLatency(SPACE, tmp_path / 'a.json', workers=dict(type='PaperWorkers')).measure(ARCHS)


def test_what_decides_a_latency(digits_folder, tmp_path):
    """Model and size; neither pretrained weights nor what is no part of the model."""
    cfg = search_config(tmp_path).to_dict()
    cfg['model']['test_cfg']['score_thr'] = 0.05
    net = whole_net(SPACE, cfg, ARCHS[0])
    assert (net.arch, net.input_size, net.channels) == ('RetinaHead@64', (64, 64), RGB)
    read = Config.fromstring(net.text, '.py')
    assert read.model.test_cfg.score_thr == 0 and read.model.test_cfg.nms_pre == cfg['model']['test_cfg']['nms_pre']
    cfg['model']['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='a.pth')
    cfg['work_dir'] = 'elsewhere'
    assert whole_net(SPACE, cfg, ARCHS[0]) == net
    assert whole_net(SPACE, cfg, ARCHS[2]).key != net.key
    cfg['model']['test_cfg']['nms_pre'] = 17
    assert whole_net(SPACE, cfg, ARCHS[0]).key != net.key
    for part in ('train', 'test', 'val'):
        pipeline = cfg[f'{part}_dataloader']['dataset']['pipeline'] if cfg.get(f'{part}_dataloader') else []
        pipeline[:] = [step for step in pipeline if step['type'] != 'Resize']
    with pytest.raises(DetNASError, match=r'RetinaHead@64: no step of its test pipeline has a scale.*input_size='):
        whole_net(SPACE, cfg, ARCHS[0])
    assert whole_net(SPACE, cfg, ARCHS[0], (32, 48)).input_size == (32, 48)
    with pytest.raises(DetNASError, match='RetinaHead@64: DetectorSpace.configure returns no whole detector'):
        whole_net(SPACE, cfg | dict(model=dict(type='RetinaNet', bbox_head={})), ARCHS[0])


def test_thresholds_of_all_stages():
    model = dict(
        test_cfg=dict(rpn=dict(nms_pre=9), rcnn=dict(score_thr=0.3)), neck=dict(init_cfg=[dict(type='Pretrained')])
    )
    out = loaded(model)
    assert out['test_cfg'] == dict(rpn=dict(nms_pre=9), rcnn=dict(score_thr=0.0)) and out['neck']['init_cfg'] == []
    assert model['test_cfg']['rcnn']['score_thr'] == 0.3


def test_multiply_adds_of_whole_detectors(digits_folder, tmp_path):
    cfg = search_config(tmp_path, costs=dict(macs=dict(type='NetMacs')), constraints=[dict(cost='macs', high=1e7)])
    job = SearchJob.from_config(cfg)
    job.prepare()
    cost = job.budget.cost_model('macs')
    assert isinstance(cost, NetMacs)
    check_cost_model(cost, SPACE)
    small, large = cost.total(ARCHS[0]), cost.total(ARCHS[2])
    assert large == 2.25 * small, 'RetinaNet has convolutions alone'


def test_two_processes_wait_for_one_another(prepared, tmp_path):
    """Values that the other process has measured meanwhile are read from the file."""
    _, cost, lines = prepared()
    _, other, _ = prepared()
    cost.spec()
    other.spec()
    other.measure(ARCHS[:2])
    cost.measure(ARCHS[:2])
    assert measured(ARCHS[:2]) and lines == []
    assert NetFile(tmp_path / 'latency.json', cost.machine).nets == other._kept.nets


def test_a_search_goes_on_with_the_file_that_it_began_with_alone(prepared, tmp_path):
    _, cost, _ = prepared()
    known = dict(zip(ARCHS, cost.totals(SPACE.encode(ARCHS)).tolist()))
    prepared()[1].confirm(known)
    with pytest.raises(DetNASError, match=r'has 40.96 ms for RetinaHead@64, and the ledger has 41 ms'):
        prepared()[1].confirm(known | {ARCHS[0]: 41.0})
    (tmp_path / 'latency.json').unlink()
    job, cost, _ = prepared()
    with pytest.raises(
        DetNASError, match=r'latency.json has no latency for RetinaHead@64.*Restore the file of search.costs.latency'
    ):
        cost.confirm(known)
    row = SimpleNamespace(arch='GFLHead@64', costs=dict(latency=61.44))
    with pytest.raises(DetNASError, match='GFLHead@64'):
        job.budget.confirm([row])


def test_another_size_where_pipelines_name_none_is_another_search(prepared):
    assert prepared(input_size=(64, 96))[1].spec()['input_size'] == [64, 96]
    assert 'input_size' not in prepared()[1].spec()
