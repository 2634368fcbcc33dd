# The same, also within ResNet-50's parameters.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet_exact.py',
]
search = dict(
    constraints=[
        dict(cost='flops', high=188e8),
        dict(cost='layers', high=91),
        dict(cost='params', high=23.5e6),
    ],
)
