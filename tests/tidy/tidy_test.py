#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that each rule of tidy.py finds what it is there for, and leaves a tidy tree alone."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
import tidy  # noqa: E402

SPDX = f"// {tidy.SPDX}\n"
HEADER = SPDX + "#pragma once\n"

TIDY_TREE = {
    "LICENSE": "verbatim\t \n",
    "README.md": "# ringmx\n",
    "include/ringmx/smtp/line.h": HEADER + "#include <string_view>\n#include <absl/strings/match.h>\n",
    "src/smtp/line.cc": SPDX + '#include "ringmx/smtp/line.h"\n#include <immintrin.h>\n#include "smtp/ascii.h"\n',
    "src/smtp/ascii.h": HEADER,
    "src/ring/counter.h": HEADER,
    "src/ring/reactor.h": HEADER + "#include <liburing.h>\n#include <sys/socket.h>\n",
    "src/net/listen.cc": SPDX + '#include "ring/reactor.h"\n#include <unistd.h>\n',
    "src/gateway/client.cc": SPDX + '#include "ring/reactor.h"\n#include "ringmx/smtp/line.h"\n',
    "src/config/config.cc": SPDX + "#include <fstream>\n#include <toml++/toml.h>\n",
    "src/main.cc": SPDX + '#include "gateway/client.h"\n#include <liburing.h>\n',
    "tools/load/script.h": HEADER + '#include "ringmx/smtp/line.h"\n#include "ring/counter.h"\n',
    "tools/load/connection.h": HEADER + '#include "load/script.h"\n#include "ring/reactor.h"\n#include <chrono>\n',
    "tools/start": f"#!/bin/sh\n# {tidy.SPDX}\nexec true\n",
    "build/broken.cc": "generated \t",
    "subprojects/x-1.0/util/broken.cc": "not ours \t",
}

# file, its text, what must be said of it
BAD = [
    ("src/smtp/a.cc", SPDX + '#include "ring/reactor.h"\n', ":2: smtp may not know ring"),
    ("src/smtp/a.cc", SPDX + '#include "net/listen.h"\n', ":2: smtp may not know net"),
    ("src/smtp/a.cc", SPDX + '#include "gateway/client.h"\n', ":2: smtp may not know gateway"),
    ("src/policy/a.cc", SPDX + '#include "tls/context.h"\n', ":2: policy may not know tls"),
    ("src/ring/a.cc", SPDX + '#include "ringmx/smtp/line.h"\n', ":2: ring may not know smtp"),
    ("src/net/a.cc", SPDX + '#include "smtp/ascii.h"\n', ":2: net may not know smtp"),
    ("src/tls/a.cc", SPDX + '#include "ring/reactor.h"\n', ":2: tls may not know ring"),
    ("src/config/a.cc", SPDX + '#include "net/listen.h"\n', ":2: config may not know net"),
    ("include/ringmx/smtp/a.h", HEADER + '#include "config/config.h"\n', ":3: smtp may not know config"),
    ("src/smtp/a.cc", SPDX + "#include <sys/socket.h>\n", "smtp is pure"),
    ("src/smtp/a.cc", SPDX + "#  include <unistd.h>\n", "smtp is pure"),
    ("src/smtp/a.cc", SPDX + "#include <chrono>\n", "smtp is pure"),
    ("src/policy/a.cc", SPDX + "#include <mutex>\n", "policy is pure"),
    ("src/smtp/a.cc", SPDX + "#include <absl/time/clock.h>\n", "smtp is pure"),
    ("src/smtp/a.cc", SPDX + '#include "ascii.h"\n', "say which room"),
    ("src/smtp/a.cc", SPDX + "#include <liburing.h>\n", "only ring may know liburing"),
    ("src/gateway/a.cc", SPDX + "#include <liburing.h>\n", "only ring may know liburing"),
    ("src/gateway/a.cc", SPDX + "#include <liburing/io_uring.h>\n", "only ring may know liburing"),
    ("src/gateway/a.cc", SPDX + "#include <wolfssl/ssl.h>\n", "only tls may know wolfssl"),
    ("src/gateway/a.cc", SPDX + "#include <toml++/toml.h>\n", "only config may know toml++"),
    ("src/queue/a.cc", SPDX, "'queue' is no room"),
    ("tools/load/script.cc", SPDX + '#include "ring/reactor.h"\n', ":2: script.cc is pure, ring/reactor.h is not"),
    ("tools/load/script.cc", SPDX + '#include "load/connection.h"\n', "script.cc is pure"),
    ("tools/load/script.cc", SPDX + "#include <sys/socket.h>\n", "load is pure"),
    ("tools/load/main.cc", SPDX + '#include "admin/server.h"\n', ":2: load may not know admin"),
    ("src/net/a.cc", SPDX + '#include "load/script.h"\n', ":2: net may not know load"),
    ("src/a.cc", SPDX, "stands in no room"),
    ("include/a.h", HEADER, "stands in no room"),
    ("src/net/a.h", SPDX, "without #pragma once"),
    ("src/net/a.cc", "// Copyright\n", "lack 'SPDX"),
    ("tools/a", "#!/bin/sh\ntrue\n", "lack 'SPDX"),
    ("tests/a.py", f"#!/usr/bin/env python3\n# {tidy.SPDX}\n", "has a #! but is not executable", 0o644),
    ("tests/a.py", f"# {tidy.SPDX}\n", "is executable but has no #!", 0o755),
    ("tests/util/a.cc", SPDX, "'util' says nothing"),
    ("tests/Helpers.py", f"# {tidy.SPDX}\n", "'Helpers' says nothing"),
    ("docs/common.md", "text\n", "'common' says nothing"),
    ("README.md", "clone it to /work/main\n", "/work/m"),
    ("tools/a.sh", f"# {tidy.SPDX}\ncd /root/x\n", ":2: '/root/x'"),
    ("tools/a.sh", f"# {tidy.SPDX}\n# http://deb.debian.org/debian\n", "deb.debian.org"),
    ("tools/a.sh", f"# {tidy.SPDX}\n# http://de.archive.ubuntu.com/ubuntu\n", "archive.ubuntu.com"),
    ("README.md", "text \nmore\n", ":1: white space"),
    ("README.md", "text\r\n", ":1: white space"),
    ("src/net/a.cc", SPDX + "\tint a;\n", ":2: a tab"),
    ("README.md", "text", "does not end"),
    ("README.md", b"\xff\xfe\n", "not UTF-8"),
]


