"""The choice of the device: every reason for which a card cannot be used is told, and what to do about it."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
import torch
from sala_kernels import auto_selects_triton, has_triton

from sala_core.engine import device, nvidia
from sala_core.engine.device import check_triton, choose_device, install_command, resolve_device
from sala_core.errors import DeviceError

NAME = "NVIDIA GeForce RTX 3060"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch):
    """A machine without a card, whatever this one has."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SALA_KERNELS", raising=False)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_driver(monkeypatch, [], None, None)


def set_driver(monkeypatch, cards, version, cuda):
    monkeypatch.setattr(device, "names_of_cards", lambda: cards)
    monkeypatch.setattr(device, "driver_version", lambda: version)
    monkeypatch.setattr(device, "cuda_version_of_driver", lambda: cuda)


def set_cards(monkeypatch, *capabilities, archs=("sm_80", "sm_90", "compute_120")):
    """Cards that torch can use, as far as it knows."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda n=0: capabilities[n])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n=0: f"Card {n}")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(archs))
    monkeypatch.setattr(device, "check_triton", lambda place: None)


def assert_told(*words):
    """ "auto" takes the CPU and says why; "cuda" raises the same reason."""
    chosen = choose_device("auto")
    assert chosen.device.type == "cpu"
    with pytest.raises(DeviceError) as caught:
        choose_device("cuda")
    for word in words:
        assert word in chosen.note, chosen.note
        assert word in str(caught.value), caught.value
    assert "CPU" in chosen.note
    assert "--device cpu" in str(caught.value)


def test_without_a_card_auto_is_the_cpu_and_says_nothing():
    assert choose_device("auto") == choose_device("cpu")
    assert choose_device("auto").note == ""
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(DeviceError, match=r"no NVIDIA card was found.*--device cpu"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        choose_device("tpu")


def test_a_build_of_torch_for_cpus_beside_a_card_is_told(monkeypatch):
    set_driver(monkeypatch, [NAME], "580.95.05", 13000)
    assert_told(NAME, torch.__version__, "build for CPUs", "install a CUDA build of torch")


def test_an_old_driver_is_told_with_its_version_and_the_one_needed(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    set_driver(monkeypatch, [NAME], "535.54.03", 12020)
    assert_told("535.54.03", "CUDA 12.2", "CUDA 13.0", "version 580 or later")


def test_a_driver_of_the_same_major_version_is_not_too_old(monkeypatch):
    """Then CUDA itself says what is wrong."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    set_driver(monkeypatch, [NAME], "535.54.03", 12020)
    monkeypatch.setattr(torch.cuda, "init", lambda: (_ for _ in ()).throw(RuntimeError("Error 802: not ready")))
    assert_told("Error 802: not ready", "nvidia-smi")


@pytest.mark.parametrize("value", ["", "-1", " "])
def test_hidden_cards_are_told(monkeypatch, value):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    set_driver(monkeypatch, [NAME], "580.95.05", 13000)
    assert_told("CUDA_VISIBLE_DEVICES", "unset it")


def test_a_card_without_a_driver_is_told(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    set_driver(monkeypatch, ["an NVIDIA card"], None, None)
    assert_told("no NVIDIA driver is loaded", "install the driver")


def test_turing_and_older_are_refused_and_a_later_card_is_named(monkeypatch):
    set_cards(monkeypatch, (7, 5))
    assert_told("Card 0 has compute capability 7.5", "need 8.0", "RTX 30")
    set_cards(monkeypatch, (6, 1), (8, 6))
    assert_told("compute capability 6.1", "CUDA_VISIBLE_DEVICES=1")


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((8, 9), ("sm_80", "sm_90"), True),
        ((12, 0), ("sm_80", "sm_90"), False),
        ((12, 0), ("sm_80", "compute_90"), True),
        ((9, 0), ("sm_90a",), True),
        ((10, 0), ("sm_90a",), False),
        ((8, 0), ("sm_86",), False),
        ((12, 1), ("sm_120",), True),
    ],
)
def test_a_card_that_torch_was_not_built_for_is_told(monkeypatch, capability, archs, runs):
    set_cards(monkeypatch, capability, archs=archs)
    if runs:
        assert choose_device("cuda").device.type == "cuda"
    else:
        assert_told(f"compute capability {capability[0]}.{capability[1]}", "is built for", archs[0])


def test_builds_of_torch_for_amd_cards_are_refused(monkeypatch):
    """Their cards report capabilities such as (9, 0), those of Hopper."""
    set_cards(monkeypatch, (9, 0))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert_told("ROCm", "NVIDIA")


def test_of_several_cards_the_first_computes_and_is_named(monkeypatch):
    set_cards(monkeypatch, (8, 9), (8, 6))
    chosen = choose_device("auto")
    assert chosen.device == torch.device("cuda")
    assert "Card 0 computes, the first of 2 cards" in chosen.note
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert choose_device("auto").note == ""


