# Step 1 of EDO with ResNet-101, see edo-r50_supernet_cls_imagenet.py:
#   bash tools/dist_train.sh configs/nats/edo-r101_supernet_cls_imagenet.py 8
_base_ = './edo-r50_supernet_cls_imagenet.py'
model = dict(backbone=dict(depth=101))
