# The authors' search for a backbone at ResNet-50's budget: their space, 100,000 candidates, population 256. FLOPs are
# counted as in their code, at 480x480. It needs no data, no checkpoint and no GPU.
search = dict(
    space=dict(type='MAEDetSpace', space='authors'),
    strategy=dict(
        type='PopulationEvolution',
        population=256,
        candidates=10_000,
        start=['maedet-init'],
        # Exact search also proves an upper bound, which is logged and drawn; it takes longer than the search itself.
        proof=dict(type='ExactStrategy', score=dict(type='EntropyScore', weights=(0, 0, 1, 1, 6))),
    ),
    evaluator=dict(type='EntropyScore', weights=(0, 0, 1, 1, 6)),
    objectives=[dict(name='entropy', direction='maximize')],
    costs=dict(
        flops=dict(type='StructureFlops', input_size=(480, 480)),
        macs=dict(type='StructureMacs', input_size=(480, 480)),
        params=dict(type='StructureParams'),
        layers=dict(type='StructureLayers'),
    ),
    constraints=[dict(cost='flops', high=188e8), dict(cost='layers', high=91)],
    budget=dict(generations=10),
    seed=0,
    export=dict(top_k=1),
)
