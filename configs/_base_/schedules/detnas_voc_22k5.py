# The recipe for VOC: a quarter of COCO's iterations.
_base_ = './detnas_coco_90k.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=22500, milestones=[15000, 20000], gamma=0.1),
]
train_cfg = dict(max_iters=22500, val_interval=2500)
