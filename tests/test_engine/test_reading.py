"""Data sets, their files and the metrics of validation and test, looked at by the Runner that the tools start."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from pycocotools import coco

from detnas_mm.datasets import reading
from detnas_mm.datasets.images import BrokenImageError
from detnas_mm.engine import EvolutionSearchHook, launch
from detnas_mm.engine.inputs import JobInputs
from tests import digits

CLASSES = ('cat', 'dog')


@MODELS.register_module(force=True)
class FindsAll(BaseModel):
    """Finds what is annotated."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'loss':
            return dict(loss=self.layer.weight.sum())
        for sample in data_samples:
            truth = sample.gt_instances
            sample.pred_instances = InstanceData(
                bboxes=truth.bboxes.tensor, labels=truth.labels, scores=torch.linspace(0.5, 1, len(truth.labels))
            )
        return data_samples


@pytest.fixture
def content(tmp_path):
    """Six images of 40x30, five of them with two boxes each."""
    for number in range(6):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((30, 40, 3), number, dtype=np.uint8))
    return dict(
        images=[dict(id=key, file_name=f'{key}.png', width=40, height=30) for key in range(6)],
        categories=[dict(id=7, name='cat'), dict(id=3, name='dog')],
        annotations=[
            dict(
                id=key,
                image_id=key // 2,
                category_id=(7, 3)[key % 2],
                bbox=[key % 2 * 12, 2, 20, 18],
                area=360,
                iscrowd=0,
            )
            for key in range(10)
        ],
    )


@pytest.fixture
def config(tmp_path, content):
    (tmp_path / 'train.json').write_text(json.dumps(content))
    dataset = dict(
        type='CocoDataset', data_root=str(tmp_path), ann_file='train.json', metainfo=dict(classes=CLASSES),
        data_prefix=dict(img=''), pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='PackDetInputs', meta_keys=('img_id', 'ori_shape')),
        ],
    )  # fmt: skip
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    evaluator = dict(type='CocoMetric', ann_file=str(tmp_path / 'train.json'), metric='bbox')
    return Config(
        dict(
            default_scope='mmdet', work_dir=str(tmp_path / 'work'), log_level='ERROR', launcher='none',
            experiment_name=tmp_path.name,
            model=dict(type='FindsAll'), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            train_dataloader=loader, train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
            val_dataloader=loader, val_evaluator=evaluator, val_cfg=dict(type='ValLoop'),
            test_dataloader=loader, test_evaluator=evaluator, test_cfg=dict(type='TestLoop'),
        )
    )  # fmt: skip


def changed(tmp_path, content, name, change):
    data = json.loads(json.dumps(content))
    change(data)
    (tmp_path / name).write_text(json.dumps(data))
    return str(tmp_path / name)


# -- metrics of validation and test ------------------------------------------------------------------------------------

PARTS = dict(
    indices=dict(indices=2),
    filter_cfg=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32)),
    empty=dict(filter_cfg=dict(filter_empty_gt=True)),
)


@pytest.mark.parametrize('part, plain', [('indices', 0.35), ('empty', 0.9)])
def test_a_test_judges_by_the_images_that_are_read(config, part, plain):
    """Alone, mmdet takes the boxes of all others for missed, and that of the id 0 as well."""
    config.test_dataloader.dataset.update(PARTS[part])
    assert launch.test(config.copy())['coco/bbox_mAP'] == 1
    config.experiment_name += '-plain'
    assert Runner.from_cfg(config).test()['coco/bbox_mAP'] == pytest.approx(plain, abs=0.1)


def other_ids(data):
    for key, name in (('images', 'id'), ('annotations', 'image_id')):
        for one in data[key]:
            one[name] += 100


def other_classes(data):
    for one in data['annotations']:
        one['category_id'] = 10 - one['category_id']


def other_pictures(data):
    for one in data['annotations']:
        one['bbox'][2] += 9


@pytest.mark.parametrize(
    'change, match',
    [
        (other_ids, r'6 of the 6 image ids of .*train.json are not in .*other.json.* Set {0}_evaluator.ann_file'),
        (other_pictures, 'Image 0 .* has boxes in .*train.json that are not, with the same classes, in .*other.json'),
        (other_classes, 'Image 0 .* has boxes in .*train.json that are not, with the same classes, in .*other.json'),
        (lambda data: data['categories'].reverse(), "Label 0 is 'dog' in .*other.json, but 'cat' in"),
        (lambda data: data['annotations'][0].pop('area'), 'other.json: annotation 0 has no area'),
    ],
    ids=['ids', 'pictures', 'classes', 'categories', 'area'],
)  # fmt: skip
def test_annotations_of_other_images_are_refused_before_the_first_step(config, tmp_path, content, change, match):
    split = 'test' if change is other_ids else 'val'
    config[f'{split}_evaluator'].ann_file = changed(tmp_path, content, 'other.json', change)
    with pytest.raises(ValueError, match=match.format(split)):
        (launch.run if split == 'val' else launch.test)(config)
    assert not list(tmp_path.glob('work/epoch*'))


