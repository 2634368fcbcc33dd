# MAE-DET-S in GFL on VOC, from scratch; with it the authors use 192 channels in neck and head.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/voc_maedet.py',
    '../_base_/schedules/maedet_voc_73e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(neck=dict(out_channels=192), bbox_head=dict(in_channels=192, feat_channels=192, num_classes=20))
