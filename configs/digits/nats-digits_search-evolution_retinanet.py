# NATS's space on Digits, searched by evolution over a supernet that was trained by single paths.
#   python tools/search.py configs/digits/nats-digits_search-evolution_retinanet.py SUPERNET.pth
# Random search: --cfg-options search.strategy="dict(_delete_=True, type='RandomStrategy', population=20)".
_base_ = './nats-digits_supernet-paths_retinanet.py'
# Scenes contain at most four digits; with 100 boxes per image, NMS and metric would dominate the evaluation time.
model = dict(test_cfg=dict(max_per_img=20))
search_val = dict(
    type={{_base_.dataset_type}},
    data_root={{_base_.data_root}},
    metainfo={{_base_.metainfo}},
    ann_file='annotations/instances_search_val.json',
    data_prefix=dict(img='search_val/'),
    test_mode=True,
    pipeline={{_base_.test_pipeline}},
)
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmdet.ResNet', depth=50, base_channels=8),
        groups=8,
        input_size=({{_base_.size}}, {{_base_.size}}),
    ),
    strategy=dict(type='EvolutionStrategy', population=20, parents=10, mutation=10, crossover=10, mutation_prob=0.1),
    evaluator=dict(
        type='OneShotEvaluator',
        channels_last=True,
        dataloader=dict(batch_size=20, num_workers=0, dataset=search_val),
        metric=dict(
            type='FasterCocoMetric',
            ann_file='{{$DETNAS_DIGITS:data/digits}}/annotations/instances_search_val.json',
            metric='bbox',
        ),
        # Training images with the training pipeline, which is deterministic for Digits.
        calibration=dict(
            dataloader=dict(batch_size=20, num_workers=0, dataset={{_base_.train_dataloader.dataset}}), num_images=200
        ),
    ),
    objectives=[dict(name='coco/bbox_mAP', direction='maximize')],
    budget=dict(generations=8),
    seed=0,
    export=dict(config='detnas_mm::digits/nats-digits_net_retinanet.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