def test_what_lacks_iscrowd_is_judged_all_the_same(config, tmp_path, content):
    config.test_evaluator.ann_file = changed(
        tmp_path, content, 'other.json', lambda data: [one.pop('iscrowd') for one in data['annotations']]
    )
    assert launch.test(config)['coco/bbox_mAP'] == 1


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_file_is_parsed_as_often_as_mmdet_parses_it(config, monkeypatch):
    """And once more, if it is small, before anything is built."""
    launch.run(config.copy())
    parsed = []
    load = json.load

    def noted(file):
        if hasattr(file, 'name'):  # results are read as well
            parsed.append(file.name)
        return load(file)

    monkeypatch.setattr(coco.json, 'load', noted)
    monkeypatch.setattr('detnas_mm.engine.inputs._SMALL', 0)
    looked = []
    monkeypatch.setattr('detnas_mm.datasets.coco_json.coco_faults', lambda *args: looked.append(args) or [])
    config.experiment_name += '-again'
    launch.run(config)
    assert len(parsed) == 3 and len(looked) == 2  # training and validation set, and the metric


@pytest.mark.parametrize('small', [True, False])
def test_a_large_file_is_looked_at_where_it_is_parsed(config, tmp_path, content, monkeypatch, small):
    def bad(data):
        data['annotations'][3]['bbox'] = [1, 2, '3', 4]

    if not small:
        monkeypatch.setattr('detnas_mm.engine.inputs._SMALL', 0)
    config.train_dataloader.dataset.ann_file = changed(tmp_path, content, 'bad.json', bad)
    with pytest.raises(
        ValueError, match=r"bad.json: annotation 3 has no bbox of four finite numbers: bbox \[1, 2, '3', 4"
    ):
        launch.run(config)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_training_names_a_broken_image(config, tmp_path, num_workers):
    (tmp_path / '4.png').write_bytes(b'')
    config.train_dataloader.num_workers = num_workers
    with pytest.raises(BrokenImageError, match=r'^The image .*/4.png is empty. Restore the file; .*with --resume.$'):
        launch.run(config)


def test_a_training_without_an_image_is_refused(config, tmp_path):
    (tmp_path / '4.png').unlink()
    with pytest.raises(ValueError, match='1 of the 6 images of .*train.json do not exist, such as .*/4.png'):
        launch.run(config)


def boxless(data):
    data['annotations'].clear()


@pytest.mark.parametrize('filtered', [True, False])
def test_nothing_to_train_on_is_refused(config, tmp_path, content, filtered):
    config.train_dataloader.dataset.ann_file = changed(tmp_path, content, 'bare.json', boxless)
    if filtered:
        config.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True)
    match = 'has no image left of .*bare.json: filter_cfg=' if filtered else 'No image of .*bare.json has a box of'
    with pytest.raises(ValueError, match=match):
        launch.run(config)


@pytest.mark.parametrize('wrapper', [dict(type='RepeatDataset', times=2), dict(type='ConcatDataset')])
def test_wrapped_sets_are_looked_at(config, tmp_path, wrapper):
    inner = config.train_dataloader.to_dict()['dataset']
    wrapper |= dict(dataset=inner) if wrapper['type'] == 'RepeatDataset' else dict(datasets=[inner, inner])
    config.train_dataloader = dict(config.train_dataloader.to_dict(), dataset=wrapper)
    launch.run(config.copy())  # ids that come twice do no harm to a training
    (tmp_path / '4.png').unlink()
    config.experiment_name += '-again'
    with pytest.raises(ValueError, match='1 of the 6 images .* do not exist'):
        launch.run(config)


def test_one_of_two_sets_may_have_no_boxes(config, tmp_path, content):
    """As the unlabelled one of a semi-supervised training."""
    inner = config.train_dataloader.to_dict()['dataset']
    bare = inner | dict(ann_file=changed(tmp_path, content, 'bare.json', boxless))
    config.train_dataloader = dict(
        config.train_dataloader.to_dict(), dataset=dict(type='ConcatDataset', datasets=[bare, inner])
    )
    launch.run(config)


