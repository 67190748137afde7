"""Settings that are kept: where, what is refused, and that every start takes them up."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from fake_workspace import FakeWorkspace

from app.cli import library_folder, with_kept
from app.grammar.parser import parse
from app.grammar.values import KV_KINDS
from app.page.answer_settings import load_settings
from app.page.settings.form import save_answers, save_library, save_quota, settings_object
from app.page.settings.routes import SettingsBody, _save
from app.page.settings.stored import ProgramSettings, choose_library, chosen_library, load_program, save_program
from sala_core.errors import LibraryError, SettingsError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder for the user's own settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "config" / "sala-desktop")
    return tmp_path


def test_settings_are_kept_privately_in_the_library_and_broken_ones_are_the_defaults(tmp_path):
    assert load_program(tmp_path) == ProgramSettings()
    kept = ProgramSettings(model="org/m", device="cpu", kv="int8", kv_at_rest="int8", theme="dark")
    save_program(tmp_path, kept)
    assert load_program(tmp_path) == kept
    file = tmp_path / "settings.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["settings.json"]
    for broken in ("", "[]", "[" * 100_000, '{"theme": 3, "folders": 5, "model": ""}'):
        file.write_text(broken)
        assert load_program(tmp_path) == ProgramSettings()
    file.write_text(json.dumps({"theme": "dark", "device": "abacus", "later": 1}))
    assert load_program(tmp_path) == ProgramSettings(theme="dark"), "each field for itself"


@pytest.mark.parametrize(
    "values", [{"theme": "pink"}, {"device": "abacus"}, {"kv": "int2"}, {"kv_at_rest": "fp8"}, {"model": ""}]
)
def test_a_setting_that_cannot_be_is_refused(values):
    with pytest.raises(SettingsError):
        ProgramSettings(**values)


def test_a_start_takes_what_is_kept_unless_the_command_line_names_something_else(tmp_path):
    save_program(tmp_path, ProgramSettings(model="org/m", device="cpu", kv="int8"))
    kept = with_kept(parse(["ask", "s", "Who?"]), tmp_path)
    assert (kept.model, kept.device, kept.kv) == ("org/m", "cpu", "int8")
    named = with_kept(parse(["--model", "embedded", "--kv", "auto", "ask", "s", "Who?"]), tmp_path)
    assert (named.model, named.device, named.kv) == ("embedded", "cpu", "auto")


def test_the_chosen_library_is_used_from_the_next_start_on(home):
    usual = library_folder(parse([]))
    choose_library(home / "books")
    assert chosen_library() == library_folder(parse([])) == home / "books"
    assert library_folder(parse(["--library", str(home / "other")])) == home / "other"
    choose_library(None)
    assert library_folder(parse([])) == usual


def test_the_form_refuses_with_a_reason_and_says_when_a_setting_takes_effect(home):
    workspace = FakeWorkspace()
    for text in ("lots", "20", "-3 GB", "off and on"):
        with pytest.raises(SettingsError, match="such as 20 GB"):
            save_quota(workspace, text)
    assert save_quota(workspace, "20 GB") == "Saved states are kept to 20.0 GB."
    assert (workspace.library.quota(), save_quota(workspace, "20 GB")) == (20 * 10**9, "")
    assert save_quota(workspace, "") == "Saved states have no limit."
    with pytest.raises(SettingsError, match="full path"):
        save_library(workspace, "books")
    (home / "file").write_text("")
    with pytest.raises(SettingsError, match="is a file"):
        save_library(workspace, str(home / "file"))
    assert "after a restart" in save_library(workspace, str(home / "books"))
    assert "next question" in save_answers(workspace, {"temperature": "0.5"})
    assert load_settings(workspace.library.folder).temperature == 0.5
    shown = settings_object(workspace, "")
    assert (shown["answers"]["temperature"], shown["session"]) == ("0.5", None)
    workspace.close()


def test_a_folder_that_cannot_be_written_is_an_error_with_a_next_step(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(LibraryError, match="allow this program to write there"):
        save_program(Path(place), replace(ProgramSettings(), theme="dark"))


@pytest.mark.parametrize("kv", KV_KINDS)
def test_a_number_format_of_the_settings_reaches_the_model_in_the_engines_terms(tmp_path, kv):
    from sala_core.model.state import KvKind

    workspace = FakeWorkspace()
    workspace.library.folder = tmp_path
    before = load_program(tmp_path)
    save_program(tmp_path, replace(before, kv="int8" if kv == "auto" else "auto"))
    _save(workspace, SettingsBody(kv=kv))
    (_, choice) = workspace.calls[-1]
    assert choice.kv in ("auto", *get_args(KvKind))
    assert choice.kv == parse(["--kv", kv]).kv_kind
    assert load_program(tmp_path).kv == kv
