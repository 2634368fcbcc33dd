"""Measuring the latency of a space: its subject, the nets to compare with, errors."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine.latency import measure_latency, measured_costs, subject_of
from detnas_mm.search import SearchJob, UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace, StructureMacs
from detnas_mm.systems.mae_det.latency import nets_to_check
from detnas_mm.systems.mae_det.structure import RESNET50
from detnas_mm.testing import ToySpace


def config(space, **search):
    return Config(dict(search=dict(space=space, objectives=[dict(name='entropy')], **search)))


def test_spaces_name_what_is_measured_of_them():
    assert subject_of(MAEDetSpace()).__name__ == 'MAEDetLatencySubject' and not subject_of(MAEDetSpace()).needs_model
    assert subject_of(DetNASSpace()).__name__ == 'DetNASLatencySubject' and subject_of(DetNASSpace()).needs_model
    toy = ToySpace()
    assert subject_of(toy) is None
    toy.latency_subject = 'NoSuchSubject'
    with pytest.raises(
        ValueError, match="ToySpace.latency_subject is 'NoSuchSubject', .* Registered: .*MAEDetLatencySubject"
    ):
        subject_of(toy)


def test_the_measured_latencies_of_a_config():
    costs = dict(macs=dict(type='StructureMacs'), slow=dict(type='detnas_mm.StructureLatency', file='none.json'))
    job = SearchJob.from_config(config(dict(type='MAEDetSpace'), costs=costs))
    assert list(measured_costs(job.budget)) == ['slow'] and measured_costs(job.budget)['slow'].missing


def test_nets_to_check_are_members_of_the_size_that_is_searched():
    space = MAEDetSpace('authors')

    def drawn(seed):
        return nets_to_check(space, (480, 480), 30, np.random.default_rng(seed))

    nets = drawn(0)
    macs = StructureMacs(space)
    assert len(set(nets)) == 30 and space.contains(space.encode(nets)).all()
    assert max(macs.total(net) for net in nets) <= macs.total(RESNET50)
    assert nets == drawn(0) != drawn(1)
    tiny = MAEDetSpace(dict(strides=[2, 2], widths=[8, 8], stem_widths=[8, 8], growth=[1, 1], depths=[1, 1]))
    assert len(nets_to_check(tiny, (64, 64), 30, np.random.default_rng(0))) == tiny.size == 4


def test_what_cannot_be_measured(tmp_path, monkeypatch):
    wide = dict(type='MAEDetSpace', space=dict(widths=[2048, 2048], stem_widths=[2048, 2048], growth=[1, 1]))
    monkeypatch.setattr('detnas_mm.systems.mae_det.latency.MAX_ATTEMPTS', 10_000)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    file = tmp_path / 'a.json'
    cfg = config(wide)
    with pytest.raises(UnmeetableConstraint, match='Only 0 of .* have at most the .* multiply-adds of ResNet-50'):
        measure_latency(cfg, None, file, 'backbone', 480, 'cpu', grid=2)
    with pytest.raises(ValueError, match='For MAEDetSpace part must be backbone; got .detector'):
        measure_latency(cfg, None, file, 'detector', 480, 'cpu')
    with pytest.raises(
        ValueError, match='MAEDetSpace are measured with random weights: leave out the checkpoint net.pth'
    ):
        measure_latency(cfg, 'net.pth', file, 'backbone', 480, 'cpu')
    with pytest.raises(ValueError, match='nets must be 2 or more, for the check; got 1'):
        measure_latency(cfg, None, file, 'backbone', 480, 'cpu', nets=1)
    with pytest.raises(ValueError, match='no CUDA device'):
        measure_latency(cfg, None, file, 'backbone', 480, 'cuda')
    with pytest.raises(ValueError, match='ToySpace has no latency_subject.*tools/search.py CONFIG --measure'):
        measure_latency(config(dict(type='ToySpace')), None, file, 'backbone', 480, 'cpu')
    with pytest.raises(ValueError, match='DetNASSpace has no widths to choose: leave out --grid 3'):
        measure_latency(config(dict(type='DetNASSpace')), None, file, 'backbone', 480, 'cpu', grid=3)
    assert not file.exists()
