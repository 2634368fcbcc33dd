# Step 3 of EDO with ResNet-101, see edo-r50_net_cls_imagenet.py:
#   bash tools/dist_train.sh work_dirs/edo-r101_search_cls_imagenet/best/rank1_….py 8
_base_ = './edo-r50_net_cls_imagenet.py'
model = dict(backbone=dict(depth=101))
