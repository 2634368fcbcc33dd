# Within the FLOPs, parameters and layers of MAE-DET-L: the structure of largest entropy in a space that holds it.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet_exact.py',
]
search = dict(
    space=dict(space='relaxed'),
    constraints=[
        dict(cost='flops', high=34494619500),
        dict(cost='params', high=43879552),
        dict(cost='layers', high=109),
    ],
)
