# The recipe from scratch for VOC: as many epochs as for COCO, of 1,035 iterations with 16 images.
_base_ = './maedet_coco_73e.py'
iterations = 1035
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
train_cfg = dict(max_iters=73 * iterations, val_interval=5 * iterations)
default_hooks = dict(checkpoint=dict(interval=iterations))
