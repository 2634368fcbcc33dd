# Step 3 of EDO on Digits: the backbone with the found dilations is pre-trained. This config has no dilations and is the
# control; the search writes a copy with the found ones:
#   python tools/train.py configs/digits/edo-digits_net_cls.py
_base_ = [
    '../_base_/models/digits_classifier.py',
    '../_base_/datasets/digits_classification.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.ResNet', depth=50, base_channels=8, stem_channels=8),
    head=dict(in_channels=256),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800)
