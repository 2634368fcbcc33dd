# ClsNAS on Digits: the same search, by classification accuracy.
#   python tools/search.py configs/digits/detnas-digits_search_cls.py SUPERNET.pth
_base_ = ['./detnas-digits_supernet_cls.py', '../_base_/search/detnas.py']
search_val = dict(
    type='CustomDataset',
    data_root={{_base_.data_root}},
    data_prefix='cls/search_val',
    pipeline={{_base_.test_pipeline}},
)
# BN is recalibrated on training images with the test transforms.
calibration_images = dict(
    type='CustomDataset', data_root={{_base_.data_root}}, data_prefix='cls/train', pipeline={{_base_.test_pipeline}}
)
search = dict(
    space=dict(type='DetNASSpace', space={{_base_.space}}),
    strategy=dict(population=20, parents=10, mutation=10, crossover=10, mutation_prob=0.4),
    evaluator=dict(
        channels_last=True,  # evaluates candidates a sixth faster
        dataloader=dict(batch_size=100, num_workers=0, collate_fn=dict(type='default_collate'), dataset=search_val),
        metric=dict(type='Accuracy', topk=(1,)),
        calibration=dict(
            dataloader=dict(
                batch_size=20, num_workers=0, collate_fn=dict(type='default_collate'), dataset=calibration_images
            ),
            num_images=500,
        ),
    ),
    objectives=[dict(name='accuracy/top1', direction='maximize')],
    costs=dict(macs=dict(input_size=(48, 48))),
    constraints=[dict(cost='macs', high=1.52e6)],
    budget=dict(generations=8),
    export=dict(config='detnas_mm::digits/detnas-digits_net_cls.py'),
)
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
