# Step 1 of DetNAS with the paths of the authors' ImageNet script: uniform over 10M-MAC bins in 290–360M, with the last
# convolution and the classifier counted.
_base_ = './detnas-small_supernet_cls_imagenet.py'
custom_hooks = [
    dict(
        type='detnas_mm.PathSamplingHook',
        sampler=dict(type='MacsBinPathSampler', low=290e6, high=360e6, bin_width=10e6, with_classifier=1000),
    )
]
