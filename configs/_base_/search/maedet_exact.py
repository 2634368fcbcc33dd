# The same question, answered exactly: the best structure within the budgets, and a proof of how good it is.
_base_ = './maedet.py'
search = dict(
    strategy=dict(_delete_=True, type='ExactStrategy', score=dict(type='EntropyScore', weights=(0, 0, 1, 1, 6))),
    budget=dict(generations=1),
)
