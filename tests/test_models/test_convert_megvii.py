"""Converted checkpoints of the authors compute what the authors' network computes."""

from collections import OrderedDict

import pytest
import torch
from megvii_reference import forward, make_state_dict
from mmengine.runner import load_checkpoint as load_into

from detnas_mm.registry import MODELS
from detnas_mm.systems.detnas import DetNASNet
from detnas_mm.systems.detnas.convert_megvii import convert, load_checkpoint

SMALL = dict(stem=16, channels=(64, 160, 320, 640), blocks=(4, 4, 8, 4))
REDUCED = dict(stem=4, channels=(8, 16, 24), blocks=(4, 2, 5))
FIXED = '0312|31|20310'  # every operation at stride 1; 0, 3 and 2 at stride 2
IMAGES = torch.randn(2, 3, 65, 47, generator=torch.Generator().manual_seed(5))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def run(converted, images=IMAGES, path=None, **kwargs):
    """The stage outputs of the backbone that the meta names, loaded from the converted tensors."""
    net = MODELS.build({**converted.meta['backbone'], **kwargs})
    prefix = converted.meta['prefix']
    own = {k[len(prefix) :]: v for k, v in converted.state_dict.items() if k.startswith(prefix)}
    net.load_state_dict(own, strict=not kwargs)
    if path is not None:
        net.set_path(path)
    return net.eval()(images)


def equal(ours, theirs):
    """To the last bit: the same operations in the same order, on one machine."""
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert b.abs().max() > 0.1 and torch.isfinite(b).all()
        assert torch.equal(a, b), (a - b).abs().max()
    return True


# -- numerically the authors' net -------------------------------------------------------------------------------------


@pytest.mark.parametrize('arch', [FIXED, '1203|12|01230', '3333|33|33333', '2222|20|22222'])
def test_fixed_nets(arch):
    source = make_state_dict(**REDUCED, arch=arch.replace('|', ''), seed=1)
    converted = convert(source)
    assert converted.meta['arch'] == arch and converted.meta['channel_split'] == 'even_odd'
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'even_odd')
    assert equal(run(converted), outs)


@pytest.mark.parametrize('path', ['03123120310', '12031201230', '33333333333'])
def test_supernets(path):
    source = make_state_dict(**REDUCED, seed=2)
    converted = convert(source)
    assert converted.meta['arch'] is None and converted.meta['channel_split'] == 'shuffle'
    assert converted.meta['backbone']['type'] == 'detnas_mm.DetNASSupernet'
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'shuffle', path)
    assert equal(run(converted, path=path), outs)


def test_the_way_channels_are_dealt_matters_and_can_be_given():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'shuffle')
    assert not torch.allclose(run(convert(source))[-1], outs[-1], atol=1e-2)
    assert equal(run(convert(source, channel_split='shuffle')), outs)


def test_a_published_net_by_name():
    source = make_state_dict(**SMALL, arch='21202112331300313132')
    converted = convert(source)
    assert converted.meta['name'] == 'coco-fpn-300m' and converted.meta['space'] == 'small'
    net = DetNASNet('coco-fpn-300m')
    net.load_state_dict(converted.state_dict, strict=True)
    outs, _ = forward(source, IMAGES[:1], SMALL['blocks'], 'even_odd')
    assert equal(net.eval()(IMAGES[:1]), outs)
    assert convert(source, channel_split='shuffle').meta['name'] is None


def test_a_classifier_through_mmpretrain(tmp_path):
    models = pytest.importorskip('mmpretrain.registry').MODELS
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), last=20, classes=7)
    converted = convert(OrderedDict((f'module.{k}', v) for k, v in source.items()))
    assert converted.meta['num_classes'] == 7 and converted.meta['prefix'] == 'backbone.'
    torch.save(dict(meta=converted.meta, state_dict=converted.state_dict), tmp_path / 'cls.pth')
    classifier = models.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(converted.meta['backbone'], out_indices=()),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=7, in_channels=20),
        )
    )
    load_into(classifier, str(tmp_path / 'cls.pth'), map_location='cpu', strict=True)
    _, logits = forward(source, IMAGES, REDUCED['blocks'], 'even_odd')
    classifier.eval()
    torch.testing.assert_close(classifier(IMAGES, mode='tensor'), logits, rtol=1e-5, atol=1e-5)

    # the same file in a detector's backbone
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'cls.pth'), prefix='backbone.')
    backbone = MODELS.build(dict(converted.meta['backbone'], with_last_conv=False, init_cfg=init_cfg))
    backbone.init_weights()
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'even_odd')
    assert equal(backbone.eval()(IMAGES), outs)


