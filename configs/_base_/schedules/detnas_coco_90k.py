# The recipe for COCO: 90,000 iterations with 16 images. RetinaNet's leaf configs halve the learning rate.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='detnas_mm.FewGroupsOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    # Biases, including BN's: twice the learning rate, no weight decay. BN's weights have weight decay. (bias_lr_mult
    # and bias_decay_mult would not apply to BN's biases.)
    paramwise_cfg=dict(custom_keys={'.bias': dict(lr_mult=2.0, decay_mult=0.0)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[60000, 80000], gamma=0.1),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=10000)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
