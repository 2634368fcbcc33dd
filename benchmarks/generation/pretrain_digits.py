# Pre-training of the supernet of digits.py.
_base_ = '../../configs/digits/detnas-digits_supernet_cls.py'
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_iters=1200)
