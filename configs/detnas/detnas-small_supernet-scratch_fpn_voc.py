# DetNAS-scratch: the supernet is trained on VOC in Faster R-CNN with FPN from random weights, twice as long. Search it
# with detnas-small_search_fpn_voc.py with this supernet's checkpoint.
_base_ = [
    '../_base_/models/detnas_faster_rcnn.py',
    '../_base_/datasets/voc_detnas.py',
    '../_base_/schedules/detnas_voc_45k.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(type='detnas_mm.DetNASSupernet', space='small'),
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
