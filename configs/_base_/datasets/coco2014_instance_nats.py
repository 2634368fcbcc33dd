# The paper's parts of COCO 2014 (coco2014_nats.py) with masks.
_base_ = './coco_instance_nats.py'
weights = dict(ann_file='annotations/instances_train2014.json', data_prefix=dict(img='train2014/'))
train_dataloader = dict(dataset=weights)
alpha_data = dict(
    dataset=dict(ann_file='annotations/val2014_without_minival.json', data_prefix=dict(img='val2014/')),
)
calibration = dict(dataloader=dict(dataset=weights))
