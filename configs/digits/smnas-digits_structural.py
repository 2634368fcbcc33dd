# SM-NAS on Digits, stage 1: searches modules and input size; detectors train from random weights.
#   python tools/search.py configs/digits/smnas-digits_structural.py
_base_ = [
    '../_base_/models/digits_faster_rcnn.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/smnas_digits.py',
]
# Candidates replace this model; it is the detector that trains without a search.
model = dict(backbone=dict(type='ResNet', depth=18, base_channels=16), neck=dict(in_channels=[32, 64, 128]))
train_dataloader = dict(batch_size=12)  # with 16, both stages took about 30 minutes on 2 cores
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type={{_base_.dataset_type}},
        data_root={{_base_.data_root}},
        metainfo={{_base_.metainfo}},
        ann_file='annotations/instances_search_val.json',
        data_prefix=dict(img='search_val/'),
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
val_evaluator = dict(
    type='CocoMetric',
    ann_file='{{$DETNAS_DIGITS:data/digits}}/annotations/instances_search_val.json',
    metric='bbox',
)
val_cfg = dict(type='ValLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, eta_min=0),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=100))
search = dict(
    strategy=dict(type='ParetoStrategy', population=7, parents=4, mutation=4, crossover=3, mutation_prob=0.3),
    evaluator=dict(type='ShortTraining', workers=dict(type='LocalWorkers', count=2, threads=1)),
    costs=dict(latency=dict(type='NetLatency', file='work_dirs/smnas-digits_structural/latency.json')),
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    budget=dict(generations=2),
    seed=0,
)