def plant(root, tree):
    for name, content, *mode in tree:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode[0] if mode else 0o755 if path.read_bytes().startswith(b"#!") else 0o644)


class Trees(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        plant(self.root, TIDY_TREE.items())


class Rules(Trees):
    def test_a_tidy_tree_has_no_findings(self):
        self.assertEqual([], tidy.rules(self.root))

    def test_each_rule_finds_its_fault_and_nothing_else(self):
        for name, content, expected, *mode in BAD:
            with self.subTest(name=name, expected=expected), tempfile.TemporaryDirectory() as folder:
                root = pathlib.Path(folder)
                plant(root, TIDY_TREE.items())
                plant(root, [(name, content, *mode)])
                findings = tidy.rules(root)
                self.assertEqual(1, len(findings), findings)
                self.assertTrue(findings[0].startswith(name), findings)
                self.assertIn(expected, findings[0])

    def test_a_repository_is_read_without_what_it_ignores(self):
        subprocess.run(["git", "init", "-q", self.root], check=True)
        plant(self.root, [(".gitignore", "/build/\n/subprojects/x-1.0/\n"), ("src/net/new.cc", "")])
        findings = tidy.rules(self.root)
        self.assertEqual(1, len(findings), findings)
        self.assertTrue(findings[0].startswith("src/net/new.cc:1:"), findings)


class Format(Trees):
    def setUp(self):
        super().setUp()
        try:
            tidy.clang_format()
        except tidy.CannotRun as reason:
            self.skipTest(str(reason))
        plant(self.root, [(".clang-format", "BasedOnStyle: Google\n")])
        for name in ("src/smtp/line.cc", "src/main.cc"):  # not in Google's order, and not what is tested
            plant(self.root, [(name, SPDX)])
        for name in ("include/ringmx/smtp/line.h", "src/ring/reactor.h", "src/config/config.cc", "tools/load/script.h",
                     "tools/load/connection.h"):
            plant(self.root, [(name, HEADER)])
        for name in ("src/net/listen.cc", "src/gateway/client.cc"):
            plant(self.root, [(name, SPDX)])
        (self.root / "build/broken.cc").unlink()

    def test_formatted_code_passes(self):
        self.assertEqual([], tidy.format_(self.root))

    def test_unformatted_code_is_found(self):
        plant(self.root, [("src/net/a.cc", SPDX + "int  a ;\n")])
        findings = tidy.format_(self.root)
        self.assertEqual(1, len({f.split(":")[0] for f in findings}), findings)
        self.assertTrue(findings[0].startswith("src/net/a.cc:2"), findings)


class Headers(Trees):
    def setUp(self):
        super().setUp()
        compiler = os.environ.get("CXX", "c++")
        for name in ("include/ringmx/smtp/line.h", "src/ring/reactor.h"):
            plant(self.root, [(name, HEADER + "#include <string_view>\n")])
        command = {"directory": "build", "file": "src/main.cc", "command": f"{compiler} -std=c++20 -DX=1 -c src/main.cc"}
        plant(self.root, [("build/compile_commands.json", json.dumps([command]))])

    def test_self_contained_headers_pass(self):
        self.assertEqual([], tidy.headers(self.root, self.root / "build"))

    def test_a_header_that_leans_on_its_includer_is_found(self):
        plant(self.root, [("src/net/a.h", HEADER + "inline std::size_t a = 1;\n")])
        findings = tidy.headers(self.root, self.root / "build")
        self.assertEqual(1, len(findings), findings)
        self.assertIn("src/net/a.h:1: does not compile alone", findings[0])

    def test_what_the_build_has_compiled_first_is_not_compiled_again(self):
        leans = HEADER + "inline std::size_t a = 1;\n"
        plant(self.root, [("src/net/a.h", leans), ("src/net/b.h", leans),
                          ("src/net/a.cc", SPDX + '#include "net/a.h"\n#include "net/b.h"\n')])  # fmt: skip
        commands = self.root / "build/compile_commands.json"
        built = {"directory": "build", "file": "../src/net/a.cc", "command": "c++ -c ../src/net/a.cc", "output": "a.o"}
        commands.write_text(json.dumps([*json.loads(commands.read_text()), built]))
        self.assertEqual(2, len(tidy.headers(self.root, self.root / "build")))
        plant(self.root, [("build/a.o", "")])
        findings = tidy.headers(self.root, self.root / "build")
        self.assertEqual(1, len(findings), findings)
        self.assertIn("src/net/b.h:1", findings[0])

    def test_wolfssl_is_not_missed_where_the_build_has_none(self):
        plant(self.root, [("src/tls/a.h", HEADER + "#include <wolfssl/none.h>\n")])
        self.assertEqual([], tidy.headers(self.root, self.root / "build"))
        commands = self.root / "build/compile_commands.json"
        commands.write_text(commands.read_text().replace("-DX=1", "-isystem../subprojects/wolfssl-9"))
        self.assertEqual(1, len(tidy.headers(self.root, self.root / "build")))


if __name__ == "__main__":
    unittest.main()
