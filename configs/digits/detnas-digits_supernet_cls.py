# Step 1 of DetNAS on Digits: the supernet learns to classify crops, one random path a step. From choices that begin as
# different functions, as in the paper, it stayed at chance on the first version of Digits; so they begin alike. Its
# weights begin as the authors', which here does better than torch's own (benchmarks/measured.md).
_base_ = [
    '../_base_/models/digits_space.py',
    '../_base_/models/digits_classifier.py',
    '../_base_/datasets/digits_classification.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space={{_base_.space}}, aligned_init=True, init_cfg=None))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook'), dict(type='detnas_mm.ChannelsLastHook')]
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000)
find_unused_parameters = True
# A supernet has no path to be tested on; see detnas-digits_search_cls.py.
test_dataloader = None
test_evaluator = None
test_cfg = None
