# The evolution of the paper (section 3.2, step 3): population 50, 20 iterations, all-time top 10 as parents, half
# mutation and half crossover. Leaf configs set the space, the data of the evaluator, the objective and the budget.
search = dict(
    strategy=dict(type='EvolutionStrategy', population=50, parents=10, mutation=25, crossover=25, mutation_prob=0.1),
    evaluator=dict(type='OneShotEvaluator'),
    costs=dict(macs=dict(type='MacsTable', input_size=(224, 224)), params=dict(type='ParamsTable')),
    budget=dict(generations=20),
    seed=0,
    export=dict(top_k=3),
)
