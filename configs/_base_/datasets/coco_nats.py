# COCO 2017 for a search by gradient: weights are trained on one half of train2017, α on the other. Make the halves by
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
# BN of the decoded net is recalibrated on the images of the weights, with their pipeline without the flip.
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
# During the search there is no single net to validate or test.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
