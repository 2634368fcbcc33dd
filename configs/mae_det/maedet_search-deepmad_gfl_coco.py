# The same by the score of DeepMAD, with its limit on the ratio of depth to width.
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet.py',
]
search = dict(
    strategy=dict(proof=None),  # this score is no sum over blocks
    evaluator=dict(_delete_=True, type='DeepMADScore', weights=(1, 1, 1, 1, 8), input_size=(480, 480)),
    objectives=[dict(name='deepmad', direction='maximize')],
    costs=dict(rho=dict(type='StructureDepthToWidth')),
    constraints=[
        dict(cost='flops', high=188e8),
        dict(cost='layers', high=91),
        dict(cost='rho', high=0.3),
    ],
)
