# The structure of largest entropy within the budget of maedet-digits_search_retinanet.py, on Digits, from scratch.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(
    backbone=dict(arch='8k3s2|24k5s2x1b8|80k5s2x2b12|160k5s2x4b20|248k5s2x1b44'),
    neck=dict(in_channels=[80, 160, 248]),
)
