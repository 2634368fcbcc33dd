# MAE-DET-S on Digits, from scratch: the published net, far larger than Digits needs. Needs a GPU.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(backbone=dict(arch='maedet-s'), neck=dict(in_channels=[272, 1024, 2048]))
