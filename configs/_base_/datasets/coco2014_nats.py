# COCO 2014 for a search by gradient, as in the paper: weights are trained on train2014, α on the 35,000 images of
# val2014 that are not in minival (today's val2017). Make the list of the latter by
#   python tools/dataset_converters/split_coco.py data/coco/annotations/instances_val2014.json \
#       --without data/coco/annotations/instances_val2017.json --names val2014_without_minival
_base_ = './coco_nats.py'
weights = dict(ann_file='annotations/instances_train2014.json', data_prefix=dict(img='train2014/'))
train_dataloader = dict(dataset=weights)
alpha_data = dict(
    dataset=dict(ann_file='annotations/val2014_without_minival.json', data_prefix=dict(img='val2014/')),
)
calibration = dict(dataloader=dict(dataset=weights))
