"""Measures what an environment downloads on each system: the figures of `app/setup/download_size.py`.

`python tests/measure/download_sizes.py` resolves the requirements of `pyproject.toml` with uv (on the PATH) for Python
3.12, and sums the sizes that PyPI states for the wheels. Torch's own indexes state no sizes.
"""

import functools
import json
import os
import subprocess
import tomllib
import urllib.request
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

PLATFORMS = {
    "linux-x86_64": ("x86_64-manylinux_2_28", ("manylinux", "x86_64")),
    "linux-aarch64": ("aarch64-manylinux_2_28", ("manylinux", "aarch64")),
    "win32-amd64": ("x86_64-pc-windows-msvc", ("win_amd64",)),
    "darwin-arm64": ("aarch64-apple-darwin", ("macosx", "arm64")),
}
"""System -> uv's name of it, and the parts of its wheels' platform tags."""
OF_TORCH = ("torch", "triton", "nvidia-", "cuda-")
ROOT = Path(__file__).resolve().parents[2]


def main():
    """Print one line for each system and set of optional dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"": [], **project["optional-dependencies"]}
    for platform, (target, tags) in PLATFORMS.items():
        for extra in ("", "test", "bench"):
            wanted = [line for line in project["dependencies"] + extras[extra] if not line.startswith("sala-desktop")]
            sizes = {name: size(name, version, tags) for name, version in resolved(wanted, target)}
            torch = sum(count for name, count in sizes.items() if name.startswith(OF_TORCH))
            others = sum(sizes.values()) - torch
            print(f"{platform:14} {extra or 'no extra':9} {len(sizes):3} packages:", end=" ")
            print(f"torch and what it brings {torch / 1e6:5.0f} MB, others {others / 1e6:4.0f} MB", flush=True)


def resolved(wanted, target):
    """Yield the name and version of every package that the requirements bring on a system."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command += ["--python-version", "3.12", "--python-platform", target, "-"]
    environ = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(command, input="\n".join(wanted), env=environ, capture_output=True, text=True, check=True)
    yield from (line.split("==") for line in done.stdout.splitlines())


def size(name, version, tags):
    """Bytes of the smallest wheel of a release that Python 3.12 can install on a system."""
    return min(file["size"] for file in files(name) if fits(file["filename"], name, version, tags))


def fits(filename, name, version, tags):
    """Whether a file is a wheel of this release for Python 3.12 and this system."""
    try:
        found, release, _, wheel_tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    if (found, str(release)) != (canonicalize_name(name), version):
        return False
    return any(
        tag.abi in ("none", "abi3", "cp312")
        and (tag.platform == "any" or all(part in tag.platform.replace("universal2", "arm64") for part in tags))
        for tag in wheel_tags
    )


@functools.cache
def files(name):
    """The files of a package, as PyPI's simple index lists them in JSON."""
    request = urllib.request.Request(
        f"https://pypi.org/simple/{name}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request) as answered:
        return json.load(answered)["files"]


if __name__ == "__main__":
    main()
