"""The NVIDIA driver, torch's indexes, and the build that is installed."""

import http.server
import importlib.util
import runpy
import socket
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from app.setup import torch_build
from app.setup.torch_build import answers, driver_branch, has_nvidia_driver, index_of, requirement, wanted_build

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a script stands for nvidia-smi")


def program(folder, text):
    """Put an `nvidia-smi` that runs a shell script into a folder. Return the folder as a PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    "name",
    ["proc/driver/nvidia/version", "dev/nvidiactl", "usr/lib/wsl/lib/libcuda.so", "usr/lib/wsl/lib/libcuda.so.1"],
)
def test_a_file_of_the_driver_tells_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert not has_nvidia_driver(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert has_nvidia_driver(tmp_path)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not has_nvidia_driver(tmp_path)


@ON_POSIX
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo 'GPU 0: NVIDIA GeForce RTX 4060 (UUID: GPU-0)'", True),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver'; exit 9", False),
        ("echo 'No devices were found'", False),
        ("exec sleep 30", False),
    ],
    ids=["card", "no driver", "no card", "no answer"],
)
def test_without_such_a_file_nvidia_smi_tells_it(tmp_path, monkeypatch, text, found):
    monkeypatch.setattr(torch_build, "_SMI_S", 1.0)
    monkeypatch.setenv("PATH", program(tmp_path / "bin", text) + ":/usr/bin:/bin")
    assert has_nvidia_driver(tmp_path) == found


@pytest.mark.parametrize(
    ("text", "branch"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n", 535),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", 580),
        ("something else\n", None),
        (None, None),
    ],
)
def test_the_branch_of_the_driver_is_read(tmp_path, text, branch):
    file = tmp_path / "proc/driver/nvidia/version"
    file.parent.mkdir(parents=True)
    if text is not None:
        file.write_text(text)
    assert driver_branch(tmp_path) == branch


@pytest.mark.parametrize(
    ("choice", "driver", "build"),
    [
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cuda", False, "cuda"),
    ],
)
def test_a_choice_by_name_goes_before_the_driver(monkeypatch, choice, driver, build):
    monkeypatch.setattr(torch_build, "has_nvidia_driver", lambda: driver)
    assert wanted_build(choice) == build


@pytest.mark.parametrize(
    ("system", "machine", "cpu", "cuda"),
    [
        ("linux", "x86_64", torch_build.CPU_INDEX, None),
        ("linux", "aarch64", torch_build.CPU_INDEX, None),
        ("linux", "riscv64", None, None),
        ("win32", "AMD64", None, torch_build.CUDA_INDEX),
        ("darwin", "arm64", None, None),
    ],
)
def test_torchs_own_index_is_used_for_what_the_default_index_does_not_have(monkeypatch, system, machine, cpu, cuda):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert (index_of("cpu"), index_of("cuda")) == (cpu, cuda)


class Index(http.server.BaseHTTPRequestHandler):
    """Answers for /cpu/torch/ alone."""

    def do_HEAD(self):
        self.send_response(200 if self.path == "/cpu/torch/" else 404)
        self.end_headers()

    def log_message(self, *values):
        pass


@pytest.fixture
def no_proxy(monkeypatch):
    """Requests to this machine go to it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_an_index_that_answers_is_told_from_one_that_refuses(no_proxy):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        assert answers(f"http://127.0.0.1:{port}/cpu", 30)
        assert not answers(f"http://127.0.0.1:{port}/cu000", 0.5)
        server.shutdown()
    assert not answers(f"http://127.0.0.1:{port}/cpu", 0.5), "nobody listens"
    assert not answers("https://torch.invalid", 0.5), "there is no such host"


def test_an_index_that_accepts_and_never_answers_costs_three_seconds(no_proxy):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/cpu")
        assert time.monotonic() - started >= 3
        assert torch_build._ANSWER_S == 3


def test_the_requirement_of_torch_is_found_in_the_project(root):
    assert requirement(root / "pyproject.toml").startswith("torch>=2.")


def test_the_default_packages_bring_no_triton_and_the_pin_is_an_extra(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert not [line for line in project["dependencies"] if line.startswith("triton")]
    assert project["optional-dependencies"]["triton"][0].startswith("triton>=3.7.1,<3.8")
    assert "sala-desktop[triton]" in project["optional-dependencies"]["test"]


def test_the_build_of_the_torch_in_use_is_read_from_its_file():
    (package,) = importlib.util.find_spec("torch").submodule_search_locations
    cuda = runpy.run_path(str(Path(package) / "version.py"))["cuda"]
    environment = Path(package).parents[3 if sys.platform != "win32" else 2]
    assert torch_build.installed_build(environment) == ("cuda" if cuda else "cpu")
