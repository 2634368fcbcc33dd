# The recipe for ImageNet: 300,000 iterations with 1,024 images, learning rate linear from 0.5 to 0.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='detnas_mm.FewGroupsOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.5, momentum=0.9, weight_decay=4e-5),
    # No weight decay on BN and biases.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=300000)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300000, val_interval=10000)
auto_scale_lr = dict(base_batch_size=1024)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=100),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
