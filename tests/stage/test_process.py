import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lib.stage.errors import InputError
from lib.stage.process import Lock, peak_memory

ROOT = Path(__file__).parents[2]


def wait_for(path, seconds=30):
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)
    return path.read_text()


def test_second_run_is_refused_with_the_process_id(tmp_path):
    code = (
        "from lib.stage.process import Lock; from pathlib import Path; import time\n"
        f"a = Lock(Path({str(tmp_path / 'lock')!r}), 'm1'); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(tmp_path / "lock")
    with pytest.raises(InputError, match=rf"m1: another run \(process {holder.pid}\) holds .*nothing was written"):
        Lock(tmp_path / "lock", "m1")
    holder.kill()
    holder.wait()
    Lock(tmp_path / "lock", "m1")  # a killed run leaves no lock behind


def test_a_stage_ends_soon_after_its_dvc_is_killed(tmp_path):
    """Between dvc and the stage stands a shell that survives."""
    stage = (
        "from lib.stage.process import follow_parent; import os, time; follow_parent(0.1); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    command = f'{sys.executable} -c "{stage}"; true'
    (tmp_path / "dvc").write_text(
        f"import subprocess\nsubprocess.run({command!r}, shell=True, cwd={str(ROOT)!r})\n"
    )
    dvc = subprocess.Popen([sys.executable, str(tmp_path / "dvc"), "repro"])
    child = psutil.Process(int(wait_for(tmp_path / "pid")))
    dvc.kill()
    dvc.wait()
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert not alive or alive[0].status() == psutil.STATUS_ZOMBIE


def test_peak_memory_is_of_this_process():
    assert 10 * 2**20 < peak_memory() < 64 * 2**30


def test_workers_end_soon_after_their_stage_is_killed(tmp_path):
    code = (
        "from lib.stage.params import Compute; from lib.parallel.processes import in_order; import os, pathlib\n"
        "c = Compute(device='cpu', workers=2, launcher='loky', memory_gib=1.0)\n"
        "results = in_order(os.getpid, [('', ())] * 1000, c)\n"
        "pids = sorted({next(results) for _ in range(8)})\n"
        f"pathlib.Path({str(tmp_path / 'pids')!r}).write_text(' '.join(map(str, pids)))\n"
        "os.kill(os.getpid(), 9)"
    )
    stage = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, timeout=60)
    assert stage.returncode == -9
    pids = [int(pid) for pid in wait_for(tmp_path / "pids").split()]
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_worker_whose_starter_died_before_it_began_ends_at_once():
    """The parent of this process is not the one that it is told: as after a kill while a worker still loads modules."""
    code = "from lib.stage.process import follow_starter; import os, time; follow_starter(os.getpid()); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30).returncode == 1
