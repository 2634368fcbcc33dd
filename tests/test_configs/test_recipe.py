"""The paper's numbers in the configs, where a mistake would cost GPU-weeks."""

import re

import pytest

from detnas_mm.search import SearchJob
from detnas_mm.systems.detnas import MacsTable

from .leaves import NETS, SEARCHES, SUPERNETS

REAL = [name for name in SUPERNETS + NETS if 'digits' not in name]
IMAGENET = [name for name in REAL if name.endswith('_imagenet')]
DETECTION = [name for name in REAL if name not in IMAGENET]
REAL_SEARCHES = [name for name in SEARCHES if 'digits' not in name]
GPUS = 8

# name ends in → (iterations, milestones)
SCHEDULES = {
    ('coco', False): (90_000, [60_000, 80_000]),
    ('coco', True): (180_000, [120_000, 160_000]),
    ('voc', False): (22_500, [15_000, 20_000]),
    ('voc', True): (45_000, [30_000, 40_000]),
}


def pipeline(cfg):
    dataset = cfg.train_dataloader.dataset
    return dataset.datasets[0].pipeline if 'datasets' in dataset else dataset.pipeline


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet(name, load):
    cfg = load(name)
    assert cfg.train_dataloader.batch_size * GPUS == cfg.auto_scale_lr.base_batch_size == 1024
    assert cfg.train_cfg == dict(type='IterBasedTrainLoop', max_iters=300_000, val_interval=10_000)
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5)
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
    (linear,) = cfg.param_scheduler
    assert linear == dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=300_000)
    assert cfg.model.head.loss == dict(type='LabelSmoothLoss', label_smooth_val=0.1)
    assert cfg.data_preprocessor == dict(num_classes=1000, to_rgb=False), 'BGR 0–255, neither mean nor std'
    steps = {step.type: step for step in pipeline(cfg)}
    assert steps['RandomResizedCrop'].scale == 224
    jitter = steps['ColorJitter']
    assert jitter.brightness == jitter.contrast == jitter.saturation == 0.4
    assert steps['RandomFlip'].prob == 0.5
    assert cfg.model.backbone.get('norm_cfg') is None


@pytest.mark.parametrize('name', DETECTION)
def test_detection(name, load):
    cfg = load(name)
    iterations, milestones = SCHEDULES[name.split('_')[-1], '-scratch' in name]
    fpn = '_fpn_' in name
    assert cfg.train_dataloader.batch_size * GPUS == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_cfg.max_iters == iterations
    lr = 0.02 if fpn else 0.01
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4)
    assert cfg.optim_wrapper.paramwise_cfg == dict(custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)})
    warm_up, steps = cfg.param_scheduler
    assert warm_up == dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500)
    assert steps == dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=iterations, milestones=milestones, gamma=0.1
    )  # fmt: skip
    for side in (pipeline(cfg), cfg.test_pipeline):
        (resize,) = (step for step in side if step.type == 'Resize')
        assert (tuple(resize.scale), resize.keep_ratio) == ((1333, 800), True)
    assert cfg.model.data_preprocessor == dict(type='DetDataPreprocessor', pad_size_divisor=32)


@pytest.mark.parametrize('name', DETECTION)
def test_where_batch_norm_stands(name, load):
    """SyncBN that is not frozen in the backbone; in FPN and head of Faster R-CNN, nowhere else in RetinaNet."""
    model = load(name).model
    backbone = model.backbone
    assert backbone.norm_cfg == dict(type='SyncBN')
    assert backbone.get('frozen_stages', -1) == -1 and not backbone.get('norm_eval', False)
    if '_fpn_' in name:
        head = model.roi_head.bbox_head
        assert head.type == 'Shared4Conv1FCBBoxHead'
        assert model.neck.norm_cfg == head.norm_cfg == dict(type='SyncBN')
    else:
        assert 'norm_cfg' not in model.neck and 'norm_cfg' not in model.bbox_head
        assert (model.neck.start_level, model.neck.num_outs) == (1, 5)  # P3–P7
        # P6 from P5, and a ReLU between P6 and P7 alone.
        assert (model.neck.add_extra_convs, model.neck.relu_before_extra_convs) == ('on_output', True)


