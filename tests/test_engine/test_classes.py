"""Classes of heads, data sets and annotation files are compared before anything runs, from the config."""

import copy
import json
from pathlib import Path

import pytest
from mmengine.config import Config

from detnas_mm.engine import classes
from detnas_mm.engine.inputs import JobInputs

NAMES = ('cat', 'dog', 'bird')


@pytest.fixture
def config(tmp_path):
    """A detector of three classes, trained on a COCO file that has four."""
    categories = [
        dict(id=key, name=name) for key, name in zip((7, 3, 90, 12), ('cat', 'cow', 'dog', 'bird'), strict=True)
    ]
    for name in ('train', 'val'):
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(images=[], annotations=[], categories=categories)))

    def dataset(file, **changes):
        cfg = dict(type='CocoDataset', data_root=str(tmp_path), ann_file=file, metainfo=dict(classes=NAMES))
        return dict(dataset=cfg | changes)

    return Config(
        dict(
            default_scope='mmdet',
            model=dict(type='RetinaNet', bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=8)),
            train_dataloader=dataset('train.json'),
            search=dict(
                evaluator=dict(dataloader=dataset('val.json'), calibration=dict(dataloader=dataset('train.json')))
            ),
        )
    )


def check_classes(config, model=True, trained=()):
    """Looks at what a training and a search after it read."""
    inputs = JobInputs.read(config, ['train'], model)
    classes.check_classes(inputs.sets, inputs.heads, trained, inputs.checkpoint)


def test_what_fits_passes(config):
    """Three of the four categories, in the order of the file."""
    before = copy.deepcopy(config.to_dict())
    check_classes(config)
    assert config.to_dict() == before


def cascade(number):
    return dict(
        roi_head=dict(bbox_head=[dict(type='Shared2FCBBoxHead', num_classes=3)] * 2 + [dict(num_classes=number)])
    )


MODELS = {
    'cascade': cascade(3),
    'class-agnostic boxes': dict(bbox_head=dict(type='Shared2FCBBoxHead', num_classes=3, reg_class_agnostic=True)),
    'class-agnostic masks': dict(roi_head=dict(mask_head=dict(type='FCNMaskHead', class_agnostic=True))),
    'masks': dict(roi_head=dict(mask_head=dict(type='FCNMaskHead', num_classes=3))),
    'RPN': dict(type='RPN', rpn_head=dict(type='RPNHead', num_classes=1)),
    'RPN without': dict(type='RPN', rpn_head=dict(type='RPNHead')),
    'semantic branch': dict(roi_head=dict(semantic_head=dict(type='FusedSemanticHead', num_classes=183))),
    'a head without': dict(bbox_head=dict(type='YOLOFOwn')),
    'open vocabulary': dict(type='GLIP', language_model=dict(), bbox_head=dict(num_classes=256)),
    'none': None,
}


@pytest.mark.parametrize('name', MODELS)
def test_heads_that_are_right_pass(config, name):
    config.model = MODELS[name]
    check_classes(config)


@pytest.mark.parametrize(
    'model, match',
    [
        (
            dict(bbox_head=dict(type='RetinaHead', num_classes=4)),
            r'model.bbox_head.num_classes is 4, but train_dataloader',
        ),
        (
            dict(bbox_head=dict(type='RetinaHead', num_classes=2)),
            r'num_classes is 2, .* has 3 classes: .cat., .dog., .bird. ',
        ),
        (cascade(80), 'model.roi_head.bbox_head.2.num_classes is 80, but train_dataloader.dataset has 3'),
        (
            dict(roi_head=dict(bbox_head=dict(type='Shared2FCBBoxHead'))),
            'roi_head.bbox_head.num_classes is 80 by default, ',
        ),
        (dict(roi_head=dict(mask_head=dict(type='FCNMaskHead', num_classes=80))), 'mask_head.num_classes is 80, but'),
        (dict(detector=dict(bbox_head=dict(num_classes=4))), 'model.detector.bbox_head.num_classes is 4'),
    ],
)
def test_heads_of_other_classes_are_refused_with_all_places(config, model, match):
    config.model = model
    with pytest.raises(ValueError, match=rf'{match}.*train.json has 4 categories\)'):
        check_classes(config)


def search_set(config):
    return config.search.evaluator.dataloader.dataset


def plain(config):
    return config.to_dict()['train_dataloader']['dataset']


def replace(config, dataset):
    config.train_dataloader = dict(dataset=dataset)


def rename(config, old, new):
    """Gives a category of the training file another name."""
    file = Path(plain(config)['data_root'], 'train.json')
    content = json.loads(file.read_text())
    for category in content['categories']:
        category['name'] = category['name'].replace(old, new)
    file.write_text(json.dumps(content))


