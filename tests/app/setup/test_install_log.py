"""What the user sees of the output of pip and uv."""

from app.setup.install_log import InstallLog


def test_the_log_shows_one_line_per_package(tmp_path, capsys):
    with InstallLog(tmp_path / "log") as log:
        for line in (
            "Collecting torch<2.14,>=2.13 (from sala-desktop==0.1.0)",
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (29 kB)",
            "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (888.1 MB)",
            "Processing /opt/x/numpy-2.4.6-cp311-cp311-linux_x86_64.whl (from sala-desktop==0.1.0)",
            "Progress 10 of 100",
            "Installing collected packages: numpy, torch",
        ):
            log.take(line)
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["  downloading torch 2.13.0 (888.1 MB)", "  found numpy 2.4.6", "  unpacking 2 packages"]
    assert (tmp_path / "log").read_text().count("\n") == 5


def test_the_log_shows_the_large_downloads_of_uv(tmp_path, capsys):
    with InstallLog(tmp_path / "log") as log:
        for line in (
            "Resolved 76 packages in 1.20s",
            "Downloading torch (182.9MiB)",
            " Downloaded torch",
            "Prepared 1 package in 2.19s",
            "Installed 1 package in 224ms",
            " + torch==2.13.0+cpu",
            "Installed 76 packages in 224ms",
        ):
            log.take(line)
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "  76 packages needed",
        "  downloading torch (182.9MiB)",
        "  1 package installed",
        "  76 packages installed",
    ]
