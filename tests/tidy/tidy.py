#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the house as docs/HACKING.md draws it.

    tidy.py rules   [--root DIR]                  what can be seen by reading
    tidy.py format  [--root DIR]                  clang-format, one pinned version
    tidy.py headers [--root DIR] --build DIR      every header compiles alone

Prints one finding per line, FILE:LINE: what is wrong. Status 0: none; 1: some; 77: can't be run.
"""

import argparse
import concurrent.futures
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

# Which rooms a room may include, itself aside. A room is a folder of src/; "smtp" is include/ringmx/ too, and
# "load" is tools/load/.
ROOMS = {
    "smtp": set(),
    "policy": {"smtp"},
    "tls": set(),
    "ring": set(),
    "net": {"ring"},
    "config": {"smtp", "policy", "tls"},
    "nginx": {"smtp", "config"},
    "metrics": {"ring", "net"},
    "admin": {"ring", "net", "metrics", "config"},
    "gateway": {"smtp", "policy", "tls", "ring", "net", "config", "metrics", "admin"},
    "load": {"smtp", "tls", "ring", "net", "metrics", "gateway"},  # gateway: its handshake
}
PURE = {"smtp", "policy"}  # bytes in, decisions out: no socket, no clock, no thread
# The same, but for these files.
PURE_EXCEPT = {"load": {"connection", "generator", "main", "resolve"}, "nginx": {"files"}}
# What is as pure as whoever includes it.
KNOWN_TO_PURE = {"ring/counter.h", "tls/settings.h", "config/keys.h", "config/notation.h"}

# What a pure room may include beside the standard library and Abseil.
INTRINSICS = {"immintrin.h", "emmintrin.h", "tmmintrin.h", "smmintrin.h", "arm_neon.h", "cpuid.h"}
# The part of the standard library that reaches the system.
SYSTEM_STANDARD = {
    "chrono", "condition_variable", "csignal", "ctime", "filesystem", "fstream", "future", "iostream", "mutex",
    "random", "semaphore", "shared_mutex", "stop_token", "syncstream", "thread",
}  # fmt: skip
# Who alone may include a library.
LIBRARIES = {"liburing": {"ring"}, "wolfssl": {"tls"}, "toml++": {"config"}}

BAD_NAMES = {"util", "utils", "common", "misc", "helper", "helpers"}
FORMAT_VERSION = 14
CXX = {".cc", ".h"}
LICENSED = CXX | {".py", ".build", ".sh", ".wrap", ".toml", ".yml", ".yaml", ".c"}
LICENSED_NAMES = {"meson_options.txt", ".editorconfig", ".clang-tidy"}
UNREAD = {".pem", ".key", ".der", ".bin", ".png", ".eml", ".corpus"}
VERBATIM = {"LICENSE"}
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
# Paths of somebody's machine, and hosts of package mirrors: ringmx's files speak of ringmx alone.
WORKPLACE = re.compile(
    r"(?<![\w.$}~/-])/(?:work|root|home|Users|workspace)/\w"
    r"|\b(?:deb|security|snapshot|ftp\w*|archive|ports|mirrors?)(?:\.\w+)*\.(?:debian|ubuntu)\.(?:org|com)\b"
)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def files_of(root):
    """Every file that belongs to the project, relative to `root`."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, stdout=subprocess.PIPE).stdout  # fmt: skip
        found = (pathlib.PurePosixPath(name.decode()) for name in listed.split(b"\0") if name)
    else:
        found = (pathlib.PurePosixPath(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())
        found = (p for p in found if not ignored(p))
    return sorted(p for p in set(found) if (root / p).is_file() and not (root / p).is_symlink())


def ignored(path):
    """What .gitignore says, for a tree that is no repository."""
    first = path.parts[0]
    return (first.startswith("build") and len(path.parts) > 1
            or first == "subprojects" and len(path.parts) > 2 and path.parts[1] != "packagefiles"
            or "__pycache__" in path.parts or first == ".cache")  # fmt: skip


def room_of(path):
    parts = path.parts
    if parts[:2] == ("include", "ringmx") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2 or parts[:2] == ("tools", "load"):
        return parts[1]
    return None


def target_room(name):
    parts = pathlib.PurePosixPath(name).parts
    if parts[0] == "ringmx" and len(parts) > 2:
        return parts[1]
    return parts[0] if len(parts) > 1 and parts[0] in ROOMS else None


def is_pure(room, file):
    return room in PURE or room in PURE_EXCEPT and pathlib.PurePosixPath(file).stem not in PURE_EXCEPT[room]


def check_include(room, path, quote, name):
    """What is wrong with a file of `room` including `name`, or None."""
    pure = is_pure(room, path)
    target = target_room(name)
    if target is not None:
        if target != room and target not in ROOMS[room]:
            return f"{room} may not know {target}"
        if pure and not is_pure(target, name) and name not in KNOWN_TO_PURE:
            return f"{path.name} is pure, {name} is not"
        return None
    library = name.split("/")[0].removesuffix(".h")
    if library in LIBRARIES and room not in LIBRARIES[library]:
        return f"only {', '.join(sorted(LIBRARIES[library]))} may know {library}, {room} may not"
    if pure:
        if quote == '"' and not name.startswith("absl/"):
            return f"{name}: say which room it is in"
        standard = "." not in name and "/" not in name and name not in SYSTEM_STANDARD
        if not (standard or name.startswith("absl/") or name in INTRINSICS):
            return f"{room} is pure: the standard library without I/O, and Abseil; not <{name}>"
        if name.startswith(("absl/time/", "absl/synchronization/", "absl/log/", "absl/random/")):
            return f"{room} is pure: not <{name}>"
    return None


def check_file(root, path):
    """Yields (line, what) for one file."""
    for part in (*path.parts[:-1], path.name.split(".")[0]):
        if part.lower() in BAD_NAMES:
            yield 1, f"the name '{part}' says nothing: name it after what it does"
    if path.suffix in UNREAD:
        return
    raw = (root / path).read_bytes()
    if b"\0" in raw:
        return
    executable = os.access(root / path, os.X_OK)
    if raw.startswith(b"#!") != executable:
        yield 1, "is executable but has no #!" if executable else "has a #! but is not executable"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        yield 1, "is not UTF-8"
        return
    lines = text.split("\n")
    if path.suffix in LICENSED or path.name in LICENSED_NAMES or raw.startswith(b"#!"):
        if not any(SPDX in line for line in lines[:2]):
            yield 1, f"the first lines lack '{SPDX}'"
    if path.name not in VERBATIM:
        if text and not text.endswith("\n"):
            yield len(lines), "the last line does not end"
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                yield number, "white space at the end of the line"
            if "\t" in line and path.suffix != ".md":
                yield number, "a tab"
            if path.parts[:2] != ("tests", "tidy") and (found := WORKPLACE.search(line)):
                yield number, f"'{found.group()}' belongs to somebody's machine or network, not to ringmx"
    if path.suffix in CXX and (path.parts[0] in ("src", "include") or room_of(path)):
        yield from check_room(path, lines)


def check_room(path, lines):
    room = room_of(path)
    if room is None:
        if path.as_posix() != "src/main.cc":
            yield 1, "stands in no room"
        return
    if room not in ROOMS:
        yield 1, f"'{room}' is no room of the house: see ROOMS in tests/tidy/tidy.py"
        return
    if path.suffix == ".h" and not any(line.strip() == "#pragma once" for line in lines):
        yield 1, "a header without #pragma once"
    for number, line in enumerate(lines, 1):
        if match := INCLUDE.match(line):
            if wrong := check_include(room, path, *match.groups()):
                yield number, wrong


def rules(root):
    return [f"{path}:{line}: {what}" for path in files_of(root) for line, what in check_file(root, path)]


class CannotRun(Exception):
    pass


def clang_format():
    for name in (f"clang-format-{FORMAT_VERSION}", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout
            if f"version {FORMAT_VERSION}." in version:
                return name
    raise CannotRun(f"clang-format {FORMAT_VERSION} is not installed (another version formats differently)")


def format_(root):
    program = clang_format()
    sources = [str(p) for p in files_of(root) if p.suffix in CXX and p.parts[0] != "subprojects"]
    if not sources:
        return []
    done = subprocess.run([program, "--dry-run", "-Werror", "--ferror-limit=1", *sources], cwd=root, text=True,
                          stderr=subprocess.PIPE)  # fmt: skip
    found = re.findall(r"^(\S+?:\d+):\d+: error: (.*)$", done.stderr, re.M)
    if done.returncode != 0 and not found:
        return [done.stderr.strip()]
    return [f"{where}: {what}" for where, what in found]


def flags_of(build):
    """The compiler of a build, and every include path and definition that it gives."""
    compiler, flags = None, []
    for command in json.loads((build / "compile_commands.json").read_text()):
        words = shlex.split(command["command"])
        if "/subprojects/" in command["file"] or not command["file"].endswith(".cc"):
            continue
        start = 1 if os.path.basename(words[0]) in ("ccache", "sccache") else 0
        compiler = words[start]
        expect = False
        for word in words[start + 1:]:
            if expect or re.match(r"-(I|D|isystem|std=)", word):
                if expect or word not in flags:
                    flags.append(word)
                expect = word in ("-I", "-isystem", "-D") and not expect
    if compiler is None:
        raise CannotRun(f"{build} compiles no C++")
    # Definitions of single targets do no harm here, but two values of one name would warn.
    return compiler, [f for f in flags if not f.startswith("-D") or "=" not in f or f.startswith("-DTOML")]


def compiled_first(build):
    """What the sources that `build` has compiled include before anything else, as they write it: that it compiles
    alone is shown by the build."""
    first = set()
    for command in json.loads((build / "compile_commands.json").read_text()):
        source = build / command["file"]
        if source.suffix == ".cc" and "output" in command and (build / command["output"]).exists():
            lines = source.read_text().splitlines()
            first.update(m.group(2) for m in itertools.islice(filter(None, map(INCLUDE.match, lines)), 1))
    return first


def headers(root, build):
    compiler, flags = flags_of(build)
    names = [p for p in files_of(root) if p.suffix == ".h" and (p.parts[0] in ("include", "src") or room_of(p))]
    shown = compiled_first(build)
    names = [p for p in names if p.relative_to(p.parts[0]).as_posix() not in shown]
    if not any("/wolfssl" in flag for flag in flags):  # -Dtls=disabled
        names = [p for p in names if "#include <wolfssl/" not in (root / p).read_text()]

    def compile_alone(path):
        done = subprocess.run(
            [compiler, *flags, f"-I{root}/include", f"-I{root}/src", f"-I{root}/tools", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
             "-x", "c++", "-include", str(root / path), "/dev/null"],
            cwd=build, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        first = next((line for line in done.stdout.splitlines() if "error" in line), done.stdout.strip())
        return None if done.returncode == 0 else f"{path}:1: does not compile alone: {first}"

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [finding for finding in pool.map(compile_alone, names) if finding]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rules", "format", "headers"])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--build", type=pathlib.Path)
    options = parser.parse_args()
    root = options.root.resolve()
    try:
        if options.what == "rules":
            findings = rules(root)
        elif options.what == "format":
            findings = format_(root)
        else:
            findings = headers(root, options.build.resolve())
    except CannotRun as reason:
        print(f"SKIP: {reason}")
        return 77
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
