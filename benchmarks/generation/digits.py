# The space of the Digits configs, 1,024 nets, with their RetinaNet: fast enough to be evaluated on 2,000 images.
_base_ = [
    '../../configs/_base_/models/digits_space.py',
    '../../configs/_base_/models/digits_retinanet.py',
    './data.py',
]
model = dict(
    backbone=dict(type='detnas_mm.DetNASSupernet', space={{_base_.space}}, aligned_init=True),
    test_cfg=dict(max_per_img=20),
)
train_cfg = dict(max_iters=1200)
search = dict(space=dict(_delete_=True, type='DetNASSpace', space={{_base_.space}}))
pretrain = 'pretrain_digits.py'
