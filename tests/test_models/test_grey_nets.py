"""Nets of grey images and of four channels: what is counted, scored, cut out and converted is what is built."""

import numpy as np
import pytest
import torch
from megvii_reference import make_state_dict
from tinynas_reference import randomised

from detnas_mm.cost.count import count_macs, count_params, count_peak_memory
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators import OneShotEvaluator
from detnas_mm.latency.inputs import Inputs
from detnas_mm.models.subnet import extract_subnet, max_difference
from detnas_mm.systems.detnas import (
    DetNASNet,
    DetNASSpace,
    DetNASSupernet,
    MacsTable,
    ParamsTable,
    PeakMemoryTable,
    convert_megvii,
)
from detnas_mm.systems.detnas.latency import DetNASLatencySubject
from detnas_mm.systems.mae_det import (
    EntropyScore,
    MAEDetNet,
    MAEDetSpace,
    StructureDepthToWidth,
    StructureFlops,
    StructureMacs,
    StructureParams,
    convert_tinynas,
)
from detnas_mm.systems.mae_det.entropy import WEIGHTS
from detnas_mm.systems.mae_det.entropy_forward import forward_entropy
from detnas_mm.systems.mae_det.latency import MAEDetLatencySubject, NetBuilder
from detnas_mm.systems.mae_det.structure import RESNET50, read_structure, to_dicts
from tests.jobs import make_job

TINY = dict(stem=4, channels=(8, 16), blocks=(1, 2))
STRUCTURE = '16k3s2|24k3s2x2b16|64k3s2x1b24|72k3s2x1b24|80k5s2x1b32'
OTHERS = pytest.mark.parametrize('in_channels', [1, 4])


@OTHERS
def test_costs_of_paths_are_those_of_the_built_nets(in_channels):
    space = DetNASSpace(TINY, in_channels)
    tables = MacsTable(space, (33, 47)), ParamsTable(space), PeakMemoryTable(space, (33, 47))
    for arch in space.sample_many(np.random.default_rng(0), 4):
        net = DetNASNet(arch, space)
        counted = count_macs(net, (33, 47)), count_params(net), count_peak_memory(net, (33, 47))
        assert tuple(table.total(arch) for table in tables) == counted
        assert net(torch.zeros(1, in_channels, 33, 47))[0].shape[1] == 8
    assert MacsTable(TINY, 33).total(arch) != MacsTable(space, 33).total(arch)


@OTHERS
def test_costs_and_scores_of_structures_are_those_of_the_built_nets(in_channels):
    space, net = MAEDetSpace('relaxed', in_channels), MAEDetNet(STRUCTURE, in_channels=in_channels)
    macs = StructureMacs(space, (64, 96)).total(STRUCTURE)
    assert (macs, StructureParams(space).total(STRUCTURE)) == (count_macs(net, (64, 96)), count_params(net))
    stem = net.stem.conv.weight[0].numel() * 16 * 32 * 48
    flops, usual = (StructureFlops(own, (64, 96)).total(STRUCTURE) for own in (space, MAEDetSpace('relaxed')))
    assert flops - usual == stem - stem * 3 // in_channels
    weights = (0, *WEIGHTS[1:])
    closed = EntropyScore(weights, input_size=64, in_channels=in_channels)
    assert closed.score(STRUCTURE) == closed.score(to_dicts(read_structure(STRUCTURE), in_channels))
    assert forward_entropy(net, WEIGHTS[1:], 64, repeats=16) == pytest.approx(closed.score(STRUCTURE), rel=0.01)
    rho, narrow = StructureDepthToWidth(space).total(STRUCTURE), StructureDepthToWidth('relaxed').total(STRUCTURE)
    assert (rho > narrow) == (in_channels < 3)


@OTHERS
def test_a_net_computes_what_its_supernet_does(in_channels):
    supernet = DetNASSupernet(TINY, in_channels=in_channels)
    supernet.init_weights()
    path = supernet.space.parse('1|23')
    net = extract_subnet(supernet, path, dict(type='detnas_mm.DetNASSupernet', space=TINY, in_channels=in_channels))
    assert net.in_channels == in_channels
    assert max_difference(supernet, net, path, torch.randn(2, in_channels, 33, 47)) == 0


