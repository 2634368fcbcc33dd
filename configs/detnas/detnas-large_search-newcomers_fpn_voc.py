# Step 3 of DetNAS in the large space, with mutation, crossover and random candidates as in the authors' code.
_base_ = './detnas-large_search_fpn_voc.py'
search = dict(strategy=dict(mutation=20, crossover=20, random=10))
