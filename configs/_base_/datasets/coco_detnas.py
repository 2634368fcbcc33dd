# COCO for a supernet: 5,000 images of train2017 (search-val) are not trained on; the search evaluates candidates on
# them. Make the split by
#   python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json
_base_ = './coco.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/detnas_train.json'))
# A supernet is not tested: it has no single path.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None

# Data for the evaluator of a search.
search_data = dict(
    dataloader=dict(
        batch_size=8,
        num_workers=4,
        dataset=dict(
            type='CocoDataset',
            data_root={{_base_.data_root}},
            ann_file='annotations/detnas_search_val.json',
            data_prefix=dict(img='train2017/'),
            test_mode=True,
            pipeline={{_base_.test_pipeline}},
        ),
    ),
    metric=dict(
        type='FasterCocoMetric',
        ann_file='{{$DETNAS_COCO:data/coco}}/annotations/detnas_search_val.json',
        metric='bbox',
    ),
    # BN is recalibrated on training images, with the training pipeline without the flip.
    calibration=dict(
        num_images=500,
        dataloader=dict(
            batch_size=20,
            num_workers=4,
            dataset=dict(
                type='CocoDataset',
                data_root={{_base_.data_root}},
                ann_file='annotations/detnas_train.json',
                data_prefix=dict(img='train2017/'),
                filter_cfg=dict(filter_empty_gt=True, min_size=32),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                    dict(type='PackDetInputs'),
                ],
            ),
        ),
    ),
)
