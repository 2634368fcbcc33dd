# A net trained on VOC in RetinaNet from random weights, twice as long. Set its architecture; by default all blocks are
# 3x3, as in ShuffleNetV2-20:
#   bash tools/dist_train.sh configs/detnas/detnas-small_net-scratch_retinanet_voc.py 8 \
#       --cfg-options model.backbone.arch='2120|2112|33130031|3132'
_base_ = [
    '../_base_/models/detnas_retinanet.py',
    '../_base_/datasets/voc.py',
    '../_base_/schedules/detnas_voc_45k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(type='detnas_mm.DetNASNet', arch='0000|0000|00000000|0000', space='small'),
    bbox_head=dict(num_classes=20),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
