# Pre-training of the supernets of benchmarks/generation.py: the small space of the paper, on crops.
_base_ = '../../configs/digits/detnas-digits_supernet_cls.py'
model = dict(backbone=dict(_delete_=True, type='detnas_mm.DetNASSupernet', space='small', aligned_init=True,
                           with_last_conv=True, out_indices=()),
             head=dict(in_channels=1024))  # fmt: skip
train_dataloader = dict(batch_size=32)
train_cfg = dict(max_iters=800)
