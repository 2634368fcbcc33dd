# Step 3 of DetNAS as in the authors' code: of 50 candidates, 20 by mutation, 20 by crossover and 10 at random.
_base_ = './detnas-small_search_fpn_voc.py'
search = dict(strategy=dict(mutation=20, crossover=20, random=10))
