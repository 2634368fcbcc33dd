"""Published networks: their totals are counted on the nets that are built."""

import pytest

from detnas_mm import zoo
from detnas_mm.systems.detnas import DetNASSpace, MacsTable, ParamsTable
from detnas_mm.systems.mae_det import MAEDetSpace, StructureLayers, StructureMacs, StructureParams
from detnas_mm.systems.nats import DilationSpace

torch = pytest.importorskip('torch')

from detnas_mm.cost.count import count_macs, count_params  # noqa: E402
from detnas_mm.systems.detnas import DetNASNet  # noqa: E402
from detnas_mm.systems.mae_det import MAEDetNet  # noqa: E402
from detnas_mm.systems.nats import DilatedConv2d, dilated_backbone  # noqa: E402

DETNAS, MAEDET, DILATED = (
    [name for name, net in zoo.nets().items() if net.space_type is kind]
    for kind in (DetNASSpace, MAEDetSpace, DilationSpace)
)


@pytest.mark.parametrize('name', DETNAS)
def test_totals_are_counted_on_the_built_net(name):
    net = zoo.get(name)
    with torch.device('meta'):
        built = DetNASNet(name)
    assert built.arch == net.architecture() and built.space.spec() == net.build_space().spec()
    assert built.channel_split == net.channel_split
    assert count_params(built) == net.params
    assert count_macs(built, net.input_size) == net.macs
    assert MacsTable(net.space, net.input_size).total(net.architecture()) == net.macs
    assert ParamsTable(net.space).total(net.architecture()) == net.params


@pytest.mark.parametrize('name', MAEDET)
def test_totals_of_structures_are_counted_on_the_built_net(name):
    net = zoo.get(name)
    with torch.device('meta'):
        built = MAEDetNet(name)
    assert built.arch == net.architecture()
    assert (count_params(built), count_macs(built, net.input_size)) == (net.params, net.macs)
    convs = [key for key, m in built.named_modules() if isinstance(m, torch.nn.Conv2d) and 'shortcut' not in key]
    assert len(convs) == net.layers == StructureLayers().total(name)
    assert StructureMacs(input_size=net.input_size).total(name) == net.macs
    assert StructureParams().total(name) == net.params


@pytest.mark.parametrize('name', DILATED)
def test_totals_of_dilated_nets_are_counted_on_the_built_net(name):
    net = zoo.get(name)
    settings = {key: value for key, value in net.backbone.items() if key != 'type'}
    with torch.device('meta'):
        built = dilated_backbone(net.backbone['type'], name, **settings)
    assert (count_params(built), count_macs(built, net.input_size)) == (net.params, net.macs)
    assert sum(type(module) is DilatedConv2d for module in built.modules()) == net.arch.count('|') + 1
    assert net.build_space().spec() == DilationSpace(net.backbone, 'ic-conv', genotypes=net.largest).spec()
    assert net.build_space().describe(net.architecture()) == net.arch


def test_patterns_of_ic_conv():
    """Shares of channels that keep the plain dilation, as the reference has them; one pattern has two names."""
    net = zoo.get('ic-resnet50-detection')
    shares = net.build_space().shares(net.architecture())
    assert [round(shares[f'layer{n}']['1x1'], 2) for n in (1, 2, 3, 4)] == [0.59, 0.52, 0.37, 0.31]
    assert net.arch.startswith('42:1x1+5:1x2+1x3+4:1x4+4:2x1+3:3x1+3x3+3x4+2:4x1+4x4|30:1x1+6:1x2+')
    assert zoo.get('ic-resnet101-detection').arch == zoo.get('ic-resnet101-segmentation').arch
    assert len({zoo.get(name).arch for name in DILATED}) == len(DILATED) - 1
    assert {name for name in DILATED if 'unconfirmed' in zoo.get(name).source} == {'ic-resnext101-32x4d'}
    assert zoo.get('ic-resnext101-32x4d').arch.startswith('76:1x1+4:1x2+')  # 19 and 1 of its conv-groups


def test_figures_of_the_reference_and_the_paper():
    net = zoo.get('coco-fpn-300m')
    assert (net.params, net.macs) == (1_849_680, 288_082_368)
    assert net.arch == '2120|2112|33130031|3132'
    assert zoo.get('coco-retinanet-300m').arch == '2311|3213|31113320|3333'
    assert zoo.get('clsnasnet-300m').arch == '0031|1100|20211020|2132'
    large, wide = zoo.get('coco-fpn-1.3g'), zoo.get('coco-fpn-3.8g')
    assert large.arch == wide.arch == '00312102|03123320|2113202221310333|13333333'
    # the paper's rounded figures; all of the 300M nets keep their constraint
    assert large.macs == pytest.approx(1.3e9, rel=0.03) and wide.macs == pytest.approx(3.8e9, rel=0.04)
    assert all(n.macs < 300e6 for n in zoo.nets().values() if n.space == 'small')


@pytest.mark.parametrize('name', zoo.nets())
def test_entries_are_complete(name):
    net = zoo.nets()[name]
    size = {'smnas-e0': (512, 512), 'smnas-e3': (600, 800)}.get(name, (480, 480) if name in MAEDET else (224, 224))
    split = 'even_odd' if name in DETNAS else None
    assert net.name == name and net.source and net.input_size == size and getattr(net, 'channel_split', None) == split


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="named 'detnasnet'. Names: coco-fpn-300m, .*coco-fpn-3.8g"):
        zoo.get('detnasnet')
    with pytest.raises(ValueError, match="named 'maedet-s'. Names: coco-fpn-300m, .*coco-fpn-3.8g\\.$"):
        zoo.get('maedet-s', DetNASSpace)