def test_old_checkpoints_without_batch_counters():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), counters=False)
    converted = convert(source)
    assert sum(k.endswith('num_batches_tracked') for k in converted.state_dict) > 30
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'even_odd')
    assert equal(run(converted), outs)


# -- what is inferred -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'stem', 'channels', 'blocks', 'last'),
    [
        ('small', 16, (64, 160, 320, 640), (4, 4, 8, 4), 1024),
        ('large', 48, (96, 240, 480, 960), (8, 8, 16, 8), 1024),
        ('large-3.8g', 72, (172, 432, 864, 1728), (8, 8, 16, 8), 1728),
    ],
)
@pytest.mark.parametrize('classifier', [False, True])
def test_published_spaces_are_recognised(name, stem, channels, blocks, last, classifier):
    arch = ('0231' * 10)[: sum(blocks)]
    source = make_state_dict(stem, channels, blocks, arch, last if classifier else None, 10 if classifier else None)
    meta = convert(source).meta
    assert meta['space'] == name and meta['arch'].replace('|', '') == arch
    assert meta['backbone']['with_last_conv'] == classifier and meta['num_classes'] == (10 if classifier else None)


def test_other_spaces_are_written_out():
    meta = convert(make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))).meta
    assert meta['space'] == dict(stem=4, channels=[8, 16, 24], blocks=[4, 2, 5], last=1024)
    meta = convert(make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), last=20)).meta
    assert meta['space']['last'] == 20 and meta['backbone']['with_last_conv'] and meta['prefix'] == ''


@pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.body.', 'module.backbone.body.'])
def test_prefixes_are_found(prefix):
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    converted = convert({prefix + k: v for k, v in source.items()})
    plain = convert(source)
    assert converted.meta == plain.meta and converted.state_dict.keys() == plain.state_dict.keys()
    assert {k.split('.')[0] for k in plain.state_dict} == {'stem', 'blocks'}


# -- detectors --------------------------------------------------------------------------------------------------------


@pytest.fixture
def detector():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    whole = {f'module.backbone.body.{k}': v for k, v in source.items()}
    heads = ('module.backbone.fpn.fpn_inner1.weight', 'module.rpn.head.conv.weight', 'module.roi_heads.box.fc6.bias')
    return source, {**whole, **{k: torch.zeros(1) for k in heads}}, heads


def test_heads_of_detectors_are_listed_or_left_out(detector):
    source, whole, heads = detector
    with pytest.raises(ValueError, match='belong neither .* cannot be converted .3.*--backbone-only') as error:
        convert(whole)
    assert all(head in str(error.value) for head in heads)
    converted = convert(whole, backbone_only=True)
    assert converted.dropped == heads
    outs, _ = forward(source, IMAGES, REDUCED['blocks'], 'even_odd')
    assert equal(run(converted), outs)


def test_backbone_only_leaves_out_the_classifier_and_keeps_the_last_conv():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), last=20, classes=7)
    converted = convert(source, backbone_only=True)
    assert converted.dropped == ('fc.fc.weight', 'fc.fc.bias')
    assert converted.meta['num_classes'] is None and converted.meta['prefix'] == ''
    assert 'last_conv.conv.bias' in converted.state_dict and 'stem.conv.bias' in converted.state_dict


# -- what does not match ----------------------------------------------------------------------------------------------


def edit(drop=(), add=(), **kwargs):
    source = make_state_dict(**REDUCED, **kwargs)
    return {**{k: v for k, v in source.items() if k not in drop}, **{k: torch.zeros(3) for k in add}}


def test_unmatched_keys_are_listed_both_ways():
    gone = ('features.1.conv.0.bn1b_xception_3x3_branch2a.bias', 'first_conv.conv.bias')
    new = ('features.1.conv.9.weight', 'features.77.conv.0.bias', 'last_conv2.weight')
    for backbone_only in (False, True):
        with pytest.raises(ValueError, match='2 unknown keys and lacks 2') as error:
            convert(edit(gone, new[:2], arch=FIXED.replace('|', '')), backbone_only)
        assert all(key in str(error.value) for key in gone + new[:2])
    with pytest.raises(ValueError, match='cannot be converted') as error:
        convert(edit(add=new[2:], arch=FIXED.replace('|', '')))
    assert 'last_conv2.weight' in str(error.value)


