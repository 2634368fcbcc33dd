# The authors' recipe from scratch: 73 epochs of 7,330 iterations with 16 images, learning rate times 0.1 at epochs 65
# and 71, one epoch of warm-up.
iterations = 7330
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=iterations),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=73 * iterations,
        milestones=[65 * iterations, 71 * iterations],
        gamma=0.1,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=73 * iterations, val_interval=5 * iterations)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iterations, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
