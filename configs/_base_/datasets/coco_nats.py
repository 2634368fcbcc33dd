# COCO 2017 for a search by gradient: weights learn on one half of train2017, α on the other.
#   python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json \
#       --count 58633 --names nats_weights nats_alpha
dataset_type = 'CocoDataset'
data_root = '{{$DETNAS_COCO:data/coco}}/'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(1200, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
# 8 GPUs with 1 image each.
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/nats_weights.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
alpha_data = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/nats_alpha.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
# BN of what was decoded is recalibrated on images that weights learn on, by their pipeline without its flip.
calibration = dict(
    num_images=500,
    dataloader=dict(
        batch_size=20,
        num_workers=4,
        dataset=dict(
            type=dataset_type,
            data_root=data_root,
            ann_file='annotations/nats_weights.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=(1200, 800), keep_ratio=True),
                dict(type='PackDetInputs'),
            ],
        ),
    ),
)
# While it is searched there is no net to be tested.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
