# The front of entropy against latency on this machine. progress.png shows the front; a dozen nets along it are
# exported. Measure the table, then search:
#   python tools/analysis_tools/measure_latency.py configs/mae_det/maedet_search-front_gfl_coco.py
#   python tools/search.py configs/mae_det/maedet_search-front_gfl_coco.py
_base_ = './maedet_search-latency_gfl_coco.py'
search = dict(
    strategy=dict(_delete_=True, type='ParetoStrategy', population=100, parents=50, mutation_prob=1.0),
    objectives=[
        dict(name='entropy', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    budget=dict(generations=60),
    export=dict(front_k=12),
)
