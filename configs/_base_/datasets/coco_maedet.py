# COCO for training from scratch: the shorter side is drawn from 480 to 960, the longer side is at most 1333.
_base_ = './coco.py'
multi_scale_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=[(1333, 480), (1333, 960)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=multi_scale_pipeline))
