# SM-NAS, stage 1, on COCO: searches modules and input size, with backbones pre-trained on ImageNet.
#   python tools/search.py configs/sm_nas/smnas_search-structural_coco.py
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',  # candidates replace it, except data_preprocessor
    '../_base_/datasets/coco_smnas.py',
    '../_base_/schedules/smnas_coco_12e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/smnas_structural.py',
]
search = dict(
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(latency=dict(file='work_dirs/smnas_search-structural_coco/latency.json')),
)
