# VOC for a search by gradient: weights are trained on trainval of 2012, α on trainval of 2007.
_base_ = './coco_nats.py'
dataset_type = 'VOCDataset'
data_root = '{{$DETNAS_VOC:data/VOCdevkit}}/'
weights = dict(
    type=dataset_type,
    data_root=data_root,
    ann_file='VOC2012/ImageSets/Main/trainval.txt',
    data_prefix=dict(_delete_=True, sub_data_root='VOC2012/'),
)
train_dataloader = dict(dataset=weights)
alpha_data = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='VOC2007/ImageSets/Main/trainval.txt',
        data_prefix=dict(_delete_=True, sub_data_root='VOC2007/'),
    ),
)
calibration = dict(dataloader=dict(dataset=weights))
