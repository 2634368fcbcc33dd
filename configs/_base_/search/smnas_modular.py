# Stage 2 of SM-NAS: about 300 detectors, each trained from random weights; the front of mAP against this machine's
# latency. Leaf configs say where stage 1's front is, the metric, and where latencies are kept.
search = dict(
    space=dict(type='ModularSpace', base=(48, 56, 64, 72), neck=(128, 256, 384), doublings=3, depth=(5, 35)),
    strategy=dict(type='ModularStrategy', population=30, random=0.2),
    evaluator=dict(type='ShortTraining', workers=dict(type='LocalWorkers', count=8, threads=4)),
    costs=dict(latency=dict(type='NetLatency', device='cuda')),
    budget=dict(generations=10),
    seed=0,
)
