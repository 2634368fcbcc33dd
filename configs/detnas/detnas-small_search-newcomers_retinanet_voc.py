# Step 3 of DetNAS as the authors' code has it: of 50 children 20 are mutated, 20 crossed and 10 drawn at random.
_base_ = './detnas-small_search_retinanet_voc.py'
search = dict(strategy=dict(mutation=20, crossover=20, random=10))
