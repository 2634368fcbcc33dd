# Step 1 of DetNAS on Digits: the supernet is pre-trained on crops, with one random path per iteration. With
# independently initialised choices, as in the paper, it stayed at chance level on the first version of Digits, hence
# aligned_init. The authors' initialisation gives better results here than torch's (benchmarks/measured.md).
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
# A supernet is not tested: it has no single path; see detnas-digits_search_cls.py.
test_dataloader = None
test_evaluator = None
test_cfg = None
