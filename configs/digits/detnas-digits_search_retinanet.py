# Step 3 of DetNAS on Digits: evolution over the trained supernet.
#   python tools/search.py configs/digits/detnas-digits_search_retinanet.py SUPERNET.pth
_base_ = ['./detnas-digits_supernet_retinanet.py', '../_base_/search/detnas.py']
# Scenes contain at most four digits; with 100 boxes per image, NMS and metric would dominate the evaluation time.
model = dict(test_cfg=dict(max_per_img=20))
search_val = dict(
    type='CocoDataset',
    data_root={{_base_.data_root}},
    metainfo={{_base_.metainfo}},
    ann_file='annotations/instances_search_val.json',
    data_prefix=dict(img='search_val/'),
    test_mode=True,
    pipeline={{_base_.test_pipeline}},
)
search = dict(
    space=dict(type='DetNASSpace', space={{_base_.space}}),
    strategy=dict(population=20, parents=10, mutation=10, crossover=10, mutation_prob=0.4),
    evaluator=dict(
        channels_last=True,  # evaluates candidates a sixth faster
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
    costs=dict(macs=dict(input_size=(96, 96))),
    constraints=[dict(cost='macs', high=5.8e6)],
    budget=dict(generations=8),
    export=dict(config='detnas_mm::digits/detnas-digits_net_retinanet.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
