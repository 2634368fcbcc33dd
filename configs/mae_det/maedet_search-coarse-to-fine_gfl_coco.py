# The same in two phases, as described in the paper: first the structure, then only widths.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet.py',
]
search = dict(
    strategy=dict(
        phases=[
            dict(kinds=['out', 'kernel', 'depth', 'bottleneck'], generations=5),
            dict(kinds=['out', 'bottleneck']),
        ],
    ),
)
