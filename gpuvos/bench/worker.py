"""One side of a comparison of two commits: a process that times stages of the library that it was told to import.

It is run as a file, not as a module: the library may be an older one that has no ``gpuvos.bench``, which is then
taken from beside this file. Commands come as lines of JSON on standard input, answers leave on standard output.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def serve() -> None:
    """Answers commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    first = json.loads(sys.stdin.readline())
    sys.path[0:1] = [] if first["root"] is None else [first["root"]]  # not the folder of this file
    side = _Side(first)
    for line in sys.stdin:
        words = json.loads(line)
        answers.write(json.dumps(side.answer(words["do"], words["stage"])) + "\n")
        answers.flush()


def _use_benchmarking_of_this_file() -> None:
    place = _HERE / "__init__.py"
    spec = importlib.util.spec_from_file_location("gpuvos.bench", place, submodule_search_locations=[str(_HERE)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpuvos.bench"] = module
    spec.loader.exec_module(module)


class _Side:
    def __init__(self, first: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(first["threads"])
        _use_benchmarking_of_this_file()
        from gpuvos.bench import stages, timing, workload

        self.torch, self.stages, self.timing = torch, stages, timing
        self.inputs = workload.Inputs(workload.Workload(**first["workload"]))
        self.clock = first["clock"]

    def answer(self, do: str, stage: str) -> dict[str, Any]:
        """``check``: SHA-256 of the outputs of a stage; ``time``: seconds of one call."""
        (chosen,) = (one for one in self.stages.STAGES if one.name == stage)
        with self.torch.no_grad():
            try:
                if do == "check":
                    return {"checksum": self._checksum(chosen.run(self.inputs))}
                timing = self.timing.measure(
                    lambda: chosen.run(self.inputs),
                    self.inputs.device,
                    rounds=1,
                    clock=self.clock,
                    warm=False,
                )
                return {"seconds": timing.seconds.median}
            except Exception as error:  # of a commit that has no such stage, or a broken one: the row says so
                return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}

    def _checksum(self, result: object) -> str:
        digest = hashlib.sha256()
        for tensor in self.stages.output_tensors(result):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().view(-1).view(self.torch.uint8).cpu().numpy().tobytes())
        return digest.hexdigest()


if __name__ == "__main__":
    serve()
