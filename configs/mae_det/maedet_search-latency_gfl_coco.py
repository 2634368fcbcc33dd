# The evolution of MAE-DET at ResNet-50's latency on this machine. Measure the table, then search:
#   python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-latency_gfl_coco.py
#   python tools/search.py configs/mae_det/maedet_search-latency_gfl_coco.py
_base_ = [
    '../_base_/models/maedet_gfl.py',
    '../_base_/datasets/coco_maedet.py',
    '../_base_/schedules/maedet_coco_73e.py',
    '../_base_/default_runtime_mmdet.py',
    '../_base_/search/maedet.py',
]
search = dict(
    strategy=dict(proof=None),  # takes a minute with a table; see maedet_search-exact-latency_gfl_coco.py
    costs=dict(
        latency=dict(
            type='StructureLatency',
            file='work_dirs/maedet_search-latency_gfl_coco/latency.json',
            input_size=(480, 480),
        ),
        # 1 is the latency of ResNet-50, measured with the table, so the limit is valid on every machine.
        latency_to_resnet50=dict(
            type='StructureLatency',
            file='work_dirs/maedet_search-latency_gfl_coco/latency.json',
            input_size=(480, 480),
            relative_to='resnet50',
        ),
    ),
    constraints=[dict(cost='latency_to_resnet50', high=1.0), dict(cost='layers', high=91)],
)
