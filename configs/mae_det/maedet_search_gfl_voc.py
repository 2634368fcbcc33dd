# The evolution of MAE-DET at ResNet-50's budget; exports the found net as a training config for VOC.
#   python tools/search.py configs/mae_det/maedet_search_gfl_voc.py
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/voc_maedet.py',
    '../_base_/schedules/maedet_voc_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet.py',
]
model = dict(bbox_head=dict(num_classes=20))
