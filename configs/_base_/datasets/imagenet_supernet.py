# ImageNet for the supernet of a detector: all of train. A supernet is not tested: it has no single path.
_base_ = './imagenet.py'
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
