# Step 4 of DetNAS on Digits: the found net is pre-trained. Set its architecture:
#   python tools/train.py configs/digits/detnas-digits_net_cls.py --cfg-options model.backbone.arch='2|2|20|3'
_base_ = [
    '../_base_/models/digits_space.py',
    '../_base_/models/digits_classifier.py',
    '../_base_/datasets/digits_classification.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASNet', arch='0|0|00|0', space={{_base_.space}}))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=800)
