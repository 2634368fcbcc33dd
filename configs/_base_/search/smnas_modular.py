# Stage 2 of SM-NAS: trains about 300 detectors from random weights and searches the Pareto front of mAP and latency on
# this machine. Leaf configs set the metric, and the files of stage 1's front and of latencies.
search = dict(
    space=dict(type='ModularSpace', base=(48, 56, 64, 72), neck=(128, 256, 384), doublings=3, depth=(5, 35)),
    strategy=dict(type='ModularStrategy', population=30, random=0.2),
    evaluator=dict(type='ShortTraining', workers=dict(type='LocalWorkers', count=8, threads=4)),
    costs=dict(latency=dict(type='NetLatency', device='cuda')),
    budget=dict(generations=10),
    seed=0,
)
