#!/usr/bin/env python3
"""Writes provider_arguments.json: the arguments of every provider resource that terraform/ uses.

Usage (from anywhere; needs python3 and npm):

    python3 tests/terraform/provider_arguments.py

It downloads the npm package @cdktf/provider-aws, whose bindings are generated from the provider's own schema, and reads
them without running anything of it. For each resource: its arguments, which of them are required, and the same of each
nested block. Run it when a resource is new to terraform/, and read the diff.
"""

import json
import pathlib
import re
import subprocess
import tarfile
import tempfile

PACKAGE = "@cdktf/provider-aws@21.22.1"
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def snake(name):
    return re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)


def members(text):
    """Name and, for a nested block, the function that writes it."""
    found = {}
    for name, value in re.findall(r"^\s+(\w+): (.*)$", text, re.M):
        writer = re.search(r"\b([a-z]\w+)ToTerraform", value.replace("cdktf.", "cdktf_"))
        nested = writer and not writer.group(1).startswith("cdktf_")
        found[name] = writer.group(1) if nested else None
    return found


def block(code, writer):
    body = re.search(r"function %sToTerraform\(struct\) \{(.*?)\n\}" % writer, code, re.S).group(1)
    return arguments(code, members(body.rsplit("return {", 1)[-1]))


def arguments(code, named):
    return {name: block(code, writer) if writer else None for name, writer in sorted(named.items())}


def resource(archive, kind):
    folder = "package/lib/" + kind.removeprefix("aws_").replace("_", "-")
    code = archive.extractfile(folder + "/index.js").read().decode()
    types = archive.extractfile(folder + "/index.d.ts").read().decode()
    top = re.search(r"synthesizeAttributes\(\) \{\s*return \{(.*?)\n\s*\};", code, re.S).group(1)
    config = re.search(r"export interface \w+Config extends .*?\{(.*?)\n\}", types, re.S).group(1)
    required = sorted(snake(name) for name in re.findall(r"readonly (\w+):", config))
    version = re.search(r"providerVersion: '([0-9.]+)'", code).group(1)
    return version, {"arguments": arguments(code, members(top)), "required": required}


def main():
    used = set()
    for file in (ROOT / "terraform").rglob("*.tf"):
        used.update(re.findall(r'^resource "(aws_\w+)"', file.read_text(), re.M))
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(pathlib.Path(folder) / packed.stdout.strip()) as archive:
            read = {kind: resource(archive, kind) for kind in sorted(used)}
    versions = sorted({version for version, _ in read.values()})
    written = {
        "package": PACKAGE,
        "provider": versions,
        "resources": {kind: one for kind, (_, one) in read.items()},
    }
    (HERE / "provider_arguments.json").write_text(json.dumps(written, indent=1) + "\n")
    print(f"{len(read)} resources of provider {', '.join(versions)}")


if __name__ == "__main__":
    main()
