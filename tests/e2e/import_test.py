# SPDX-License-Identifier: GPL-3.0-or-later
"""`ringmx import-nginx`: a real nginx, and ringmx with what is made of its configuration, say the same to the same
clients."""

import base64
import os
import pathlib
import re
import signal
import ssl
import unittest

import harness
from harness import Closed

CERTIFICATES = harness.SOURCE_ROOT / "tests" / "tls" / "certificates"

CONFIGURATION = """
{load_module}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off;
  server {{
    listen {auth};
    location /auth {{
      if ($http_auth_key != "secret; {{}}") {{ return 403; }}
      if ($http_auth_smtp_to ~ "<nobody@") {{
        add_header Auth-Status "No such user";
        add_header Auth-Error-Code "550 5.1.1";
        return 204;
      }}
      if ($http_auth_smtp_to ~ "<later@") {{
        add_header Auth-Status "Come back later";
        add_header Auth-Error-Code "451 4.7.1";
        add_header Auth-Wait 1;
        return 204;
      }}
      if ($http_auth_user = "mallory") {{
        add_header Auth-Status "Wrong password";
        return 204;
      }}
      add_header Auth-Status OK;
      add_header Auth-Server {upstream_host};
      add_header Auth-Port {upstream_port};
      return 204;
    }}
  }}
}}
mail {{
  server_name mx.example.org;
  auth_http {auth}/auth;
  auth_http_header Auth-Key "secret; {{}}";
  xclient off;
  ssl_certificate {certificates}/p256.pem;
  ssl_certificate_key {certificates}/p256.key;
  include servers/*.conf;
}}
"""

SERVERS = """
server {{
  listen {mx};  # for everybody, and for whoever logs in
  protocol smtp;
  smtp_auth none plain login;
  smtp_capabilities "SIZE 100000" PIPELINING 8BITMIME;
  starttls only;
}}
server {{
  listen {submissions} ssl;
  protocol smtp;
  smtp_auth none;
}}
server {{
  listen {submission};  # for whoever logs in
  protocol smtp;
  smtp_auth plain;
}}
server {{
  listen {imap};
  protocol imap;
}}
"""


def plain(user):
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0password".encode()).decode()


MAIL = "MAIL FROM:<sender@example.test>"
RCPT = "RCPT TO:<recipient@example.test>"
EHLO = "EHLO client.example.test"
TLS = "STARTTLS"
MESSAGE = "Subject: x\r\n\r\nx\r\n."

# What a client says, and what it must be told: codes, None for a close.
DIALOGUES = {
    "a message in clear text": ([EHLO, MAIL, RCPT, "DATA", MESSAGE, "QUIT"], [250, 250, 250, 354, 250, 221]),
    "HELO": (["HELO client.example.test", MAIL, RCPT, "DATA", MESSAGE], [250, 250, 250, 354, 250]),
    "a message in TLS": ([EHLO, TLS, EHLO, MAIL, RCPT, "DATA", MESSAGE, "QUIT"],
                         [250, 220, 250, 250, 250, 354, 250, 221]),
    "a refused recipient": ([EHLO, MAIL, "RCPT TO:<nobody@example.test>"], [250, 250, 550, None]),
    "a recipient who is to wait": ([EHLO, MAIL, "RCPT TO:<later@example.test>", "NOOP"], [250, 250, 451, 250]),
    "out of order": ([EHLO, RCPT, MAIL, MAIL, "RSET", RCPT, MAIL, RCPT], [250, 503, 250, 503, 250, 503, 250, 250]),
    "AUTH in TLS": ([EHLO, TLS, EHLO, plain("alice"), MAIL, RCPT, "DATA", MESSAGE],
                    [250, 220, 250, 235, 250, 250, 354, 250]),
    "AUTH LOGIN in TLS": ([EHLO, TLS, EHLO, "AUTH LOGIN", base64.b64encode(b"alice").decode(),
                           base64.b64encode(b"password").decode(), MAIL, RCPT], [250, 220, 250, 334, 334, 235, 250, 250]),
    "a wrong password": ([EHLO, TLS, EHLO, plain("mallory")], [250, 220, 250, 535, None]),
    "STARTTLS forgets": ([EHLO, MAIL, TLS, EHLO, RCPT], [250, 250, 220, 250, 503]),
}


