# The published coco-fpn-3.8g (the paper's DetNASNet (3.8)), pre-trained on ImageNet.
_base_ = './detnas-large-3800m_net_cls_imagenet.py'
model = dict(backbone=dict(arch='coco-fpn-3.8g'))
