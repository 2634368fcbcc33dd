# Stage 1 of SM-NAS: trains about 500 whole detectors and searches the Pareto front of mAP and latency on this machine.
# The paper uses evolution, the authors' first code random search (type='RandomStrategy'). Leaf configs set the metric
# and the file of latencies.
search = dict(
    space=dict(type='StructuralSpace'),
    strategy=dict(type='ParetoStrategy', population=50, parents=20, mutation=25, crossover=25, mutation_prob=0.2),
    evaluator=dict(type='ShortTraining', workers=dict(type='LocalWorkers', count=8, threads=4)),
    costs=dict(latency=dict(type='NetLatency', device='cuda')),
    budget=dict(generations=10),
    seed=0,
)
