# The supernet of ClsNAS in the large space.
_base_ = './detnas-small_supernet-clsnas_cls_imagenet.py'
model = dict(backbone=dict(space='large'))