@pytest.mark.parametrize('name', DETECTION)
def test_pre_training(name, load):
    """Detectors start from what the config of the step before leaves behind, except from-scratch ones."""
    backbone = load(name).model.backbone
    if '-scratch' in name:
        assert backbone.get('init_cfg') is None
        return
    space, what, *_ = name.split('_')
    before = f'{space}_{what}_cls_imagenet'
    assert before in IMAGENET
    assert backbone.init_cfg == dict(
        type='Pretrained', checkpoint=f'work_dirs/{before}/iter_300000.pth', prefix='backbone.'
    )  # fmt: skip


@pytest.mark.parametrize('name', REAL)
def test_what_is_trained_on(name, load):
    """Supernets do not see the images that their search judges by; nets are trained on all and tested on the rest."""
    cfg = load(name)
    data = name.split('_')[-1]
    own_split = name in SUPERNETS and (data != 'imagenet' or 'clsnas' in name)
    dataset = cfg.train_dataloader.dataset
    lists = [part.ann_file for part in dataset.get('datasets', [dataset]) if part.get('ann_file')]
    assert (
        lists
        == {
            ('coco', True): ['annotations/detnas_train.json'],
            ('coco', False): ['annotations/instances_train2017.json'],
            ('voc', True): [f'VOC{year}/ImageSets/Main/detnas_train.txt' for year in (2007, 2012)],
            ('voc', False): [f'VOC{year}/ImageSets/Main/trainval.txt' for year in (2007, 2012)],
            ('imagenet', True): ['meta/detnas_train.txt'],
            ('imagenet', False): [],
        }[data, own_split]
    )
    if name in NETS and data != 'imagenet':
        test = {'coco': 'annotations/instances_val2017.json', 'voc': 'VOC2007/ImageSets/Main/test.txt'}[data]
        assert cfg.test_dataloader.dataset.ann_file == test


def test_path_sampling(load):
    def sampler(name):
        return load(name).custom_hooks[0].get('sampler')

    assert sampler('detnas-small_supernet_cls_imagenet') is None  # the hook's default is uniform
    bins = sampler('detnas-small_supernet-macbins_cls_imagenet')
    assert (bins.low, bins.high, bins.bin_width, bins.with_classifier) == (290e6, 360e6, 10e6, 1000)


@pytest.mark.parametrize('name', REAL_SEARCHES)
def test_search(name, load):
    cfg = load(name)
    before = 'supernet-clsnas' if name.endswith('_imagenet') else 'supernet'
    before = re.sub('_search[a-z-]*_', f'_{before}_', name)
    assert cfg.load_from == f'work_dirs/{before}/iter_{load(before).train_cfg.max_iters}.pth'
    section = cfg.search
    job = SearchJob.from_config(cfg)
    strategy = job.strategy
    assert (strategy.population, job.generations, strategy.parents, strategy.mutation_prob) == (50, 20, 10, 0.1)
    children = (20, 20, 10) if 'newcomers' in name else (25, 25, 0)
    assert (strategy.mutation, strategy.crossover, strategy.random) == children
    macs = section.costs.macs
    assert (macs.type, tuple(macs.input_size)) == ('MacsTable', (224, 224))
    if '-latency_' in name:  # a front has nets of every size, where the paper has a limit
        assert not section.constraints and section.objectives[1] == dict(name='latency', direction='minimize')
    else:
        (constraint,) = section.constraints
        assert constraint == dict(cost='macs', high=300e6 if '-small_' in name else 1.3e9)
        smallest, largest = MacsTable(job.space).bounds()
        assert smallest < constraint.high < largest
    assert section.evaluator.calibration.num_images == 500
    assert section.evaluator.calibration.dataloader.batch_size == 20
    lists = {
        'coco': 'annotations/detnas_search_val.json',
        'voc': 'VOC2007/ImageSets/Main/detnas_search_val.txt',
        'imagenet': 'meta/detnas_search_val.txt',
    }
    dataset = section.evaluator.dataloader.dataset
    assert dataset.get('datasets', [dataset])[0].ann_file == lists[name.split('_')[-1]]
