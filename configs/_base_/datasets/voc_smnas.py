# VOC for a search that trains its candidates: they are evaluated on 5,000 images of trainval07+12 that are not trained
# on. Make the split by
#   python tools/dataset_converters/split_voc.py data/VOCdevkit
_base_ = './voc.py'
# A candidate is trained on one GPU, with all 16 images of an iteration.
train_dataloader = dict(
    batch_size=16,
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
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
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
)
test_dataloader = {{_base_.test_dataloader}}
