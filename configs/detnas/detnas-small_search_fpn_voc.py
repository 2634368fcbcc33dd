# Step 3 of DetNAS: evolution over the trained supernet, candidates evaluated in Faster R-CNN with FPN on VOC, at most
# 300M MACs.
#   bash tools/dist_search.sh configs/detnas/detnas-small_search_fpn_voc.py SUPERNET.pth 8
_base_ = ['./detnas-small_supernet_fpn_voc.py', '../_base_/search/detnas.py']
load_from = 'work_dirs/detnas-small_supernet_fpn_voc/iter_22500.pth'
model = dict(backbone=dict(init_cfg=None))
search = dict(
    space=dict(type='DetNASSpace', space='small'),
    evaluator={{_base_.search_data}},
    objectives=[dict(name='pascal_voc/mAP', direction='maximize')],
    constraints=[dict(cost='macs', high=300e6)],
    export=dict(config='detnas_mm::detnas/detnas-small_net_fpn_voc.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
