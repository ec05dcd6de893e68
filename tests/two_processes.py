"""Runs a program in two processes that find each other by the variables of torchrun.

python tests/two_processes.py MODULES PROGRAM ARGUMENTS: torchrun is a process that imports torch and starts two that
import it again. This one imports it once, with the modules that are named (between commas), and forks.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import traceback

from torch.distributed import TCPStore


def start(rank: int, port: int, program: str) -> int:
    """Forks; the child runs the program and ends."""
    child = os.fork()
    if child:
        return child
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in own.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "two", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    status = 1
    try:
        runpy.run_path(program, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the parent has left to do is not done twice


def main() -> int:
    """The worst status of the two; if one fails, the other is ended."""
    modules, program, *arguments = sys.argv[1:]
    for module in filter(None, modules.split(",")):
        importlib.import_module(module)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    sys.argv = [program, *arguments]
    running = {start(rank, store.port, program) for rank in range(2)}
    worst = 0
    while running:
        child, status = os.wait()
        running.remove(child)
        worst = worst or abs(os.waitstatus_to_exitcode(status))
        for other in running if worst else ():
            os.kill(other, signal.SIGKILL)
    return worst


if __name__ == "__main__":
    sys.exit(main())
