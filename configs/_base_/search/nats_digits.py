# The search by gradient on Digits: weights are trained on one half of the training scenes, α on the other.
_base_ = ['../datasets/digits_detection.py', '../schedules/digits.py', '../default_runtime_mmdet.py']
half = 2000  # of 4,000 scenes, which are in random order
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(indices=half),  # the first half
)
alpha_dataset = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    metainfo={{_base_.metainfo}},
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='train/'),
    filter_cfg=dict(filter_empty_gt=True),
    indices=-half,  # the second half
    pipeline={{_base_.train_pipeline}},
)
train_cfg = dict(
    type='detnas_mm.AlternatingTrainLoop',
    max_epochs=4,
    alpha_from=1,
    alpha_dataloader=dict(
        batch_size=16,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=alpha_dataset,
    ),
)
optim_wrapper = dict(
    constructor='detnas_mm.AlphaOptimWrapperConstructor',
    alpha=dict(optimizer=dict(type='Adam', lr=1e-2, betas=(0.5, 0.999), weight_decay=1e-5)),
)
param_scheduler = dict(_delete_=True, weights={{_base_.param_scheduler}}, alpha=[])
default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1, max_keep_ckpts=2))
log_processor = dict(by_epoch=True)
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmdet.ResNet', depth=50, base_channels=8),
        groups=8,
        input_size=({{_base_.size}}, {{_base_.size}}),
    ),
    objectives=[dict(name='alpha_entropy', direction='minimize')],
)
custom_hooks = [
    dict(type='detnas_mm.EpochSeedHook'),
    dict(
        type='detnas_mm.NATSSearchHook',
        calibration=dict(dataloader=dict(batch_size=20, num_workers=0, dataset=alpha_dataset), num_images=400),
    ),
    dict(type='detnas_mm.ChannelsLastHook'),
]
test_dataloader = None
test_evaluator = None
test_cfg = None
