# A control: a random structure within the same budget, with 91 % of its multiply-adds.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(
    backbone=dict(arch='8k3s2|16k5s2x1b8|56k3s2x4b16|112k5s2x1b44|136k3s2x1b28'),
    neck=dict(in_channels=[56, 112, 136]),
)