def test_without_working_triton_a_card_is_used_only_where_that_is_asked_for(monkeypatch):
    set_cards(monkeypatch, (8, 9))

    def fail(place):
        raise DeviceError("there is no C compiler; or choose --device cpu")

    monkeypatch.setattr(device, "check_triton", fail)
    assert_told("no C compiler")
    monkeypatch.setenv("SALA_KERNELS", "reference")
    chosen = choose_device("auto")
    assert chosen.device.type == "cuda"
    assert "without the Triton kernels" in chosen.note
    assert not auto_selects_triton(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setenv("SALA_KERNELS", "fast")
    with pytest.raises(DeviceError, match="SALA_KERNELS is 'fast'"):
        choose_device("cuda")


def test_a_system_that_triton_has_no_package_for_is_told(monkeypatch):
    set_cards(monkeypatch, (8, 9))
    monkeypatch.setattr(device, "has_triton", lambda: False)
    monkeypatch.setattr(sys, "platform", "win32")
    chosen = choose_device("cuda")
    assert chosen.device.type == "cuda"
    assert "Triton" in chosen.note


def test_a_missing_triton_is_named(monkeypatch):
    monkeypatch.setattr(device, "has_triton", lambda: False)
    with pytest.raises(DeviceError, match=r"pip install triton.*SALA_KERNELS=reference"):
        check_triton(torch.device("cuda"))


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt install gcc python3.{}-dev"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt install gcc python3.{}-dev"),
        ({"ID": "fedora"}, "dnf install gcc python3-devel"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf install gcc python3.{}-devel"),
        ({"ID": "manjaro", "ID_LIKE": "arch"}, "pacman -S gcc python"),
        ({"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, "zypper install gcc python3{}-devel"),
        ({"ID": "nixos"}, ""),
    ],
)
def test_the_command_that_installs_a_compiler_is_the_distributions(monkeypatch, release, command):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    expected = f"sudo {command.format(sys.version_info.minor)}" if command else ""
    assert install_command() == expected


_CHECK = """
import sys, sysconfig, torch
import sala_kernels.probe
from triton.runtime.build import compile_module_from_src
from sala_core.engine.device import check_triton
from sala_core.errors import DeviceError

SOURCE = '''
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "sala_probe", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_sala_probe(void) { return PyModule_Create(&module); }
'''

def probe(device):
    compile_module_from_src(SOURCE, "sala_probe")
    return 2 * torch.arange(5.0) if "wrong" not in sys.argv else torch.zeros(5)

sala_kernels.probe.probe = probe
if "no-headers" in sys.argv:
    found = sysconfig.get_paths
    sysconfig.get_paths = lambda *args, **names: found(*args, **names) | {"include": sys.argv[-1]}
try:
    check_triton(torch.device("cpu"))
except DeviceError as error:
    print(error)
else:
    print("works")
"""


@pytest.mark.skipif(not has_triton() or os.name == "nt", reason="Triton is not installed on this platform")
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("complete", ["works"]),
        ("wrong", ["wrong numbers"]),
        ("no-compiler", ["no C compiler", "gcc"]),
        ("named-compiler", ["the C compiler that CC names, '/no/such/cc', is not there"]),
        ("no-headers", ["Python.h is missing"]),
    ],
)
def test_what_tritons_own_build_lacks_is_named(environment, tmp_path, case, words):
    """Triton's real build of its driver module, as far as it goes without a card."""
    if not device.python_header().is_file() or not (shutil.which("gcc") or shutil.which("clang")):
        pytest.skip("this machine lacks a compiler or the headers of Python")
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("CC", None)
    if case == "no-compiler":
        environment["PATH"] = str(tmp_path)
    elif case == "named-compiler":
        environment["CC"] = "/no/such/cc"
    command = [sys.executable, "-c", _CHECK, case, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for word in words:
        assert word in done.stdout
    if words != ["works"] and case != "wrong":
        assert "SALA_KERNELS=reference" in done.stdout


def test_the_probe_adds_in_the_interpreter(environment):
    if not has_triton():
        pytest.skip("Triton is not installed on this platform")
    environment |= {"TRITON_INTERPRET": "1"}
    script = "import torch\nfrom sala_core.engine.device import check_triton\ncheck_triton(torch.device('cpu'))"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands for nvidia-smi")
def test_cards_and_driver_are_read_from_nvidia_smi_or_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nvidia, "_DRIVER_FILE", tmp_path / "version")
    monkeypatch.setattr(nvidia, "_PCI_DEVICES", tmp_path / "pci")
    monkeypatch.setattr(nvidia, "cuda_version_of_driver", lambda: None)
    monkeypatch.setattr(nvidia.Path, "exists", lambda self: False)
    assert nvidia.names_of_cards() == []
    assert nvidia.driver_version() is None
    (tmp_path / "pci" / "0000:01:00.0").mkdir(parents=True)
    (tmp_path / "pci" / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    (tmp_path / "pci" / "0000:01:00.0" / "class").write_text("0x030000\n")
    assert nvidia.names_of_cards() == ["an NVIDIA card"]
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\n")
    assert nvidia.driver_version() == "550.54.14"
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\ncase "$1" in *=name) echo "Card A"; echo "Card B";; *) echo 580.95.05;; esac\n')
    program.chmod(0o755)
    assert nvidia.names_of_cards() == ["Card A", "Card B"]
    assert nvidia.driver_version() == "580.95.05"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert nvidia.names_of_cards() == ["an NVIDIA card"]
    assert nvidia.needed_driver("13.0") == "version 580 or later"
    assert nvidia.needed_driver("14.1") == "the latest version"
