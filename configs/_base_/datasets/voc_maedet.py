# VOC for training from scratch: the shorter side is drawn from 480 to 960, the longer side is at most 1333.
_base_ = './voc.py'
multi_scale_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=[(1333, 480), (1333, 960)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='VOCDataset',
                data_root={{_base_.data_root}},
                ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                data_prefix=dict(sub_data_root=f'VOC{year}/'),
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=multi_scale_pipeline,
            )
            for year in (2007, 2012)
        ],
    ),
)