def test_a_supernet_with_an_operation_missing_is_refused():
    source = make_state_dict(**REDUCED)
    with pytest.raises(ValueError, match='0 unknown keys and lacks 15') as error:
        convert({k: v for k, v in source.items() if not k.startswith('features.3.2.')})
    assert 'features.3.2.conv.0.interstellar1d_shufflenet_7x7_branch2a.weight' in str(error.value)


def test_two_operations_in_one_block_of_a_fixed_net_are_refused():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    other = make_state_dict(**REDUCED, arch='1' + FIXED.replace('|', '')[1:])
    with pytest.raises(ValueError, match='unknown keys'):
        convert({**source, **other})


def test_classifier_without_last_conv_is_refused():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), last=20, classes=7)
    with pytest.raises(ValueError, match='and lacks') as error:
        convert({k: v for k, v in source.items() if not k.startswith('last_conv')})
    assert 'last_conv.conv.weight' in str(error.value)


@pytest.mark.parametrize(
    'key', ['features.0.conv.1.interstellar1a_shufflenet_3x3_branch2b_s.weight', 'first_conv.bn.bias', 'fc.fc.weight']
)
def test_shapes_are_checked(key):
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''), last=20, classes=7)
    source[key] = source[key][..., :-1]
    with pytest.raises(ValueError, match=r'(?s)Tensors whose shapes do not fit .* in the net'):
        convert(source)


def test_gaps_are_refused():
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    with pytest.raises(ValueError, match='numbered from 0 without gaps'):
        convert({k: v for k, v in source.items() if not k.startswith('features.2.')})


def test_other_networks_are_refused():
    with pytest.raises(
        ValueError, match=r'no checkpoint of the DetNAS authors: expected keys .*; found:\n  conv1.weight'
    ):
        convert({'conv1.weight': torch.zeros(1)})
    two = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    with pytest.raises(ValueError, match='contains 2 backbones'):
        convert({**two, **{f'ema.{k}': v for k, v in two.items()}})


# -- files ------------------------------------------------------------------------------------------------------------


class NotATensor:
    """Stands for what old training programs pickle along."""


@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: dict(model=s, iteration=3), lambda s: dict(state_dict=s)])
@pytest.mark.parametrize('zipfile', [True, False])
def test_plain_files_are_read(tmp_path, wrap, zipfile):
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    torch.save(wrap(source), tmp_path / 'a.pkl', _use_new_zipfile_serialization=zipfile)
    loaded = load_checkpoint(tmp_path / 'a.pkl')
    assert loaded.keys() == source.keys() and all(torch.equal(loaded[k], source[k]) for k in source)


def test_pickles_need_a_word_of_trust(tmp_path):
    source = make_state_dict(**REDUCED, arch=FIXED.replace('|', ''))
    torch.save(dict(model=source, scheduler=NotATensor()), tmp_path / 'a.pkl')
    with pytest.raises(ValueError, match='more than plain tensors.*--trust-pickle'):
        load_checkpoint(tmp_path / 'a.pkl')
    with pytest.raises(ValueError, match=r'Unsupported global: .*NotATensor') as error:
        load_checkpoint(tmp_path / 'a.pkl')
    assert 'weights_only' not in str(error.value) and len(str(error.value).splitlines()) == 1
    assert load_checkpoint(tmp_path / 'a.pkl', trust_pickle=True).keys() == source.keys()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / 'text').write_text('is not a checkpoint')
    torch.save([1, 2], tmp_path / 'list')
    torch.save(dict(a=torch.zeros(1), epoch=3), tmp_path / 'mixed')
    torch.save({1: torch.zeros(1)}, tmp_path / 'numbers')
    for name, match in (
        ('text', 'is not a checkpoint'),
        ('list', 'holds a list'),
        ('mixed', 'these entries are not tensors: epoch'),
        ('numbers', 'names must be strings; got 1'),
    ):
        with pytest.raises(ValueError, match=match):
            load_checkpoint(tmp_path / name)
    for content in (b'', b'hello', b'b90', b'j_', b'c\x84\x06h-'):  # torch reads the bytes as instructions
        (tmp_path / 'garbage').write_bytes(content)
        with pytest.raises(ValueError, match='cannot be read|no checkpoint'):
            load_checkpoint(tmp_path / 'garbage')
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / 'absent')
