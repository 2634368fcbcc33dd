# Step 4 of DetNAS: the found net is pre-trained on ImageNet. Set its architecture; by default all blocks are 3x3, as in
# ShuffleNetV2-20:
#   bash tools/dist_train.sh configs/detnas/detnas-small_net_cls_imagenet.py 8 \
#       --cfg-options model.backbone.arch='2120|2112|33130031|3132'
_base_ = [
    '../_base_/models/detnas_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/detnas_imagenet_300k.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASNet', arch='0000|0000|00000000|0000', space='small'))
