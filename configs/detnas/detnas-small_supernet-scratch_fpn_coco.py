# DetNAS-scratch: the supernet is trained on COCO in Faster R-CNN with FPN from random weights, twice as long. Search it
# with detnas-small_search_fpn_coco.py with this supernet's checkpoint.
_base_ = [
    '../_base_/models/detnas_faster_rcnn.py',
    '../_base_/datasets/coco_detnas.py',
    '../_base_/schedules/detnas_coco_180k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space='small'))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
