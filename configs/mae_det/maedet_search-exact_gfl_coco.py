# The best structure at ResNet-50's budget, with a proven bound.
#   python tools/search.py configs/mae_det/maedet_search-exact_gfl_coco.py
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet_exact.py',
]
