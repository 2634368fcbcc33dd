# A net trained on COCO in Faster R-CNN with FPN from random weights, twice as long. Set its architecture; by default
# all blocks are 3x3, as in ShuffleNetV2-20:
#   bash tools/dist_train.sh configs/detnas/detnas-small_net-scratch_fpn_coco.py 8 \
#       --cfg-options model.backbone.arch='2120|2112|33130031|3132'
_base_ = [
    '../_base_/models/detnas_faster_rcnn.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/detnas_coco_180k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASNet', arch='0000|0000|00000000|0000', space='small'))
