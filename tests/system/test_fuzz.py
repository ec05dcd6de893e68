"""The fuzzers of benchmarks/fuzz.py, for as long as a test may take; the long run is one command there."""

from __future__ import annotations

import importlib.util
import random
import signal
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from gpuvos import InputError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        specification.loader.exec_module(module)
    return module


def test_every_end_of_a_trial_is_counted(script: ModuleType) -> None:
    """Of seven trials one gives, one refuses, one raises, one dies and one hangs; the others give."""
    numbers = {random.Random(f"5 {number}").random(): number for number in range(7)}

    def trial(chance: random.Random) -> None:
        number = numbers[chance.random()]
        if number == 1:
            raise InputError("no")
        if number == 2:
            raise ValueError("not allowed")
        if number == 3:
            signal.raise_signal(signal.SIGKILL)
        if number == 4:
            signal.raise_signal(signal.SIGALRM)

    outcomes, wrong = script.run_trials(trial, range(7), seed=5)
    assert outcomes == Counter({"result": 3, "InputError": 1, "ValueError": 1, "ended with -9": 1, "hang": 1})
    assert wrong == ["trial 2: ValueError not allowed", "trial 3: ended with -9", "trial 4: hang"]


@pytest.mark.slow
def test_files_calls_kills_and_pairs(script: ModuleType) -> None:
    report = script.fuzz(files=300, calls=150, kills=2, pairs=1, seed=1)
    assert [report[name]["wrong"] for name in ("files", "calls", "kills", "pairs")] == [[], [], [], []]
    assert report["files"]["outcomes"].keys() == {"result", "InputError"}
    assert report["calls"]["outcomes"].keys() == {"result", "InputError"}
