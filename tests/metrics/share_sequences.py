"""Run by two processes: metric modules of which each sees its share of the sequences in the file that is named."""

import sys

import torch

from gpuvos.metrics import modules

folder = sys.argv[1]
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
pairs = torch.load(f"{folder}/pairs.pt", weights_only=True)


def flat(result):
    """All numbers of a result."""
    return result.flatten().tolist() if isinstance(result, torch.Tensor) else [x for part in result for x in flat(part)]


results = []
for name in sys.argv[2:]:
    measure = getattr(modules, name)()
    if rank == 0:  # the other process has none of the first kind yet
        measure.update(*pairs[0])
    early = flat(measure.compute())
    for pair in pairs[1 + rank :: 2]:
        measure.update(*pair)
    results.append((early, flat(measure.compute()), flat(measure.compute()), len(measure.rows)))
measure.reset()
late = measure.sync()  # rank 0 forgets, and so does rank 1
torch.save((results, len(late)), f"{folder}/{rank}.pt")
torch.distributed.destroy_process_group()
