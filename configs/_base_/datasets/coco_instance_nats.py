# The halves of train2017 (coco_nats.py) with masks.
_base_ = './coco_nats.py'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(1200, 800), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
alpha_data = dict(dataset=dict(pipeline=train_pipeline))
calibration = dict(
    dataloader=dict(dataset=dict(pipeline=[step for step in train_pipeline if step['type'] != 'RandomFlip'])),
)
