"""The bundle for one-click installation: its manifest, and that its command starts the program."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("mcp", reason="the SDK mcp is not installed")

import anyio
from mcp_clients import ROOT, environment

from app.grammar.parser import parse
from app.server.mcp.bundle import manifest, write_bundle
from app.server.mcp.host import Host
from app.server.mcp.server import SalaServer
from sala_core.errors import SalaError

KNOWN = {
    "manifest_version", "name", "display_name", "version", "description", "long_description", "author", "license",
    "server", "tools", "keywords", "compatibility", "user_config",
}  # fmt: skip
"""Keys of version 0.4 of the specification that are used. Its schema refuses others."""


def test_the_manifest_has_only_keys_of_its_version_and_names_every_tool():
    written = manifest(parse(["mcp", "--allow", "books"]))
    assert set(written) == KNOWN
    assert written["manifest_version"] == "0.4"
    assert set(written["server"]) == {"type", "entry_point", "mcp_config"}
    assert set(written["user_config"]["folders"]) <= {"type", "title", "description", "multiple", "required", "default"}
    assert written["user_config"]["folders"]["default"] == [str(Path("books").absolute())]
    served = anyio.run(SalaServer(Host.__new__(Host)).list_tools)
    assert {tool["name"] for tool in written["tools"]} == {tool.name for tool in served}


def test_the_command_of_the_bundle_starts_the_program(tmp_path):
    file = tmp_path / "sala.mcpb"
    library = tmp_path / "library"
    line = [sys.executable, str(ROOT / "launch.py"), "--library", str(library), "mcp", "--bundle", str(file)]
    done = subprocess.run(line, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert str(file) in done.stdout
    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {"manifest.json", "server/start.py"}
        assert json.dumps(["--library", str(library)])[1:-1] in archive.read("server/start.py").decode()
        archive.extractall(tmp_path / "installed")
    config = json.loads((tmp_path / "installed" / "manifest.json").read_text())["server"]["mcp_config"]
    values = {"${__dirname}": str(tmp_path / "installed"), "${user_config.folders}": str(tmp_path)}
    arguments = [arg.replace("${__dirname}", values["${__dirname}"]) for arg in config["args"]]
    arguments = [values.get(arg, arg) for arg in arguments]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "host", "version": "1"}}
    sent = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
    environ = environment(tmp_path) | config["env"]
    started = subprocess.run(
        [config["command"], *arguments],
        input=sent,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(started.stdout.splitlines()[0])["result"]["serverInfo"]["name"] == "sala"


def test_a_bundle_replaces_nothing_and_has_its_suffix(tmp_path):
    file = tmp_path / "sala.mcpb"
    file.write_text("mine")
    with pytest.raises(SalaError, match="there already"):
        write_bundle(file, parse(["mcp"]))
    assert file.read_text() == "mine"
    with pytest.raises(SalaError, match=r"does not end in \.mcpb"):
        write_bundle(tmp_path / "sala.zip", parse(["mcp"]))
    with pytest.raises(SalaError, match="cannot be written"):
        write_bundle(tmp_path / "absent" / "sala.mcpb", parse(["mcp"]))
