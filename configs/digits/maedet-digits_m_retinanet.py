# MAE-DET-M on Digits, from scratch: the published net, far larger than Digits needs. Needs a GPU.
_base_ = './maedet-digits_resnet_retinanet.py'
model = dict(backbone=dict(arch='maedet-m'), neck=dict(in_channels=[512, 1632, 2048]))