def test_published_nets_take_three_channels():
    for space in (None, DetNASSpace('small', 1)):
        with pytest.raises(DetNASError, match="'coco-fpn-300m' is a published net for .* got in_channels=1. Write"):
            DetNASNet('coco-fpn-300m', space, in_channels=1)
    with pytest.raises(DetNASError, match="'coco-fpn-300m' is a published net"):
        DetNASNet('coco-fpn-300m', dict(DetNASSpace('small').spec(), in_channels=4))
    with pytest.raises(DetNASError, match="'maedet-s' is a published net, .* got in_channels=4. Use its structure"):
        MAEDetNet('maedet-s', in_channels=4)
    with torch.device('meta'):
        assert DetNASNet('coco-fpn-300m', in_channels=3).in_channels == MAEDetNet('maedet-s').in_channels == 3


def test_a_structure_says_its_channels():
    dicts = to_dicts(read_structure(STRUCTURE), 1)
    assert MAEDetNet(dicts).stem.conv.in_channels == MAEDetNet(dicts, in_channels=1).in_channels == 1
    with pytest.raises(DetNASError, match='has in=1; images have 4 channels'):
        MAEDetNet(dicts, in_channels=4)
    for value in (0, '1', True):
        with pytest.raises(DetNASError, match='in_channels must be a whole number of at least 1'):
            MAEDetNet(STRUCTURE, in_channels=value)


def test_a_search_whose_space_is_not_the_supernets_is_refused():
    model = torch.nn.Sequential(DetNASSupernet(TINY, in_channels=1))
    loader = dict(batch_size=1, num_workers=0, dataset=dict(type='CocoDataset'))
    evaluator = OneShotEvaluator(loader, dict(type='mmdet.CocoMetric'), None)
    with pytest.raises(DetNASError, match='search.space has in_channels=3, the supernet has in_channels=1'):
        evaluator.setup(make_job(DetNASSpace(TINY)), model)
    with pytest.raises(DetNASError, match='search.space has in_channels=4, the supernet has in_channels=1'):
        DetNASLatencySubject(DetNASSpace(TINY, 4), Inputs('backbone', 32, 'cpu', channels=4), model)


@OTHERS
def test_latencies_are_measured_on_such_images(in_channels):
    inputs = Inputs('backbone', (32, 48), 'cpu', channels=in_channels)
    model = DetNASSupernet(TINY, in_channels=in_channels)
    paths = DetNASLatencySubject(DetNASSpace(TINY, in_channels), inputs, model, dict(space=TINY))
    structures = dict(
        strides=[2, 2], stem_widths=[8, 8], widths=[8, 16], growth=[1, 2], kernels=[3], depths=[1, 1],
        bottlenecks=[8, 8],
    )  # fmt: skip
    built = MAEDetLatencySubject(MAEDetSpace(structures, in_channels), inputs, grid=2)
    with torch.no_grad():
        for subject in (paths, built):
            assert subject.net(subject.space.sample(np.random.default_rng(0)))(inputs.values[0])
    assert NetBuilder('cpu', in_channels)(read_structure(STRUCTURE)).in_channels == in_channels
    (reference,) = MAEDetLatencySubject.reference_backbones(in_channels).values()
    assert reference == dict(type='detnas_mm.MAEDetNet', arch=RESNET50, in_channels=in_channels)


# -- other people's checkpoints ---------------------------------------------------------------------------------------


@OTHERS
def test_checkpoints_of_other_images_are_converted(in_channels):
    theirs = make_state_dict(16, (64, 160, 320, 640), (4, 4, 8, 4), arch='21202112331300313132')
    theirs['first_conv.conv.weight'] = torch.randn(16, in_channels, 3, 3)
    meta = convert_megvii.convert(theirs).meta
    assert meta['name'] is None, 'it is not the published net, whose architecture it has'
    net = DetNASNet(**{key: value for key, value in meta['backbone'].items() if key != 'type'})
    net.load_state_dict(convert_megvii.convert(theirs).state_dict)
    assert net.in_channels == in_channels and net.channel_split == 'even_odd'

    reference = randomised(to_dicts(read_structure(STRUCTURE)))
    reference.block_list[0].conv1 = torch.nn.Conv2d(in_channels, 16, 3, 2, 1, bias=False)
    converted = convert_tinynas.convert(reference.state_dict(), [2] * 5)
    assert converted.meta['backbone'] == dict(type='detnas_mm.MAEDetNet', arch=STRUCTURE, in_channels=in_channels)
    net = MAEDetNet(STRUCTURE, in_channels=in_channels).eval()
    net.load_state_dict(converted.state_dict)
    images = torch.randn(2, in_channels, 64, 96)
    with torch.no_grad():
        assert torch.allclose(net(images)[-1], reference(images), atol=1e-4)
