# The published clsnasnet-300m (found for ImageNet classification), pre-trained on ImageNet.
_base_ = './detnas-small_net_cls_imagenet.py'
model = dict(backbone=dict(arch='clsnasnet-300m'))
