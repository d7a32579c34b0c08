"""Child processes and temporary folders end with the process that they belong to."""

import ast
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edgese
from edgese import lifeline, scratch
from edgese.errors import DeviceError, InputError, OutputError
from edgese.lifeline import Child, run
from edgese.workers import in_order

PACKAGE = Path(edgese.__file__).parent

# A parent with a child that ignores what can be ignored, and a grandchild; all say who they are.
FAMILY = """
import subprocess, sys, time
from pathlib import Path
from edgese import scratch
from edgese.lifeline import Child
inner = '''
import os, signal, subprocess, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
print(os.getpid(), grandchild.pid, flush=True)
time.sleep(120)
'''
with scratch.temporary("work") as folder:
    (folder / "half").write_text("half")
    child = Child([sys.executable, "-c", inner], stdout=subprocess.PIPE)
    print(child.stdout.readline().decode().strip(), flush=True)
    time.sleep(120)
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Somebody else's zombie has ended.
    return state != "Z"


def wait_until(condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def started(code, tmp_path, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)} | variables,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("end", ["kill", "kill the group", "terminate"])
def test_all_that_a_killed_process_started_ends_and_its_folder_goes(tmp_path, end):
    with started(FAMILY, tmp_path) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert all(alive(pid) for pid in pids)
        assert list(tmp_path.glob(f"{scratch.PREFIX}*/work-*/half"))
        if end == "kill the group":
            os.killpg(parent.pid, signal.SIGKILL)
        else:
            parent.send_signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        wait_until(lambda: not any(alive(pid) for pid in pids))
        wait_until(lambda: not list(tmp_path.iterdir()))


def test_a_guard_that_is_killed_is_replaced_with_all_that_it_knew(tmp_path):
    code = FAMILY.replace(
        "    print(child.stdout",
        "    from edgese import lifeline\n"
        "    lifeline._GUARD.process.kill(); lifeline._GUARD.process.wait()\n"
        "    other = Child([sys.executable, '-c', 'import time; time.sleep(120)'])\n"
        "    print(other.pid, end=' ')\n"
        "    print(child.stdout",
    )
    with started(code, tmp_path) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        parent.kill()
        wait_until(lambda: not any(alive(pid) for pid in pids))


def test_a_fork_does_not_keep_the_guard_from_seeing_the_end(tmp_path):
    code = FAMILY.replace(
        "    print(child.stdout",
        "    import os\n"
        "    fork = os.fork()\n"
        "    if not fork: time.sleep(120)\n"
        "    print(fork, end=' ')\n"
        "    print(child.stdout",
    )
    with started(code, tmp_path) as parent:
        fork, *pids = (int(pid) for pid in parent.stdout.readline().split())
        parent.kill()
        wait_until(lambda: not any(alive(pid) for pid in pids))
        assert alive(fork)
        os.kill(fork, signal.SIGKILL)


def test_what_a_child_leaves_in_its_group_ends_with_it():
    code = (
        "import subprocess, sys\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'],"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"
    )
    left = int(run([sys.executable, "-c", code]).stdout)
    wait_until(lambda: not alive(left))


def test_a_child_reads_all_of_its_input_and_its_code_comes_back():
    code = "import sys; data = sys.stdin.read(); print(len(data), data[:3]); sys.exit(7)"
    outcome = run([sys.executable, "-c", code], said="a\nb\n" * 50_000)
    assert (outcome.returncode, outcome.stdout) == (7, "200000 a\nb\n")
    assert run([sys.executable, "-c", code]).stdout.split() == ["0"]


def test_a_program_that_is_not_there_or_may_not_be_run_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Child(["edgese-has-no-such-program"])
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError):
        Child([tmp_path / "text"])


def test_a_program_that_takes_too_long_is_gone(tmp_path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "
    with pytest.raises(subprocess.TimeoutExpired):
        run([sys.executable, "-c", f"{code}time.sleep(120)"], timeout_s=1.0)
    pid = (tmp_path / "pid").read_text()
    assert not pid or not alive(int(pid))


def test_the_folders_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path):
    names = ("dead", "living", "new", "forgotten")
    dead, living, new, forgotten = (tmp_path / f"{scratch.PREFIX}{name}" for name in names)
    for folder in (dead, living, new, forgotten):
        folder.mkdir()
        (folder / "content").write_text("some")
    (dead / "lock").touch()
    os.utime(forgotten, (1, 1))
    (tmp_path / "edgese-of-somebody").mkdir()
    with (living / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch.sweep(tmp_path)
    assert {path.name.removeprefix(scratch.PREFIX) for path in tmp_path.iterdir()} == {
        "living",
        "new",
        "edgese-of-somebody",
    }


def test_a_temporary_folder_without_a_place_is_an_output_error(tmp_path, monkeypatch):
    missing = tmp_path / "missing"
    monkeypatch.setattr(scratch, "_ROOT", scratch._Root())  # noqa: SLF001  # this process's own
    monkeypatch.setattr("tempfile.tempdir", str(missing))
    with pytest.raises((OutputError, FileNotFoundError)), scratch.temporary("work"):
        pytest.fail("it was made")


def doubled(number):
    if number == 3:
        raise InputError("It is three.", hint="Give another.")
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def in_the_package(numbers, workers):
    """`in_order` with a function that a process of its own can import."""
    import operator
    from functools import partial

    return in_order(
        partial(operator.mul, 2), numbers, workers=workers, ahead=2, doing="double", receive=str
    )


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_whatever_the_number_of_processes(workers):
    assert list(in_the_package(range(20), workers)) == [str(2 * n) for n in range(20)]
    assert list(in_the_package([], workers)) == []


SCRIPT = """
import os, sys
from functools import partial
from pathlib import Path
import operator
with open("starts", "a") as file:
    file.write("x")
