# Step 2 of EDO: selects for every output channel the dilation whose taps represent its large kernel best, in one pass
# over center crops of training images. The result is written as a config, which is pre-trained from scratch (step 3).
#   python tools/search.py configs/nats/edo-r50_search_cls_imagenet.py
_base_ = './edo-r50_supernet_cls_imagenet.py'
load_from = 'work_dirs/edo-r50_supernet_cls_imagenet/epoch_100.pth'
search = dict(
    space=dict(type='DilationSpace', backbone=dict(type='mmpretrain.ResNet', depth=50), preset='ic-conv'),
    strategy=dict(type='EDOStrategy'),
    evaluator=dict(
        type='RepresentationError',
        dataloader=dict(
            batch_size=50,
            num_workers=8,
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='ImageNet',
                data_root={{_base_.data_root}},
                split='train',
                pipeline={{_base_.test_pipeline}},
            ),
        ),
        num_images=5000,
    ),
    objectives=[dict(name='representation_error', direction='minimize')],
    seed=0,
    export=dict(config='detnas_mm::nats/edo-r50_net_cls_imagenet.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
