# 1x as in mmdet: 12 epochs of 7,330 iterations with 16 images, learning rate times 0.1 at epochs 8 and 11.
_base_ = './nats_coco_13e.py'
iterations = 7330
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=12 * iterations,
        milestones=[8 * iterations, 11 * iterations],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=12 * iterations)
