# A structure drawn at random within the same budget, of which it uses 91 % of the multiply-adds; another control.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(
    backbone=dict(arch='8k3s2|16k5s2x1b8|56k3s2x4b16|112k5s2x1b44|136k3s2x1b28'),
    neck=dict(in_channels=[56, 112, 136]),
)
