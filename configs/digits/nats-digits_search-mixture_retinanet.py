# NATS's space on Digits, searched by evolution over the supernet of the search by gradient, which was trained with all
# genotypes mixed.
#   python tools/search.py configs/digits/nats-digits_search-mixture_retinanet.py \
#       work_dirs/nats-digits_search_retinanet/epoch_4.pth
_base_ = './nats-digits_search-evolution_retinanet.py'
model = dict(backbone=dict(mixture=True))