class ImportFromNginx(harness.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.nginx = harness.program("nginx")
        about = harness.run([cls.nginx, "-V"])[2]
        modules = re.search(r"--modules-path=(\S+)", about)
        module = modules and pathlib.Path(modules[1], "ngx_mail_module.so")
        loaded = module and module.exists()
        if not loaded and not re.search(r"--with-mail(?![\w=])", about):
            raise unittest.SkipTest("nginx has no mail module")
        cls.load_module = f"load_module {module};" if loaded else ""

    def setUp(self):
        self.sink_ = self.sink()
        self.auth = harness.free_address()

    def configuration(self):
        """A folder with an nginx.conf, and the addresses in it."""
        directory = harness.temporary_directory()
        os.chmod(directory, 0o755)
        host, _, port = self.sink_.address.rpartition(":")
        (directory / "nginx.conf").write_text(CONFIGURATION.format(
            load_module=self.load_module, directory=directory, auth=self.auth, certificates=CERTIFICATES,
            upstream_host=host, upstream_port=port))
        addresses = {name: harness.free_address() for name in ("mx", "submissions", "submission", "imap")}
        (directory / "servers").mkdir()
        (directory / "servers" / "all.conf").write_text(SERVERS.format(**addresses))
        return directory, addresses

    def start_nginx(self):
        directory, addresses = self.configuration()
        process = self.process([self.nginx, "-p", directory, "-e", "stderr", "-c", directory / "nginx.conf"])
        self.addCleanup(process.wait)  # its worker, too: a killed master would leave it behind
        self.addCleanup(process.signal, signal.SIGTERM)
        process.wait_for_listener(addresses["mx"])
        return addresses

    def start_ringmx(self):
        directory, addresses = self.configuration()
        config = directory / "ringmx.toml"
        status, output, errors = harness.run([harness.RINGMX, "import-nginx", directory / "nginx.conf",
                                              "--output", config])
        self.assertEqual((status, output), (0, ""), errors)
        self.errors = errors
        status, output, errors = harness.run([harness.RINGMX, "check", "--config", config])
        self.assertEqual(status, 0, output + errors)
        process = self.process([harness.RINGMX, "run", "--config", config])
        self.addCleanup(lambda: self.assertEqual(process.wait(35), 0, process.errors))
        self.addCleanup(process.signal, signal.SIGTERM)
        process.wait_for_error_line("ready")
        return addresses

    @staticmethod
    def codes(address, lines, implicit=False):
        context = ssl.create_default_context(cafile=CERTIFICATES / "root.pem")
        codes = []
        client = harness.Client(address, greeting=not implicit)
        with client:
            if implicit:
                client.socket = context.wrap_socket(client.socket, server_hostname="mx.example.org")
                client.expect(220)
            for line in lines:
                codes.append(client.command(line).code)
                if line == TLS:
                    client.socket = context.wrap_socket(client.socket, server_hostname="mx.example.org")
            if codes[-1] >= 500 and codes[-1] != 503:
                try:
                    codes.append(client.command("NOOP").code)
                except (Closed, OSError):
                    codes.append(None)
        return codes

    def test_the_same_dialogues(self):
        servers = {"nginx": self.start_nginx()["mx"], "ringmx": self.start_ringmx()["mx"]}
        for name, (lines, expected) in DIALOGUES.items():
            for server, address in servers.items():
                with self.subTest(name, server=server):
                    self.assertEqual(self.codes(address, lines), expected)

    def test_nobody_sends_who_has_not_logged_in(self):
        lines = [EHLO, MAIL, plain("alice"), MAIL, RCPT, "DATA", MESSAGE, MAIL]
        for server, start in (("nginx", self.start_nginx), ("ringmx", self.start_ringmx)):
            with self.subTest(server):
                self.assertEqual(self.codes(start()["submission"], lines), [250, 530, 235, 250, 250, 354, 250, 250])

    def test_auth_in_clear_text_is_refused(self):
        servers = {"nginx": self.start_nginx()["mx"], "ringmx": self.start_ringmx()["mx"]}
        for server, address in servers.items():
            with self.subTest(server), harness.Client(address) as client:
                self.assertNotIn("AUTH", client.ehlo())
                # nginx calls it an invalid command; RFC 4954 section 4 has a code for it.
                client.command(plain("alice"), 500 if server == "nginx" else 530)
                client.begin()  # and mail is taken

    def test_extensions(self):
        servers = {"nginx": self.start_nginx()["mx"], "ringmx": self.start_ringmx()["mx"]}
        for server, address in servers.items():
            with self.subTest(server), harness.Client(address) as client:
                self.assertEqual(client.ehlo(), {"SIZE": ["100000"], "PIPELINING": [], "8BITMIME": [], "STARTTLS": []})

    def test_implicit_tls(self):
        servers = {"nginx": self.start_nginx()["submissions"], "ringmx": self.start_ringmx()["submissions"]}
        for server, address in servers.items():
            with self.subTest(server):
                self.assertEqual(self.codes(address, [EHLO, MAIL, RCPT, "QUIT"], implicit=True), [250, 250, 250, 221])

    def test_what_is_left_out_is_said(self):
        self.start_nginx()
        addresses = self.start_ringmx()
        self.assertRegex(self.errors, r"servers/all\.conf:19: server: Not carried over: this server speaks IMAP")
        with self.assertRaises(OSError):
            harness.Client(addresses["imap"], greeting=False)


class CommandLine(harness.TestCase):
    def import_(self, text, *arguments):
        directory = harness.temporary_directory()
        (directory / "nginx.conf").write_text(text)
        return directory, harness.run([harness.RINGMX, "import-nginx", directory / "nginx.conf", *arguments])

    def test_a_file_that_cannot_be_used(self):
        directory, (status, output, errors) = self.import_("mail {\n  server { listen 25 }\n}\n")
        self.assertEqual((status, output), (1, ""))
        self.assertEqual(errors, f'{directory}/nginx.conf:2: unexpected "}}"; see what `nginx -t` says, and mend it there\n')

    def test_standard_output(self):
        _, (status, output, errors) = self.import_(
            "mail { auth_http 127.0.0.1:9; smtp_auth none; server { listen 25; } }")
        self.assertEqual(status, 0)
        self.assertIn('address = "0.0.0.0:25"', output)
        self.assertIn("TO DO", errors)

    def test_nothing_is_overwritten(self):
        directory = harness.temporary_directory()
        there = directory / "ringmx.toml"
        there.write_text("mine")
        _, (status, output, errors) = self.import_(
            "mail { auth_http 127.0.0.1:9; smtp_auth none; server { listen 25; } }", "--output", there)
        self.assertEqual((status, output), (1, ""))
        self.assertIn(f"{there} can't be made: File exists; name another file", errors)
        self.assertEqual(there.read_text(), "mine")

    def test_usage(self):
        for arguments in (["import-nginx"], ["import-nginx", "x", "--output"], ["import-nginx", "--output", "x"]):
            status, _, errors = harness.run([harness.RINGMX, *arguments])
            self.assertEqual(status, 2)
            self.assertIn("import-nginx NGINX.CONF [--output FILE]", errors)


if __name__ == "__main__":
    harness.main()
