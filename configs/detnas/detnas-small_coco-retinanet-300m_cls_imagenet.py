# The published coco-retinanet-300m (found for RetinaNet on COCO), pre-trained on ImageNet.
_base_ = './detnas-small_net_cls_imagenet.py'
model = dict(backbone=dict(arch='coco-retinanet-300m'))
