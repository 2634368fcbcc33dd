# The same for VOC: 13 epochs of 1,035 iterations with 16 images.
_base_ = './nats_coco_13e.py'
iterations = 1035
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
train_cfg = dict(max_iters=13 * iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))
