# The best structure at ResNet-50's latency on this machine, with a proven bound. Measure the table, then search:
#   python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-exact-latency_gfl_coco.py
#   python tools/search.py configs/mae_det/maedet_search-exact-latency_gfl_coco.py
_base_ = './maedet_search-latency_gfl_coco.py'
search = dict(
    strategy=dict(_delete_=True, type='ExactStrategy', score=dict(type='EntropyScore', weights=(0, 0, 1, 1, 6))),
    budget=dict(generations=1),
)
