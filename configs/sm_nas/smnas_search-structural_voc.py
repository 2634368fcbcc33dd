# SM-NAS, stage 1, on VOC: searches modules and input size, with backbones pre-trained on ImageNet.
#   python tools/search.py configs/sm_nas/smnas_search-structural_voc.py
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',  # candidates replace it, except data_preprocessor
    '../_base_/datasets/voc_smnas.py',
    '../_base_/schedules/smnas_voc_12e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/smnas_structural.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
search = dict(
    space=dict(num_classes=20),
    objectives=[
        dict(name='pascal_voc/mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(latency=dict(file='work_dirs/smnas_search-structural_voc/latency.json')),
)
