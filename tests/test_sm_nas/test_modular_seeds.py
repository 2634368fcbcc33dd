"""Seeds of the modular space: which configs can be seeds, and the messages about those that cannot."""

import json
import warnings

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.systems.sm_nas.modular import ModularSpace
from detnas_mm.systems.sm_nas.space import StructuralSpace

from .seeds import FASTER, RETINA18, YOLOX, derived, first_stage, read


def test_members_of_a_front_are_seeds_and_others_are_named(tmp_path):
    best = first_stage(tmp_path, [FASTER, YOLOX, RETINA18])
    with pytest.warns(UserWarning, match='left out 000000000002 1333x800/net2 .*CSPDarknet has no code'):
        space = ModularSpace(dict(file=str(best)))
    assert len(space.starting_points) == 2 and len(space.left_out) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        chosen = ModularSpace(dict(file=str(best), ids=['000000000003']))
    assert [chosen.describe(point) for point in chosen.starting_points] == ['seed1:basic_64_11-21-21-21_256']


def test_detectors_of_the_seeds_norms_are_not_trained_as_pretrained_ones():
    """Fronts of two stages are joint where recipes are equal; None of the structural space has ImageNet's weights."""
    with pytest.warns(UserWarning, match='parts that seeds freeze are trained'):
        own = ModularSpace(FASTER, recipe=None)
    assert own.spec()['recipe'] != StructuralSpace().spec()['recipe']
    assert ModularSpace(FASTER).spec()['recipe'] == StructuralSpace(recipe='from_scratch').spec()['recipe']


@pytest.mark.parametrize(
    'change, reason',
    [
        (dict(backbone=dict(dcn=dict(type='DCNv2'))), 'has dcn=.*which a code cannot express'),
        (dict(backbone=dict(strides=(1, 2, 2, 1))), 'has strides='),
        (dict(backbone=dict(style='caffe')), "has style='caffe', with the stride of a block in its first 1x1"),
        (dict(backbone=dict(in_channels=1)), 'its backbone takes images of 1 channels, not 3'),
        (dict(backbone=dict(depth=152)), 'has 50 blocks, not 5 to 35'),
        (dict(backbone=dict(base_channels=40)), 'its base 40 is not one of 48, 56, 64, 72'),
        (dict(backbone=dict(type='ResNeXt', groups=64, base_width=4)), r'groups and base_width .64, 4., .* .32, 4.'),
        (dict(neck=dict(out_channels=96)), 'its neck has 96 channels, not one of 128, 256, 384'),
        (dict(neck=dict(type='mmdet.SSDNeck', _delete_=True)), 'it has no neck with out_channels'),
    ],
)
def test_a_detector_that_is_no_seed_is_named_with_its_reason(tmp_path, change, reason):
    mine = derived(tmp_path / 'mine.py', FASTER, f'model = {change!r}')
    with pytest.raises(DetNASError, match=f'no detector can be used. mine.py .*{reason}'):
        ModularSpace(mine)


def test_a_config_without_pipelines_is_no_seed(tmp_path):
    mine = derived(tmp_path / 'mine.py', 'mmdet::_base_/models/faster-rcnn_r50_fpn.py')
    with pytest.raises(DetNASError, match='no pipeline in train_dataloader, val_dataloader, test_dataloader'):
        ModularSpace(mine)


def test_a_config_of_several_pipelines_is_no_seed(tmp_path):
    """Such as mosaics, which have one for each image and one for four of them."""
    inner = dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile')])
    outer = dict(_delete_=True, type='MultiImageMixDataset', dataset=inner, pipeline=[dict(type='Mosaic')])
    mine = derived(tmp_path / 'mine.py', FASTER, f'train_dataloader = dict(dataset={outer!r})')
    with pytest.raises(DetNASError, match='train_dataloader of its config has several different pipelines'):
        ModularSpace(mine)


@pytest.mark.parametrize(
    'backbone', [{}, dict(_delete_=True, type='detnas_mm.SMNASBackbone', code='1-21-21-21')], ids=['resnet', 'code']
)
def test_a_stage_that_a_seed_does_not_return_is_no_part_of_its_code(tmp_path, backbone):
    """Edits would move into it, and nothing would train them."""
    model = dict(backbone=dict(backbone, out_indices=(0, 1, 2)), neck=dict(in_channels=[64, 128, 256]))
    space = ModularSpace(derived(tmp_path / 'mine.py', RETINA18, f'model = {model!r}'))
    code = '1-21-21' if backbone else '11-21-21'
    assert [space.describe(point) for point in space.starting_points] == [f'seed1:basic_64_{code}_256']
    space.check(read(RETINA18))


def test_the_same_seed_twice_is_named():
    with pytest.warns(UserWarning, match='it is the same detector as seed1:bottleneck_64'):
        assert len(ModularSpace([FASTER, FASTER]).starting_points) == 1


