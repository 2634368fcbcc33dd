# NATS on Digits: the search by gradient. Weights are trained on one half of the training scenes, α on
# the other; after the last epoch the net is decoded and exported.
#   python tools/search.py configs/digits/nats-digits_search_retinanet.py --cfg-options \
#       model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone. \
#       model.backbone.init_cfg.checkpoint=work_dirs/edo-digits_net_cls/iter_800.pth
_base_ = ['../_base_/models/nats_digits_retinanet.py', '../_base_/search/nats_digits.py']
model = dict(backbone=dict(type='detnas_mm.DilatedSupernet', mixture=True, space=dict(groups=8)))
search = dict(export=dict(config='detnas_mm::digits/nats-digits_net_retinanet.py'))
