# Data of benchmarks/generation.py: Digits scenes of 128x128, 200 images for calibration and 200 of search-val. The
# other files of this folder use the small space of the paper in a detector.
_base_ = [
    '../../configs/_base_/datasets/digits_detection.py',
    '../../configs/_base_/schedules/digits.py',
    '../../configs/_base_/default_runtime_mmdet.py',
    '../../configs/_base_/search/detnas.py',
]
size = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
search_val = dict(
    type='CocoDataset',
    data_root={{_base_.data_root}},
    metainfo={{_base_.metainfo}},
    ann_file='annotations/instances_search_val.json',
    data_prefix=dict(img='search_val/'),
    test_mode=True,
    pipeline=test_pipeline,
)
custom_hooks = [dict(type='detnas_mm.PathSamplingHook'), dict(type='detnas_mm.ChannelsLastHook')]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=600)
find_unused_parameters = True
test_dataloader = None
test_evaluator = None
test_cfg = None
search = dict(
    space=dict(type='DetNASSpace', space='small'),
    evaluator=dict(
        channels_last=True,
        dataloader=dict(batch_size=20, num_workers=0, dataset=search_val),
        metric=dict(
            type='FasterCocoMetric',
            ann_file='{{$DETNAS_DIGITS:data/digits}}/annotations/instances_search_val.json',
            metric='bbox',
        ),
        calibration=dict(
            dataloader=dict(
                batch_size=20,
                num_workers=0,
                dataset=dict(
                    type='CocoDataset',
                    data_root={{_base_.data_root}},
                    metainfo={{_base_.metainfo}},
                    ann_file='annotations/instances_train.json',
                    data_prefix=dict(img='train/'),
                    filter_cfg=dict(filter_empty_gt=True),
                    pipeline=train_pipeline,
                ),
            ),
            num_images=200,
        ),
        chunk_size=0,
    ),
    objectives=[dict(name='coco/bbox_mAP')],
    costs=dict(macs=dict(input_size=size)),
    constraints=[],
)
