# The recipe for COCO from scratch: twice as long.
_base_ = './detnas_coco_90k.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=180000, milestones=[120000, 160000], gamma=0.1),
]
train_cfg = dict(max_iters=180000, val_interval=20000)
