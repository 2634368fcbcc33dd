"""Small spaces of structures, for tests that try everything."""

import itertools

import numpy as np

SMALL = dict(
    strides=[2, 1, 2], stem_widths=[8, 16], widths=[8, 40], growth=[1, 2.5], depths=[[1, 2], [1, 3], [1, 2]],
    bottlenecks=[8, 24], bottleneck_ratio=[0.3, 1],
)  # fmt: skip


def members(space):
    """All of a space: the product of all genes, less what breaks a rule; shape (members, genes)."""
    spec = space.spec()
    step = spec['width_step']
    ends = [spec['stem_widths'], *[spec['widths']] * len(spec['strides'])]
    low, high = spec['bottlenecks']
    bottlenecks = range(low, high + 1, spec['bottleneck_step'])
    blocks = [
        np.array(list(itertools.product(spec['kernels'], [stride], range(few, many + 1), bottlenecks)))
        for stride, (few, many) in zip(spec['strides'], spec['depths'], strict=True)
    ]
    picks = np.stack(np.meshgrid(*[np.arange(len(b)) for b in blocks], indexing='ij'), -1).reshape(-1, len(blocks))
    rows = []
    for chain in itertools.product(*[range(first, last + 1, step) for first, last in ends]):
        own = np.empty((len(picks), 3 + 5 * len(blocks)), dtype=np.int64)
        own[:, :3] = chain[0], spec['stem_kernel'], spec['stem_stride']
        for number, block in enumerate(blocks):
            own[:, 3 + 5 * number] = chain[number + 1]
            own[:, 4 + 5 * number : 8 + 5 * number] = block[picks[:, number]]
        rows.append(own[space.contains(own)])
    codes = np.concatenate(rows)
    assert len(codes) == space.size
    return codes
