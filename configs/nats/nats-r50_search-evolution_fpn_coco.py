# NATS's space searched by evolution, step 2: candidates are evaluated with the weights of the supernet of single paths,
# on the images of train2017 that it was not trained on.
#   bash tools/dist_search.sh configs/nats/nats-r50_search-evolution_fpn_coco.py SUPERNET.pth 8
# Random search: --cfg-options search.strategy="dict(_delete_=True, type='RandomStrategy', population=1000)".
_base_ = './nats-r50_supernet-paths_fpn_coco.py'
load_from = 'work_dirs/nats-r50_supernet-paths_fpn_coco/iter_183250.pth'
model = dict(backbone=dict(init_cfg=None))
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmdet.ResNet', depth=50),
        groups=16,
        input_size=(800, 1333),
    ),
    strategy=dict(type='EvolutionStrategy', population=50, parents=10, mutation=25, crossover=25, mutation_prob=0.1),
    evaluator=dict(
        type='OneShotEvaluator',
        dataloader={{_base_.search_data.dataloader}},
        metric={{_base_.search_data.metric}},
        calibration={{_base_.search_data.calibration}},
    ),
    objectives=[dict(name='coco/bbox_mAP', direction='maximize')],
    budget=dict(generations=20),
    seed=0,
    export=dict(config='detnas_mm::nats/nats-r50_net_fpn_coco.py'),
)
# No training (max_epochs=0): the hook of the search runs at once.
custom_hooks = [dict(type='detnas_mm.EvolutionSearchHook')]
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=0)
param_scheduler = []
default_hooks = dict(checkpoint=None)
