# The recipe of the authors' first code: 12 epochs of 7,330 iterations with 16 images, SGD with Nesterov momentum, no
# weight decay on norms, learning rate times 0.1 at epochs 8 and 11, a warm-up of 500 iterations from a third. The
# published nets were trained longer, from random weights; for how long is not published.
_base_ = './ic_conv_coco_12e.py'
optim_wrapper = dict(optimizer=dict(nesterov=True), paramwise_cfg=dict(norm_decay_mult=0.0))
iterations = 7330
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
