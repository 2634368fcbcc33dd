# The same for VOC: 12 epochs of its 16,551 images, 1,035 iterations with 16 images each. In a search, which excludes
# 5,000 images, as many iterations are 17 epochs.
_base_ = './smnas_coco_12e.py'
iterations = 1035
param_scheduler = [
    dict(type='LinearLR', start_factor=0.33, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=12 * iterations,
        milestones=[8 * iterations, 11 * iterations],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=12 * iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))