# -- before anything is built ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'key, value, match',
    [
        (
            'ann_file',
            ['a.json', 'b.json'],
            r'train_dataloader: ann_file must be one file, as a string; got .*ConcatDataset',
        ),
        ('data_root', ['a', 'b'], 'train_dataloader: data_root must be one folder, as a string; got .*ConcatDataset'),
        ('ann_file', 'gone.json', 'train_dataloader: no file .*gone.json'),
    ],
)
def test_what_is_no_file_is_refused(config, key, value, match):
    config.train_dataloader.dataset[key] = value
    with pytest.raises(SystemExit, match=match):
        JobInputs.read(config).check()


def test_a_voc_folder_is_held_against_its_list(config, tmp_path):
    (tmp_path / 'VOC2007' / 'Annotations').mkdir(parents=True)
    (tmp_path / 'VOC2007' / 'Annotations' / 'a.xml').write_text('<annotation><object/></annotation>')
    (tmp_path / 'list.txt').write_text('a\nb\n')
    config.train_dataloader.dataset.update(
        type='VOCDataset', ann_file='list.txt', data_prefix=dict(sub_data_root='VOC2007')
    )
    with pytest.raises(
        ValueError, match=r"1 of the 2 images in .*list.txt have no file in VOC2007/Annotations, such as \['b'"
    ):
        JobInputs.read(config).check()
    (tmp_path / 'list.txt').write_text('a\n')
    JobInputs.read(config).check()
    with pytest.raises(ValueError, match='a.xml has no name for object 1'):  # where mmdet cannot read it
        launch.run(config)


# -- a search after a training -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_searched_after_a_training_is_looked_at_before_it(digits_folder, tmp_path, monkeypatch):
    data = json.loads((digits_folder / 'annotations' / 'instances_search_val.json').read_text())
    other_ids(data)
    (tmp_path / 'other.json').write_text(json.dumps(data))
    cfg = digits.written('detnas-digits_search_retinanet', tmp_path / 'work')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    cfg.custom_hooks.insert(0, dict(type='detnas_mm.PathSamplingHook'))
    cfg.search.evaluator.calibration.num_images = 20
    searched = []
    monkeypatch.setattr(EvolutionSearchHook, 'after_train', lambda self, runner: searched.append(runner.iter))
    launch.run(cfg.copy())
    assert searched == [1]
    cfg.search.evaluator.metric.ann_file = str(tmp_path / 'other.json')
    cfg.experiment_name += '-again'
    with pytest.raises(ValueError, match='60 of the 60 image ids of .*search_val.json are not in .*other.json'):
        launch.run(cfg)
    assert searched == [1]


def test_boxes_of_a_negative_size_are_said_once(config, tmp_path, content, monkeypatch):
    """Mmdet skips them without a message."""
    lines = []
    monkeypatch.setattr(reading, 'print_log', lambda text, **settings: lines.append((text, settings['level'])))
    reading._warn_once.cache_clear()

    def turn(data):
        for key in (3, 4):
            data['annotations'][key]['bbox'] = [20, 20, -9, -9]

    config.train_dataloader.dataset.ann_file = changed(tmp_path, content, 'negative.json', turn)
    config.val_dataloader.dataset.ann_file = config.train_dataloader.dataset.ann_file
    launch.run(config)
    ((line, level),) = lines
    assert level == logging.WARNING and '\n' not in line
    assert 'negative.json: annotation 3 has a negative width or height: bbox [20, 20, -9, -9] (2 of 10 annot' in line


@pytest.mark.parametrize('kind', ['detnas_mm.TruthHook', 'detnas_mm.PathSamplingHook'])
def test_training_data_under_another_train_script_are_checked_by_hooks(config, tmp_path, content, kind):
    """By mmdet alone, labels are numbered in the order of the file."""
    config.custom_hooks = [dict(type=kind)]
    config.train_dataloader.dataset.ann_file = changed(
        tmp_path, content, 'reordered.json', lambda data: data['categories'].reverse()
    )
    with pytest.raises(ValueError, match="Label 0 is 'dog' in .*reordered.json, but 'cat' in train_dataloader.dataset"):
        Runner.from_cfg(config).train()


def test_a_broken_image_under_another_train_script_is_named(config, tmp_path):
    config.custom_hooks = [dict(type='detnas_mm.TruthHook')]
    (tmp_path / '3.png').write_bytes(b'')
    with pytest.raises(BrokenImageError, match=r'3\.png is empty'):
        Runner.from_cfg(config).train()
