# MAE-DET-L on Digits, from scratch: the published net, far larger than Digits needs. Needs a GPU.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(backbone=dict(arch='maedet-l'), neck=dict(in_channels=[608, 1912, 2400]))