@pytest.mark.parametrize(
    'seeds, text',
    [
        ([], 'no detector can be used'),
        (YOLOX, 'no detector can be used'),
        (dict(file='nowhere/best.json'), 'Run the search of the first stage'),
        ('nowhere.py', 'nowhere.py cannot be read'),
        (dict(file=7), 'file must be a path'),
        (dict(ids=['a']), 'with no keys other than file, ids'),
        (7, 'must be a list'),
    ],
)
def test_seeds_that_cannot_be_used_are_an_error(seeds, text):
    with pytest.raises(DetNASError, match=text):
        ModularSpace(seeds)


def test_an_unknown_id_and_a_damaged_file_are_named(tmp_path):
    best = first_stage(tmp_path, [FASTER])
    with pytest.raises(DetNASError, match="has no id 'abc'; its ids are 000000000001"):
        ModularSpace(dict(file=str(best), ids=['abc']))
    best.write_text('{}[')
    with pytest.raises(DetNASError, match=r'is not a best\.json of a search'):
        ModularSpace(dict(file=str(best)))
    best.write_text(json.dumps([dict(id='a', arch='b')]))
    with pytest.raises(DetNASError, match='has no config'):
        ModularSpace(dict(file=str(best)))


def test_a_seed_that_does_not_build_is_named_before_the_search(tmp_path):
    mine = derived(tmp_path / 'mine.py', FASTER, "model = dict(rpn_head=dict(type='NoHead'))")
    space = ModularSpace([FASTER, mine])
    with pytest.raises(DetNASError, match=r'search.space.seeds: mine.py, as seed2:bottleneck_64.*NoHead'):
        space.check(read(FASTER))


def test_a_seed_of_other_classes_than_the_data_is_named_before_the_search():
    cfg = read(FASTER)
    cfg['val_dataloader']['dataset']['metainfo'] = dict(classes=('cat', 'dog'))
    with pytest.raises(DetNASError, match=r'faster-rcnn_r50.* heads have 80 classes, val_dataloader.dataset has 2'):
        ModularSpace(FASTER).check(cfg)


def test_the_style_of_basic_blocks_makes_no_difference(tmp_path):
    """They have no 1x1 convolution to put a stride in."""
    caffe = derived(tmp_path / 'mine.py', RETINA18, "model = dict(backbone=dict(style='caffe'))")
    assert ModularSpace(caffe).starting_points == ModularSpace(RETINA18).starting_points


def test_without_a_recipe_norms_are_the_seeds_and_nothing_is_frozen(tmp_path):
    """It begins from random weights too, so what the seed froze is trained, and named in a line."""
    frozen = dict(norm_eval=True, frozen_stages=2, norm_cfg=dict(requires_grad=False))
    weights = dict(type='Pretrained', checkpoint='neck.pth')
    change = dict(backbone=frozen, neck=dict(norm_cfg=dict(type='BN', requires_grad=False), init_cfg=weights))
    mine = derived(tmp_path / 'mine.py', FASTER, f'model = {change!r}')
    with pytest.warns(
        UserWarning, match='random weights, so parts that seeds freeze are trained as well: mine.py '
    ) as said:
        space = ModularSpace(mine, recipe=None)
    assert len(said) == 1 and all(f'backbone.{key}={frozen[key]}' in str(said[0].message) for key in list(frozen)[:2])
    model = space.configure({}, space.starting_points[0])['model']
    assert model['backbone']['norm_cfg'] == model['neck']['norm_cfg'] == dict(type='BN', requires_grad=True)
    assert not {'frozen_stages', 'norm_eval', 'init_cfg'} & set(model['backbone']) and 'init_cfg' not in model['neck']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ModularSpace(mine)


def test_seeds_are_read_once_and_left_as_they_are(tmp_path):
    best = first_stage(tmp_path, [FASTER, RETINA18])
    files = {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()}
    space = ModularSpace(dict(file=str(best)))
    spec = space.spec()
    first = space.configure({}, space.starting_points[0])
    first['model']['neck']['out_channels'] = -1
    space.spec()['seeds'].clear()
    assert space.spec() == spec
    assert space.configure({}, space.starting_points[0])['model']['neck']['out_channels'] == 256
    assert {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()} == files


def test_modules_that_a_seed_imports_are_imported(tmp_path):
    text = "custom_imports = dict(imports=['json'], allow_failed_imports=False)"
    space = ModularSpace(derived(tmp_path / 'mine.py', FASTER, text))
    given = dict(custom_imports=dict(imports='csv', allow_failed_imports=True))
    assert space.configure(given, space.starting_points[0])['custom_imports'] == dict(
        imports=['csv', 'json'], allow_failed_imports=True
    )
    assert space.configure({}, space.starting_points[0])['custom_imports']['imports'] == ['json']
