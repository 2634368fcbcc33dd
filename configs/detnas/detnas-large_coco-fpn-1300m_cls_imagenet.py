# The published coco-fpn-1.3g (the paper's DetNASNet), pre-trained on ImageNet.
_base_ = './detnas-large_net_cls_imagenet.py'
model = dict(backbone=dict(arch='coco-fpn-1.3g'))
