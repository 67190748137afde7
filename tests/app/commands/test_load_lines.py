"""Notes about the device go to stderr, where they disturb no output of a command."""

import torch

from app.commands.load_lines import LoadLines, print_device_note
from sala_core.engine import device
from sala_core.engine.device import DeviceChoice
from sala_core.events import DeviceNote, KernelProgress

NOTE = "The CPU computes, not the card: its driver is too old."


def test_notes_and_the_compiling_of_kernels_are_written_to_stderr(capsys):
    with LoadLines() as lines:
        lines.show(DeviceNote(text=NOTE))
        lines.show(KernelProgress(kernels_done=3, kernels_total=14))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Note: {NOTE}\nCompiling kernels 3 of 14 (first start on this card)\n"


def test_commands_without_an_engine_print_the_note_of_the_device(capsys, monkeypatch):
    asked = []

    def choose(name, *, kernels):
        asked.append((name, kernels))
        return DeviceChoice(device=torch.device("cpu"), note=NOTE if name == "auto" else "")

    monkeypatch.setattr(device, "choose_device", choose)
    print_device_note("cpu")
    print_device_note("auto", kernels=True)
    assert asked == [("cpu", False), ("auto", True)]
    assert capsys.readouterr().err == f"Note: {NOTE}\n"
