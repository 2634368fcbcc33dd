# SM-NAS E0 (unconfirmed: see README.md): basic blocks, levels of strides 8–64 with 128 channels, 512x512; from scratch.
_base_ = [
    '../_base_/models/smnas_faster_rcnn.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/smnas_coco_12e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(code='1-21-21-12', base=64, block='basic'),
    # the last level is pooled from that of stride 32; the RoI head reads the other three
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=128, start_level=1, num_outs=4),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(strides=[8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128, featmap_strides=[8, 16, 32], finest_scale=112),
        bbox_head=dict(in_channels=128),
    ),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
