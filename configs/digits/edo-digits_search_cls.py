# Step 2 of EDO on Digits: selects for every output channel the dilation whose taps represent its large kernel best. The
# result is written as a config, which is pre-trained from scratch (step 3).
#   python tools/search.py configs/digits/edo-digits_search_cls.py SUPERNET.pth
_base_ = './edo-digits_supernet_cls.py'
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmpretrain.ResNet', depth=50, base_channels=8, stem_channels=8),
        preset='ic-conv',
        input_size=({{_base_.size}}, {{_base_.size}}),
    ),
    strategy=dict(type='EDOStrategy'),
    evaluator=dict(
        type='RepresentationError',
        dataloader=dict(
            batch_size=100,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            dataset={{_base_.train_dataloader.dataset}},  # its pipeline is deterministic
        ),
        num_images=500,
    ),
    objectives=[dict(name='representation_error', direction='minimize')],
    seed=0,
    export=dict(config='detnas_mm::digits/edo-digits_net_cls.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
