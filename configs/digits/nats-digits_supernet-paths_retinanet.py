# Supernet for searching NATS's space on Digits by evolution: all dilations share the weights of one backbone, trained
# with one random path per iteration, for as many iterations as the search by gradient
# (nats-digits_search_retinanet.py).
#   python tools/train.py configs/digits/nats-digits_supernet-paths_retinanet.py
# From a backbone that was pre-trained on crops:
#   … --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone. \
#       model.backbone.init_cfg.checkpoint=work_dirs/edo-digits_net_cls/iter_800.pth
_base_ = [
    '../_base_/models/nats_digits_retinanet.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(type='detnas_mm.DilatedSupernet', space=dict(groups=8)))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook'), dict(type='detnas_mm.ChannelsLastHook')]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500)
# A supernet is not tested: it has no single path; see nats-digits_search-evolution_retinanet.py.
test_dataloader = None
test_evaluator = None
test_cfg = None
