# A small ResNet as MAE-DET structure on Digits, from scratch: defines the budget of the search, and is its control.
_base_ = [
    '../_base_/models/digits_retinanet.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(type='detnas_mm.MAEDetNet', arch='16k3s2|32k3s2x2b8|64k3s2x2b16|128k3s2x2b32|256k3s2x2b64'),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000)
