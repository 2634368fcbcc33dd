# The same search, solved exactly: the best structure within the budgets, with a proven upper bound.
_base_ = './maedet.py'
search = dict(
    strategy=dict(_delete_=True, type='ExactStrategy', score=dict(type='EntropyScore', weights=(0, 0, 1, 1, 6))),
    budget=dict(generations=1),
)