from edgese.workers import in_order
print(list(in_order(partial(operator.mul, 2), [1, 2, 3], workers=2, ahead=1, doing="x",
                    receive=int)))
"""


def test_a_script_without_a_guard_is_not_started_again(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    outcome = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[2, 4, 6]\n"
    assert (tmp_path / "starts").read_text() == "x"


def test_an_error_and_a_death_in_a_process_are_told(tmp_path, monkeypatch):
    (tmp_path / "edgese_doubled.py").write_text(
        "import os, signal\nfrom edgese.errors import InputError\n\n\n"
        + Path(__file__)
        .read_text()
        .partition("def doubled")[2]
        .partition("def in_the")[0]
        .join(("def doubled", ""))
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    from edgese_doubled import doubled as there

    def tried(numbers):
        return in_order(there, numbers, workers=2, ahead=1, doing="double", receive=int)

    with pytest.raises(InputError, match="It is three") as told:
        list(tried([1, 2, 3, 4]))
    assert told.value.hint == "Give another."
    with pytest.raises(DeviceError, match="was to double was ended by SIGKILL"):
        list(tried([1, 2, 5, 6]))


# Who may start processes or make temporary folders without these modules, and why.
ELSEWHERE = {
    "lifeline.py": "it is the one place",
    "scratch.py": "it is the one place",
    "measure/runner.py": "it stands alone on devices, in its job's group",
    "measure/bundles/driver.py": "short questions to the system, with a time limit",
}
FORBIDDEN = {
    ("subprocess", "run"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("subprocess", "check_call"),
    ("tempfile", "TemporaryDirectory"),
    ("tempfile", "NamedTemporaryFile"),
    ("tempfile", "mkdtemp"),
    ("tempfile", "mkstemp"),
    ("os", "fork"),
    ("os", "system"),
    ("os", "popen"),
    ("multiprocessing", "get_context"),
    ("multiprocessing", "Process"),
    ("multiprocessing", "Pool"),
    ("concurrent.futures", "ProcessPoolExecutor"),
    ("torch.utils.data", "DataLoader"),
}


def test_processes_and_temporary_folders_are_made_in_one_place():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = set()
            # Their names also stand in annotations and after `except`.
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found = {(ast.unparse(node.func.value), node.func.attr)}
            elif isinstance(node, ast.ImportFrom):
                found = {(node.module, alias.name) for alias in node.names}
            wrong += [f"{name}: {'.'.join(one)}" for one in found & FORBIDDEN]
    assert wrong == []


def test_whoever_is_excused_is_there():
    assert all((PACKAGE / name).is_file() for name in ELSEWHERE)
    assert lifeline.Child.__mro__[1] is subprocess.Popen
