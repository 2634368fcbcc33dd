# COCO for a search that trains its candidates: they are evaluated on 5,000 images of train2017 that are not trained on.
# Make the split by
#   python tools/dataset_converters/split_coco.py data/coco/annotations/instances_train2017.json
_base_ = './coco.py'
# A candidate is trained on one GPU, with all 16 images of an iteration.
train_dataloader = dict(batch_size=16, dataset=dict(ann_file='annotations/detnas_train.json'))
val_dataloader = dict(
    dataset=dict(ann_file='annotations/detnas_search_val.json', data_prefix=dict(img='train2017/')),
)
val_evaluator = dict(ann_file='{{$DETNAS_COCO:data/coco}}/annotations/detnas_search_val.json')
test_dataloader = {{_base_.test_dataloader}}
test_evaluator = {{_base_.test_evaluator}}
