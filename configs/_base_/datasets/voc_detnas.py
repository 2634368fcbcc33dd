# VOC for a supernet: 5,000 images of trainval07+12 (search-val) are not trained on; the search evaluates candidates on
# them. Make the split by
#   python tools/dataset_converters/split_voc.py data/VOCdevkit
_base_ = './voc.py'
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='VOCDataset',
                data_root={{_base_.data_root}},
                ann_file=f'VOC{year}/ImageSets/Main/detnas_train.txt',
                data_prefix=dict(sub_data_root=f'VOC{year}/'),
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline={{_base_.train_pipeline}},
            )
            for year in (2007, 2012)
        ],
    ),
)
# A supernet is not tested: it has no single path.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None

# Data for the evaluator of a search.
search_data = dict(
    dataloader=dict(
        batch_size=8,
        num_workers=4,
        dataset=dict(
            type='ConcatDataset',
            ignore_keys=['dataset_type'],
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root={{_base_.data_root}},
                    ann_file=f'VOC{year}/ImageSets/Main/detnas_search_val.txt',
                    data_prefix=dict(sub_data_root=f'VOC{year}/'),
                    test_mode=True,
                    pipeline={{_base_.test_pipeline}},
                )
                for year in (2007, 2012)
            ],
        ),
    ),
    metric=dict(type='VOCMetric', metric='mAP', eval_mode='11points'),
    # BN is recalibrated on training images, with the training pipeline without the flip.
    calibration=dict(
        num_images=500,
        dataloader=dict(
            batch_size=20,
            num_workers=4,
            dataset=dict(
                type='ConcatDataset',
                ignore_keys=['dataset_type'],
                datasets=[
                    dict(
                        type='VOCDataset',
                        data_root={{_base_.data_root}},
                        ann_file=f'VOC{year}/ImageSets/Main/detnas_train.txt',
                        data_prefix=dict(sub_data_root=f'VOC{year}/'),
                        filter_cfg=dict(filter_empty_gt=True, min_size=32),
                        pipeline=[
                            dict(type='LoadImageFromFile'),
                            dict(type='LoadAnnotations', with_bbox=True),
                            dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                            dict(type='PackDetInputs'),
                        ],
                    )
                    for year in (2007, 2012)
                ],
            ),
        ),
    ),
)
