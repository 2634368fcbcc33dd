# The paper's retraining: 13 epochs of 7,330 iterations with 16 images, a learning rate of 0.00125 per image, times 0.1
# at epochs 8 and 11. The paper does not state the length of the warm-up: 500 iterations, as in mmdet.
iterations = 7330
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=13 * iterations,
        milestones=[8 * iterations, 11 * iterations],
        gamma=0.1,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=13 * iterations, val_interval=iterations)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=iterations, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
