# NATS's space searched by evolution over the supernet of the search by gradient, which was trained with all genotypes
# mixed. Its weights have seen one half of train2017; candidates are evaluated on 5,000 images of the other half.
#   bash tools/dist_search.sh configs/nats/nats-r50_search-mixture_fpn_coco.py SUPERNET.pth 8
_base_ = './nats-r50_search-evolution_fpn_coco.py'
load_from = 'work_dirs/nats-r50_search_fpn_coco/epoch_25.pth'
model = dict(backbone=dict(mixture=True))
search = dict(
    evaluator=dict(
        dataloader=dict(dataset=dict(ann_file='annotations/nats_alpha.json', indices=5000)),
        metric=dict(ann_file='{{$DETNAS_COCO:data/coco}}/annotations/nats_alpha.json'),
        calibration=dict(dataloader=dict(dataset=dict(ann_file='annotations/nats_weights.json'))),
    ),
)
