# ImageNet for the supernet that goes on to a detector: all of train. There is no path to be tested on.
_base_ = './imagenet.py'
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
