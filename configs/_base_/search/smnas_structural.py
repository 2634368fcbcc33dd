# Stage 1 of SM-NAS: about 500 whole detectors, each trained; the front of mAP against this machine's latency. The paper
# says that it evolves them, the authors' first code draws them at random (type='RandomStrategy'). Leaf configs say the
# metric, and where latencies are kept.
search = dict(
    space=dict(type='StructuralSpace'),
    strategy=dict(type='ParetoStrategy', population=50, parents=20, mutation=25, crossover=25, mutation_prob=0.2),
    evaluator=dict(type='ShortTraining', workers=dict(type='LocalWorkers', count=8, threads=4)),
    costs=dict(latency=dict(type='NetLatency', device='cuda')),
    budget=dict(generations=10),
    seed=0,
)
