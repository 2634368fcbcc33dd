# Step 1 of DetNAS on Digits: the supernet learns to classify crops, one random path a step. Uniform sampling alone, the
# paper's way, stays at chance for as long as Digits allows; so choices begin alike, and paths join in little by little.
_base_ = [
    '../_base_/models/digits_space.py',
    '../_base_/models/digits_classifier.py',
    '../_base_/datasets/digits_classification.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space={{_base_.space}}, aligned_init=True))
custom_hooks = [
    dict(
        type='detnas_mm.PathSamplingHook',
        sampler=dict(type='RampPathSampler', anchor='0|0|00|0', begin=180, end=1500),
    ),
    dict(type='EMAHook', momentum=0.005, update_buffers=True),
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1800)
find_unused_parameters = True
# A supernet has no path to be tested on; see detnas-digits_search_cls.py.
test_dataloader = None
test_evaluator = None
test_cfg = None
