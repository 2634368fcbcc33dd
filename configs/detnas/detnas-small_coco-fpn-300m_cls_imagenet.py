# The published coco-fpn-300m (found for FPN on COCO), pre-trained on ImageNet.
_base_ = './detnas-small_net_cls_imagenet.py'
model = dict(backbone=dict(arch='coco-fpn-300m'))
