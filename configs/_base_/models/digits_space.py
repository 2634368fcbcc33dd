# The search space of the Digits configs: 4^5 = 1,024 nets.
space = dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1))