DATA = {
    'fewer': (
        lambda c: search_set(c).metainfo.update(classes=NAMES[:2]),
        'is 3, but search.evaluator.dataloader.dataset has 2',
    ),
    'forgotten': (
        lambda c: search_set(c).pop('metainfo'),
        r'val.json lacks 76 of the 80 names of CocoDataset, since search.evaluator.dataloader.dataset has no meta',
    ),
    'not in the file': (
        lambda c: search_set(c).metainfo.update(classes=('cat', 'dog', 'fox')),
        r"val.json lacks 1 .*'fox'",
    ),
    'another order': (
        lambda c: search_set(c).metainfo.update(classes=NAMES[::-1]),
        r"Label 0 is 'cat' in .*val.json, but 'bird'",
    ),
    'one text': (
        lambda c: search_set(c).metainfo.update(classes='cat'),
        r"metainfo.classes must be a tuple of names, such as \('cat',\); got the string 'cat'",
    ),
    'named twice': (
        lambda c: search_set(c).metainfo.update(classes=('cat', 'dog', 'cat')),
        "search.evaluator.dataloader.dataset.metainfo.classes names 'cat' 2 times, .*: list each class once.",
    ),
    'named twice, of VOC': (
        lambda c: replace(c, dict(type='VOCDataset', metainfo=dict(classes=('dog', 'dog', 'cat')))),
        "train_dataloader.dataset.metainfo.classes names 'dog' 2 times",
    ),
    'a name of two categories': (
        lambda c: rename(c, 'cow', 'dog'),
        r"train.json has 2 categories named 'dog' \(ids 3, 90\), which train_dataloader.dataset.metainfo.classes",
    ),
    'within a wrapper': (
        lambda c: replace(
            c, dict(type='ConcatDataset', datasets=[plain(c), plain(c) | dict(metainfo=dict(classes=NAMES[:1]))])
        ),
        'but train_dataloader.dataset.datasets.1 has 1 classes',
    ),
    'VOC': (
        lambda c: replace(c, dict(type='RepeatDataset', times=2, dataset=dict(type='VOCDataset'))),
        'train_dataloader.dataset.dataset has 20 classes: .aeroplane.',
    ),
    'labels of train and search': (
        lambda c: search_set(c).update(type='VOCDataset', metainfo=dict(classes=('dog', 'cat', 'bird'))),
        "'dog' has label 0 in search.evaluator.dataloader.dataset.metainfo.classes, but label 1 in train_data",
    ),
}


@pytest.mark.parametrize('name', DATA)
def test_data_of_other_classes_are_refused(config, name):
    change, match = DATA[name]
    change(config)
    with pytest.raises(ValueError, match=match):
        check_classes(config)


def test_categories_of_one_name_that_no_class_has_pass(config):
    config.train_dataloader.dataset.metainfo.classes = config.search.evaluator.dataloader.dataset.metainfo.classes = (
        'cat',
        'bird',
    )
    config.search.evaluator.calibration.dataloader.dataset.metainfo.classes = ('cat', 'bird')
    config.model.bbox_head.num_classes = 2
    rename(config, 'cow', 'dog')
    check_classes(config)


def test_a_search_without_a_model_has_no_heads(config):
    config.model.bbox_head.num_classes = 10
    check_classes(config, model=False)


def test_labels_are_those_that_the_weights_were_trained_on(config):
    config.load_from = 'supernet.pth'
    check_classes(config, trained=NAMES)
    check_classes(config, trained=('Katze', 'Hund', 'Vogel'))  # other names say nothing
    with pytest.raises(
        ValueError, match="'cat' has label 0 in train_data.*, but label 2 in the checkpoint supernet.pth"
    ):
        check_classes(config, trained=NAMES[::-1])


def classifier(number, **dataset):
    model = dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=number, in_channels=8))
    return Config(dict(default_scope='mmpretrain', model=model, train_dataloader=dict(dataset=dataset)))


def test_classifiers_are_held_against_folders_and_imagenet(tmp_path):
    for name in (*NAMES, '.hidden'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    folders = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='train')
    for right in (
        classifier(3, **folders),
        classifier(1000, type='ImageNet'),
        classifier(3, type='ImageNet', metainfo=dict(classes=NAMES)),
        classifier(7, **folders, ann_file='list.txt'),
        classifier(2, **folders, ann_file='list.txt', classes=['a', 'b']),
    ):
        check_classes(right)
    for wrong, match in (
        (
            classifier(10, **folders),
            r"model.head.num_classes is 10, but .* has 3 classes: 'bird', .* \(the folders in .*/train\)",
        ),
        (classifier(10, type='ImageNet'), 'has 1000 classes'),
        (
            classifier(3, **folders, ann_file='list.txt', classes=['a', 'b']),
            r'has 2 classes: .* \(train_dataloader.dataset.classes\)',
        ),
    ):
        with pytest.raises(ValueError, match=match):
            check_classes(wrong)
