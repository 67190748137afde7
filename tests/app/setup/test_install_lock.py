"""The lock between processes that install."""

import subprocess
import sys
import threading

from app.setup.install_lock import InstallLock


def test_the_lock_is_free_after_its_holder_was_killed(tmp_path, root):
    code = (
        f"import sys, time, pathlib; sys.path.insert(0, {str(root)!r})\n"
        "from app.setup.install_lock import InstallLock\n"
        f"with InstallLock(pathlib.Path({str(tmp_path / 'lock')!r}), on_wait=print):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    threading.Timer(0.5, holder.kill).start()
    waited = []
    with InstallLock(tmp_path / "lock", on_wait=lambda: waited.append(1)):
        assert waited == [1]
    holder.wait()
    holder.stdout.close()
