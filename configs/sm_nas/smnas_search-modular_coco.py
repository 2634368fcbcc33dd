# SM-NAS, stage 2, on COCO: searches the modules of stage 1's front, from random weights.
#   python tools/search.py configs/sm_nas/smnas_search-modular_coco.py
# To start from other detectors, give their configs:
#   --cfg-options search.space.seeds="['mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py']"
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',  # each candidate replaces it by its own
    '../_base_/datasets/coco_smnas.py',
    '../_base_/schedules/smnas_coco_12e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/smnas_modular.py',
]
search = dict(
    space=dict(seeds=dict(file='work_dirs/smnas_search-structural_coco/best.json')),
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(latency=dict(file='work_dirs/smnas_search-structural_coco/latency.json')),
)
