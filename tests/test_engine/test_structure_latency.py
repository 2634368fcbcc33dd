"""What is measured of a space of structures: who stands alone, which nets the check takes, what is refused."""

import pytest
import torch
from detnas_mm.engine.structure_latency import measure_structure_latency, nets_to_check, standalone_space

from detnas_mm.engine.latency import latency_cost
from detnas_mm.search import UnmeetableConstraint
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace, StructureMacs
from detnas_mm.systems.mae_det.structure import RESNET50
from tests import digits


def test_spaces_whose_nets_stand_alone(tmp_path):
    cfg = dict(search=dict(space=dict(type='MAEDetSpace', space='relaxed')))
    assert standalone_space(cfg).spec() == MAEDetSpace('relaxed').spec()
    assert standalone_space(digits.config('detnas-digits_search_retinanet', tmp_path)) is None
    assert standalone_space({}) is None


def test_the_first_measured_latency_of_a_config():
    costs = dict(macs=dict(type='StructureMacs'), slow=dict(type='detnas_mm.StructureLatency', file='a.json'))
    assert latency_cost(dict(search=dict(costs=costs))) == ('slow', costs['slow'])
    assert latency_cost(dict(search=dict(costs=dict(macs=dict(type='NoSuchCost'))))) == (None, {})


def test_nets_to_check_are_members_of_the_size_that_is_searched():
    space = MAEDetSpace('authors')
    nets = nets_to_check(space, (480, 480), 30, seed=0)
    macs = StructureMacs(space)
    assert len(set(nets)) == 30 and space.contains(space.encode(nets)).all()
    assert max(macs.total(net) for net in nets) <= macs.total(RESNET50)
    assert nets == nets_to_check(space, (480, 480), 30, seed=0) != nets_to_check(space, (480, 480), 30, seed=1)
    tiny = MAEDetSpace(dict(strides=[2, 2], widths=[8, 8], stem_widths=[8, 8], growth=[1, 1], depths=[1, 1]))
    assert len(nets_to_check(tiny, (64, 64), 30, seed=0)) == tiny.size == 4


def test_what_cannot_be_measured(tmp_path, monkeypatch):
    wide = MAEDetSpace(dict(widths=[2048, 2048], stem_widths=[2048, 2048], growth=[1, 1]))
    monkeypatch.setattr('detnas_mm.engine.structure_latency.MAX_ATTEMPTS', 10_000)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    file = tmp_path / 'a.json'
    with pytest.raises(UnmeetableConstraint, match='0 have at most the .* multiply-adds of ResNet-50'):
        measure_structure_latency(wide, file, 480, 'cpu')
    with pytest.raises(ValueError, match='of a MAEDetSpace; this search has'):
        measure_structure_latency(DetNASSpace('small'), file, 480, 'cpu')
    with pytest.raises(ValueError, match='2 nets or more; got 1'):
        measure_structure_latency(wide, file, 480, 'cpu', nets=1)
    with pytest.raises(ValueError, match='no CUDA device'):
        measure_structure_latency(wide, file, 480, 'cuda')
    assert not file.exists()
