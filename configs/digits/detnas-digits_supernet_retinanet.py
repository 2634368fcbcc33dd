# Step 2 of DetNAS on Digits: the pre-trained supernet is fine-tuned in a detector, with one random path per iteration.
_base_ = [
    '../_base_/models/digits_space.py',
    '../_base_/models/digits_retinanet.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space={{_base_.space}}))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook'), dict(type='detnas_mm.ChannelsLastHook')]
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000)
find_unused_parameters = True
test_dataloader = None
test_evaluator = None
test_cfg = None
