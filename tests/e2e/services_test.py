# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that are asked what a session may: what they are asked, octet for octet; what their answers do; and that
a bad answer gives the client one clear reply, and never more."""

import contextlib
import http.server
import os
import pathlib
import pwd
import random
import re
import select
import shutil
import signal
import socket
import ssl
import threading
import time
import unittest

import harness
import tls_test
from harness import duration

CERTIFICATES = tls_test.CERTIFICATES
OK = "Auth-Status: OK\r\n"
STARTTLS_FIRST = "Auth-Status: Must issue a STARTTLS command first\r\nAuth-Error-Code: 530 5.7.0\r\n"
WITH_TLS = "TLS: wolfSSL" in harness.run([harness.RINGMX, "--version"])[1]
needs_tls = unittest.skipUnless(WITH_TLS, "this ringmx was built without TLS")


def http_answer(fields, keep=False, body=b""):
    connection = "keep-alive" if keep else "close"
    return f"HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


class ScriptedService:
    """Answers each request by `answer(request, connection)`: octets, or None if that has done all there is to do.
    `requests` is what was asked, as (connection, text); `connections` are counted from 1."""

    END = b"\r\n\r\n"

    def __init__(self, answer, address=None, tls=None):
        self.answer = answer
        self.address = address or harness.free_address()
        self.tls = tls
        self.requests = []
        self.connections = 0
        self.open = []
        self._lock = threading.Lock()
        self.start()

    def start(self):
        family, where = harness.message_sink.endpoint(self.address)
        if family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where)
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(where)
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.close_connections()

    def close_connections(self):
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
            self.open.append(connected)
            threading.Thread(target=self._serve, args=(connected, number), daemon=True).start()

    def _serve(self, connected, number):
        with contextlib.suppress(OSError, ssl.SSLError):
            if self.tls:
                connected = self.tls.wrap_socket(connected, server_side=True)
            received = b""
            while octets := connected.recv(65536):
                received += octets
                while self.END in received:
                    request, _, received = received.partition(self.END)
                    text = (request + self.END).decode("latin-1")
                    self.requests.append((number, text))
                    answer = self.answer(text, connected)
                    if answer is None:
                        return
                    connected.sendall(answer)
        connected.close()


class PolicyService(ScriptedService):
    END = b"\n\n"


def field(request, name):
    found = re.search(rf"^{name}: (.*)\r$", request, re.M)
    return found and found[1]


def attribute(request, name):
    return re.search(rf"^{name}=(.*)$", request, re.M)[1]


class TestCase(harness.TestCase):
    def service(self, answer, kind=ScriptedService, **options):
        service = kind(answer if callable(answer) else lambda *_: answer, **options)
        self.addCleanup(service.stop)
        return service

    def start(self, *services, upstreams=None, listener=None, **options):
        """A ringmx that asks `services`, each (where, keys), in their order."""
        tables = []
        for n, (service, keys) in enumerate(services):
            address = getattr(service, "address", service)
            policy = keys.get("protocol") == "policy"
            tables.append({"name": f"s{n}", "address": address if policy or "://" in address else f"http://{address}/auth",
                           "steps": "rcpt", **keys})
        self.sink_ = self.sink()
        self.proxy = self.ringmx(upstreams or [self.sink_], services=tables, listeners=[
            {"services": [table["name"] for table in tables], **(listener or {})}], **options)
        return self.proxy

    def client(self, **options):
        client = self.proxy.client(**options)
        self.addCleanup(client.close)
        return client

    def total(self, name, **labels):
        return self.proxy.metrics().total(f"ringmx_{name}", **labels)

    def says(self, text):
        harness.eventually(lambda: any(text in line for line in self.proxy.errors), f"a line with {text!r}")


# ------------------------------------------------------------------------------------- what is asked

class Questions(TestCase):
    def test_each_step(self):
        """At each step what is known there, and nothing goes to the upstream before the answer to it."""
        def answer(request, _):
            seen.append((field(request, "Auth-Step"), len(upstream.connections[0].commands) if upstream.connections else 0))
            return http_answer(OK, keep=True)
        seen = []
        upstream = self.upstream()
        service = self.service(answer)
        self.start((service, {"steps": ["connect", "mail", "rcpt", "data"], "extra_headers": True}), upstreams=[upstream])
        client = self.client()
        client.ehlo("client.example.test")
        client.command("MAIL FROM:<a@example.org> SIZE=3", 250)
        client.command("RCPT TO:<b@example.net>", 250)
        client.command("RCPT TO:<c@example.net>", 250)
        client.command("DATA", 354)
        client.send(b"x\r\n.\r\n")
        client.expect(250)
        # EHLO, MAIL and RCPT are with the upstream when the second recipient is asked about.
        self.assertEqual(seen, [("connect", 0), ("mail", 0), ("rcpt", 0), ("rcpt", 3), ("data", 4)])
        asked = [(field(r, "Auth-SMTP-Helo"), field(r, "Auth-SMTP-From"), field(r, "Auth-SMTP-To"))
                 for _, r in service.requests]
        mail = "MAIL FROM:<a@example.org> SIZE=3"
        self.assertEqual(asked, [("", "", ""), ("client.example.test", mail, ""),
                                 ("client.example.test", mail, "RCPT TO:<b@example.net>"),
                                 ("client.example.test", mail, "RCPT TO:<c@example.net>"),
                                 ("client.example.test", mail, "")])
        port = str(client.socket.getsockname()[1])
        for _, request in service.requests:
            self.assertEqual(field(request, "Client-IP"), client.socket.getsockname()[0])
            self.assertEqual(field(request, "Client-Port"), port)
            self.assertEqual(field(request, "Server-Port"), self.proxy.address().rpartition(":")[2])
        instances = {field(r, "Auth-SMTP-Transaction") for _, r in service.requests[1:]}
        self.assertEqual(len(instances), 1)
        client.command("MAIL FROM:<a@example.org>", 250)
        self.assertNotIn(field(service.requests[-1][1], "Auth-SMTP-Transaction"), instances)
        self.assertEqual({number for number, _ in service.requests}, {1})  # one connection

    def test_bdat_is_asked_about_once(self):
        service = self.service(http_answer(OK))
        self.start((service, {"steps": "data"}))
        client = self.client()
        client.ehlo()
        client.begin()
        for n, last in enumerate(("", "", " LAST")):
            client.send(b"BDAT 2%s\r\nx\n" % last.encode())
            client.expect(250)
        self.assertEqual(len(service.requests), 1)

    def test_a_refused_chunk_is_swallowed(self):
        self.start((self.service(http_answer("Auth-Status: no\r\nAuth-Error-Code: 550 5.7.1\r\n")), {"steps": "data"}))
        client = self.client()
        client.ehlo()
        client.begin()
        client.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertEqual(client.expect(550).lines, ["5.7.1 no"])
        client.expect(250)
        self.assertEqual(self.sink_.messages, [])

    def test_pipelined(self):
        """Everything in one segment: replies in the order of the commands, whoever gives them."""
        def answer(request, _):
            refused = "<no" in field(request, "Auth-SMTP-To")
            return http_answer("Auth-Status: no\r\nAuth-Error-Code: 550\r\n" if refused else OK, keep=True)
        self.start((self.service(answer), {}))
        client = self.client()
        client.ehlo()
        client.send(b"MAIL FROM:<a@b>\r\n" + b"".join(
            b"RCPT TO:<%s%d@example.net>\r\n" % (name, n) for n in range(10) for name in (b"yes", b"no")) + b"DATA\r\n")
        client.expect(250)
        for _ in range(10):
            client.expect(250)
            self.assertEqual(client.expect(550).lines, ["no"])
        client.expect(354)
        client.send(b"x\r\n.\r\n")
        client.expect(250)
        self.assertEqual(len(self.sink_.messages[0].recipients), 10)

    def nginx_requests(self, context=None, commands=(), of_nginx="", of_listener=None, of_service=None,
                       smtp_auth="none"):
        """What nginx and ringmx ask about one and the same session. A command may be made of the reply before."""
        nginx = harness.program("nginx")
        about = harness.run([nginx, "-V"])[2]
        modules = re.search(r"--modules-path=(\S+)", about)
        module = modules and pathlib.Path(modules[1], "ngx_mail_module.so")
        if not (module and module.exists()):
            raise unittest.SkipTest("nginx has no mail module")
        service = self.service(http_answer("Auth-Status: no\r\nAuth-Error-Code: 550 5.7.1\r\n"))
        address = harness.free_address()
        directory = harness.temporary_directory()
        directory.chmod(0o755)
        config = directory / "nginx.conf"
        config.write_text(f"""
load_module {module};
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 64; }}
mail {{
  server_name mx.example.test;
  auth_http {service.address}/auth?x=y;
  auth_http_header X-Key 1;
  server {{
    listen {address}; protocol smtp; smtp_auth {smtp_auth}; xclient off;
    starttls on; ssl_certificate {CERTIFICATES}/p256.pem; ssl_certificate_key {CERTIFICATES}/p256.key;
    {of_nginx}
    ssl_protocols TLSv1.2 TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
  }}
}}
""")
        process = self.process([nginx, "-p", directory, "-e", "stderr", "-c", config])
        self.addCleanup(process.wait)  # its worker, too: a killed master would leave it behind
        self.addCleanup(process.signal, signal.SIGTERM)
        process.wait_for_listener(address)
        self.start((f"http://{service.address}/auth?x=y", {"headers": ["X-Key: 1"], "max_idle": 0, "pass_certificate": True,
                                                             **(of_service or {})}),
                   listener={**(tls_test.STARTTLS if context else {}), **(of_listener or {})})
        for where in (address, self.proxy.address()):
            client = tls_test.Client(where, context=context) if context else harness.Client(where)
            with client:
                reply = None
                for command in commands:
                    reply = client.command(command(reply) if callable(command) else command)
        (_, nginxs), (_, ours) = service.requests
        return nginxs, ours

    COMMANDS = ("EHLO client.example.test", "MAIL FROM:<a+b%c@example.org> SIZE=100", "RCPT TO:<d@example.net>")

    def test_the_same_as_nginx(self):
        for commands in (self.COMMANDS, ("HELO [192.0.2.1]", "MAIL FROM:<>", 'RCPT TO:<"a b"@example.net>')):
            with self.subTest(commands):
                nginxs, ours = self.nginx_requests(None, commands)
                self.assertEqual(ours, nginxs)

    @needs_tls
    def test_the_same_as_nginx_in_tls(self):
        for version in tls_test.VERSIONS.values():
            with self.subTest(version.name):
                context = tls_test.client_context(version, "ECDHE-ECDSA-AES128-GCM-SHA256")
                nginxs, ours = self.nginx_requests(context, self.COMMANDS)
                self.assertEqual(ours, nginxs)

    @needs_tls
    def test_the_same_as_nginx_with_certificates(self):
        of_nginx = f"""ssl_verify_client optional; ssl_client_certificate {CERTIFICATES}/root.pem;
                       auth_http_pass_client_cert on;"""
        of_listener = {"client_certificates": "request", "client_ca_file": str(CERTIFICATES / "root.pem")}
        for certificate in ("client", None):
            with self.subTest(certificate):
                context = tls_test.client_context(tls_test.VERSIONS["TLSv1.3"], certificate=certificate)
                nginxs, ours = self.nginx_requests(context, self.COMMANDS, of_nginx, of_listener)
                self.assertEqual(ours, nginxs)

    def test_attributes_of_postfix(self):
        service = self.service(b"action=DUNNO\n\n", PolicyService)
        self.start((service, {"protocol": "policy", "steps": ["connect", "mail", "rcpt", "data"]}))
        client = self.client()
        client.ehlo("client.example.test")
        client.deliver(sender='"a b"@example.org', recipient='"\\b"@example.net')
        requests = [request for _, request in service.requests]
        self.assertEqual([attribute(r, "protocol_state") for r in requests], ["CONNECT", "MAIL", "RCPT", "DATA"])
        self.assertEqual([attribute(r, "recipient_count") for r in requests], ["0", "0", "0", "1"])
        self.assertEqual([attribute(r, "recipient") for r in requests], ["", "", *["b@example.net"] * 2])
        self.assertEqual([attribute(r, "sender") for r in requests], ["", *["a b@example.org"] * 3])
        self.assertEqual(len({attribute(r, "instance") for r in requests[1:]}), 1)
        self.assertEqual({number for number, _ in service.requests}, {1})

    def test_the_recipient_of_a_message(self):
        """As Postfix has it: told at DATA if only one was accepted, whatever was refused before and behind it."""
        def rcpt(connection, usual):
            connection.send(b"550 5.1.1 No\r\n" if b"no" in connection.commands[-1] else usual)

        service = self.service(b"action=DUNNO\n\n", PolicyService)
        upstream = self.upstream({"rcpt": rcpt}, extensions=("PIPELINING", "8BITMIME", "CHUNKING"))
        self.start((service, {"protocol": "policy", "steps": "data"}), upstreams=[upstream])
        client = self.client()
        client.ehlo()
        for recipients, told in ((["no", "yes", "no"], "yes"), (["yes", "other"], ""), (["other"], "other")):
            for command in (b"DATA\r\n", b"BDAT 3 LAST\r\nx\r\n"):
                client.send(b"MAIL FROM:<a@b>\r\n" + b"".join(b"RCPT TO:<%s@c>\r\n" % r.encode() for r in recipients))
                client.expect(250)
                for recipient in recipients:
                    client.expect(550 if recipient == "no" else 250)
                client.send(command)
                if command.startswith(b"DATA"):
                    client.expect(354)
                    client.send(b"x\r\n.\r\n")
                client.expect(250)
                request = service.requests[-1][1]
                self.assertEqual(attribute(request, "recipient"), told and f"{told}@c")
                self.assertEqual(attribute(request, "recipient_count"), str(len(recipients) - recipients.count("no")))


# ------------------------------------------------------------------------------------- what answers do

class Answers(TestCase):
    def test_refusals(self):
        """The service's text is the reply, one line of it; the session goes on."""
        def answer(request, _):
            return http_answer(fields[field(request, "Auth-SMTP-To").partition("<")[2].partition("@")[0]], keep=True)
        fields = {"plain": "Auth-Status: Go away\r\n", "code": STARTTLS_FIRST,
                  "long": f"Auth-Status: {'x' * 2000}\r\n", "eight": "Auth-Status: \u00fc\r\n",
                  "bad": "Auth-Status: no\r\nAuth-Error-Code: 250 2.0.0\r\n", "ok": OK}
        self.start((self.service(answer), {}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 250)
        for name, reply in {"plain": b"535 5.7.0 Go away\r\n", "code": b"530 5.7.0 Must issue a STARTTLS command first\r\n",
                            "long": b"535 5.7.0 " + b"x" * 500 + b"\r\n", "eight": b"535 5.7.0 ??\r\n",
                            "bad": b"451 4.3.0 A policy service gave no valid answer, try again later\r\n"}.items():
            self.assertEqual(client.command(f"RCPT TO:<{name}@example.net>").raw, reply)
        self.says('the Auth-Error-Code "250 2.0.0" is no code')
        client.command("RCPT TO:<ok@example.net>", 250)
        self.assertEqual(self.total("service_answers_total", result="refused"), 4)
        self.assertEqual(self.total("service_answers_total", result="tempfailed"), 1)

    def test_errors_are_limited(self):
        self.start((self.service(http_answer("Auth-Status: no\r\n")), {}), listener={"error_limit": 3})
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 250)
        client.command("RCPT TO:<a@b>", 535)
        client.command("RCPT TO:<a@b>", 535)
        client.command("RCPT TO:<a@b>", 421)
        client.expect_close()

    def test_end_of_session(self):
        for fields, keys, ends in ((STARTTLS_FIRST, {}, False), (STARTTLS_FIRST, {"close_after_refusal": True}, True),
                                   (STARTTLS_FIRST + "Auth-Wait: 1\r\n", {"close_after_refusal": True}, False),
                                   ("Auth-Status: x\r\nAuth-Error-Code: 421 4.7.0\r\n", {}, True)):
            with self.subTest(fields=fields, keys=keys):
                self.start((self.service(http_answer(fields)), {"steps": "mail", **keys}))
                client = self.client()
                client.ehlo()
                client.command("MAIL FROM:<a@b>", 530, 421)
                if ends:
                    client.expect_close()
                else:
                    client.command("NOOP", 250)

    def test_before_the_greeting(self):
        service = self.service(http_answer("Auth-Status: Not you\r\nAuth-Error-Code: 554 5.7.1\r\n"))
        self.start((service, {"steps": "connect"}))
        client = self.client(greeting=False)
        self.assertEqual(client.expect(554).lines, ["5.7.1 Not you"])
        client.expect_close()
        self.assertEqual(self.total("connections_closed_total", reason="refused"), 1)

    def test_talking_before_the_greeting(self):
        asked = threading.Event()
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(*_):
            asked.set()
            release.wait(harness.PATIENCE)
            return http_answer(OK)
        self.start((self.service(answer), {"steps": "connect"}))
        client = self.client(greeting=False)
        self.assertTrue(asked.wait(harness.PATIENCE))
        client.send(b"EHLO x\r\n")
        client.expect(554)
        client.expect_close()

    def test_waiting(self):
        """Auth-Wait: the answer to WAIT is another question, that to a refusal is delay."""
        def answer(request, _):
            times.append(time.monotonic())
            return http_answer(("Auth-Status: WAIT\r\nAuth-Wait: 1\r\n", "Auth-Status: no\r\nAuth-Wait: 1\r\n")[len(times) - 1])
        times = []
        service = self.service(answer)
        self.start((service, {"steps": "mail"}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 535)
        end = time.monotonic()
        self.assertGreaterEqual(times[1] - times[0], 1)
        self.assertGreaterEqual(end - times[1], 0.9)
        self.assertEqual(service.requests[0][1], service.requests[1][1])  # the same attempt

    def test_waiting_is_bounded(self):
        self.start((self.service(http_answer("Auth-Status: WAIT\r\nAuth-Wait: 61\r\n")), {"steps": "mail"}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 451)
        self.says("wait for more than a minute")

    def test_choosing_an_upstream(self):
        """By name and by address, for a transaction or for one session; and only one that there is."""
        def answer(request, _):
            step, recipient = field(request, "Auth-Step"), field(request, "Auth-SMTP-To")
            if step == "rcpt":
                return http_answer(OK + choices[recipient.partition("<")[2].partition("@")[0]], keep=True)
            return http_answer(OK + choices.get(step, ""), keep=True)

        def choose(upstream):
            host, _, port = upstream.address.rpartition(":")
            return f"Auth-Server: {host}\r\nAuth-Port: {port}\r\n"
        sinks = [self.sink() for _ in range(3)]
        choices = {"one": choose(sinks[1]), "two": "Auth-Upstream: mta2\r\n", "none": "",
                   "stranger": "Auth-Server: 192.0.2.1\r\nAuth-Port: 25\r\n", "nobody": "Auth-Upstream: nobody\r\n"}
        for reuse in (True, False):
            self.start((self.service(answer), {"steps": ["connect", "mail", "rcpt"], "extra_headers": True}),
                       upstreams=[{"address": sink.address, "reuse": reuse} for sink in sinks],
                       listener={"upstreams": ["mta0"]})
            for sink in sinks:
                sink.messages.clear()
            client = self.client()
            client.ehlo()
            for recipient in ("none", "one", "two", "one", "none"):
                client.deliver(recipient=f"{recipient}@example.net")
            self.assertEqual([len(sink.messages) for sink in sinks], [2, 2, 1])
            # Two ways in one transaction.
            client.command("MAIL FROM:<a@b>", 250)
            client.command("RCPT TO:<one@b>", 250)
            client.command("RCPT TO:<two@b>", 452)
            client.command("RCPT TO:<one@b>", 250)
            client.command("RCPT TO:<none@b>", 250)
            client.command("RSET", 250)
            for unknown, text in (("stranger", '"192.0.2.1:25", which is not configured'), ("nobody", '"nobody", which is not')):
                client.command("MAIL FROM:<a@b>", 250)
                client.command(f"RCPT TO:<{unknown}@b>", 451)
                client.command("RSET", 250)
            self.says('which is not configured: there is no [[upstream]] with this')
            choices["connect"], choices["mail"] = "Auth-Upstream: mta1\r\n", ""
            client = self.client()
            client.ehlo()
            client.deliver(recipient="none@example.net")
            choices["mail"] = "Auth-Upstream: mta2\r\n"
            client.deliver(recipient="none@example.net")
            choices["mail"] = ""
            client.deliver(recipient="none@example.net")
            self.assertEqual([len(sink.messages) for sink in sinks], [2, 4, 2])
            del choices["connect"]

    def test_another_upstream_after_a_refusal(self):
        """Nobody has been accepted by the first: the transaction may still go elsewhere."""
        def answer(request, _):
            name = field(request, "Auth-SMTP-To").partition("<")[2].partition("@")[0]
            return http_answer(OK + f"Auth-Upstream: {name}\r\n", keep=True)
        for stage in ("mail", "rcpt"):
            refusing, other = self.upstream({stage: harness.says(b"550 no\r\n")}), self.sink()
            self.start((self.service(answer), {}), upstreams=[{"name": "a", "address": refusing.address},
                                                              {"name": "b", "address": other.address}])
            client = self.client()
            client.ehlo()
            client.command("MAIL FROM:<x@y>", 250)
            client.command("RCPT TO:<a@z>", 550)
            client.command("RCPT TO:<b@z>", 250)
            client.command("DATA", 354)
            client.send(b"x\r\n.\r\n")
            client.expect(250)
            self.assertEqual([r for r, _ in other.messages[0].recipients], ["b@z"])

    def test_policy_actions(self):
        def answer(request, _):
            return f"action={actions[attribute(request, 'recipient').partition('@')[0]]}\n\n".encode()
        actions = {"dunno": "DUNNO", "reject": "REJECT", "text": "REJECT 5.1.1 Nobody here", "defer": "DEFER_IF_PERMIT Greylisted",
                   "tempfail": "451 4.7.1 Later", "hold": "HOLD", "prepend": "PREPEND X-A: b"}
        self.start((self.service(answer, PolicyService), {"protocol": "policy"}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 250)
        for name, reply in {"dunno": b"250", "reject": b"554 5.7.1 Access denied\r\n", "text": b"554 5.1.1 Nobody here\r\n",
                            "defer": b"450 4.7.1 Greylisted\r\n", "tempfail": b"451 4.7.1 Later\r\n",
                            "hold": b"451 4.3.5 Server configuration error", "prepend": b"250"}.items():
            raw = client.command(f"RCPT TO:<{name}@b>").raw
            self.assertTrue(raw.startswith(reply), raw)
        self.says("HOLD")

    def test_several_services(self):
        """In the order of the listener; the first refusal is the last word, a deferral waits for it."""
        answers = {}

        def answer(n):
            return lambda *_: f"action={answers[n]}\n\n".encode()
        services = [self.service(answer(n), PolicyService) for n in range(2)]
        self.start(*((service, {"protocol": "policy", "steps": "mail"}) for service in services))
        client = self.client()
        client.ehlo()
        for first, second, reply, asked in (
                ("DUNNO", "OK", b"250 ", 1), ("REJECT a", "OK", b"554 5.7.1 a", 0), ("DUNNO", "REJECT b", b"554 5.7.1 b", 1),
                ("DEFER_IF_PERMIT a", "OK", b"450 4.7.1 a", 1), ("DEFER_IF_PERMIT a", "REJECT b", b"554 5.7.1 b", 1),
                ("DEFER_IF_REJECT a", "REJECT b", b"450 4.7.1 a", 1), ("DEFER_IF_REJECT a", "OK", b"250 ", 1),
                ("DEFER_IF_REJECT a", "DEFER b", b"450 4.7.1 b", 1)):
            with self.subTest(first=first, second=second):
                answers.update({0: first, 1: second})
                before = len(services[1].requests)
                self.assertEqual(client.command("MAIL FROM:<a@b>").raw[:len(reply)], reply)
                self.assertEqual(len(services[1].requests) - before, asked)
                client.command("RSET", 250)

    def test_a_permit_ends_the_list(self):
        """As with Postfix: of the policy servers that come later none is asked. Others are."""
        first = self.service(lambda r, _: f"action={actions[attribute(r, 'sender')]}\n\n".encode(), PolicyService)
        actions = {"dunno": "DUNNO", "ok": "OK", "number": "1", "deferred": "DEFER_IF_PERMIT later", "": "PERMIT"}
        second = self.service(b"action=OK\n\n", PolicyService)
        third = self.service(b"action=REJECT no\n\n", PolicyService)
        script = self.service(http_answer(OK, keep=True))
        self.start(*((service, {"protocol": "policy", "steps": "mail"}) for service in (first, second, third)),
                   (script, {"steps": "mail"}))
        client = self.client()
        client.ehlo()
        for sender, code, asked in (("dunno", 250, 1), ("ok", 250, 0), ("number", 250, 0), ("", 250, 0),
                                    ("deferred", 450, 1)):
            with self.subTest(sender):
                before = len(second.requests)
                client.command(f"MAIL FROM:<{sender}>", code)
                self.assertEqual(len(second.requests) - before, asked)
                client.command("RSET", 250)
        self.assertEqual(len(third.requests), 0)
        self.assertEqual(len(script.requests), len(actions))

    def test_cache(self):
        service = self.service(http_answer(OK, keep=True))
        self.start((service, {"cache": ["client", "sender_domain"], "cache_time": "2s", "cache_size": 2, "steps": "mail"}),
                   server={"reactors": 1})
        client = self.client()
        client.ehlo()

        def asked(sender):
            before = len(service.requests)
            client.command(f"MAIL FROM:<{sender}>", 250)
            client.command("RSET", 250)
            return len(service.requests) - before
        self.assertEqual([asked(s) for s in ("a@x", "b@X", "a@y", "a@x", "a@z", "a@x", "a@y")], [1, 0, 1, 0, 1, 0, 1])
        self.assertEqual(self.total("service_cached_answers_total"), 3)
        harness.eventually(lambda: asked("a@y"), "the answer to be forgotten", 5)

    @needs_tls
    def test_a_kept_answer_is_not_for_both_sides_of_starttls(self):
        service = self.service(lambda request, _: http_answer(OK if field(request, "Auth-SSL") else STARTTLS_FIRST, keep=True))
        self.start((service, {"cache": ["client"], "steps": "mail"}), listener=tls_test.STARTTLS, server={"reactors": 1})
        for asked in (1, 0):  # the second time round all is known
            before = len(service.requests)
            clear = self.client()
            clear.ehlo()
            clear.command("MAIL FROM:<a@x.example>", 530)
            with tls_test.Client(self.proxy.address()) as secured:
                secured.ehlo()
                secured.command("MAIL FROM:<a@x.example>", 250)
            clear.command("MAIL FROM:<a@x.example>", 530)
            self.assertEqual(len(service.requests) - before, 2 * asked)


# ------------------------------------------------------------------------------------- bad answers

def slowly(octets):
    def answer(_, connection):
        with contextlib.suppress(OSError):
            for n in range(len(octets)):
                connection.sendall(octets[n:n + 1])
                if select.select([connection], [], [], 0.05 * harness.TIMEOUT_SCALE)[0]:  # ringmx has closed
                    return
    return answer


def silent(_, connection):
    while connection.recv(65536):
        pass


def then_closes(octets):
    def answer(_, connection):
        with contextlib.suppress(OSError):
            connection.sendall(octets)
        connection.close()
    return answer


def goes_on_and_on(octets):
    def answer(_, connection):
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(octets)
    return answer


HTTP_FAULTS = {
    "none": (then_closes(b""), "closed"),
    "silence": (silent, "timeout"),
    "slow": (slowly(http_answer(OK) * 3), "timeout"),
    "half a head": (then_closes(http_answer(OK)[:-2]), "closed"),
    "half a line": (then_closes(http_answer(OK)[:20]), "closed"),
    "2 MB of headers": (lambda *_: http_answer("".join(f"X-{n}: {'x' * 1000}\r\n" for n in range(2000)) + OK), "bad_answer"),
    "a header without end": (goes_on_and_on(b"X" * 65536), "bad_answer"),
    "CRLF in a value": (lambda *_: http_answer("Auth-Status: no\r\n250 2.0.0 Ok\r\nAuth-Error-Code: 550\r\n"), "bad_answer"),
    "a reply in a value": (lambda *_: http_answer("Auth-Status: no\r250 2.0.0 Ok\r\n"), "bad_answer"),
    "NUL": (lambda *_: http_answer("Auth-Status: no\0\r\n"), "bad_answer"),
    "status 500": (lambda *_: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", "bad_answer"),
    "OK with status 500": (lambda *_: b"HTTP/1.1 500 x\r\nAuth-Status: OK\r\nContent-Length: 0\r\n\r\n", "bad_answer"),
    "no Auth-Status": (lambda *_: http_answer(""), "bad_answer"),
    "two": (lambda *_: http_answer(OK + "Auth-Status: no\r\n"), "bad_answer"),
    "another protocol": (lambda *_: b"220 mx ESMTP\r\n250 ok\r\n", "bad_answer"),
}
POLICY_FAULTS = {
    "none": (then_closes(b""), "closed"),
    "silence": (silent, "timeout"),
    "half": (then_closes(b"action=OK\n"), "closed"),
    "no end": (goes_on_and_on(b"x=y\n" * 1000), "bad_answer"),
    "no action": (lambda *_: b"x=y\n\n", "bad_answer"),
    "two actions": (lambda *_: b"action=OK\naction=REJECT\n\n", "bad_answer"),
    "CR": (lambda *_: b"action=REJECT no\r250 2.0.0 Ok\n\n", "bad_answer"),
    "LF": (lambda *_: b"action=REJECT no\n250 2.0.0 Ok\n\n", "bad_answer"),
}


class BadAnswers(TestCase):
    def one_clear_reply(self, faults, kind, keys):
        """A ringmx with a listener and a service for each fault; a session each, at once: one reply to each command."""
        services = {what: self.service(answer, kind) for what, (answer, _) in faults.items()}
        sink = self.sink()
        prefix = "" if kind is PolicyService else "http://"
        proxy = self.ringmx(
            [sink], listeners=[{"name": f"mx{n}", "services": [f"s{n}"]} for n in range(len(faults))],
            services=[{"name": f"s{n}", "address": prefix + service.address + ("/" if prefix else ""), "steps": "rcpt",
                       "timeout": duration(1), **keys} for n, service in enumerate(services.values())])
        clients = []
        for n in range(len(faults)):
            client = proxy.client(n)
            self.addCleanup(client.close)
            client.ehlo()
            client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nNOOP\r\n")
            clients.append(client)
        for n, (what, client) in enumerate(zip(faults, clients)):
            with self.subTest(what, **keys):
                client.expect(250)
                reply = client.reply()
                yield what, reply
                client.expect(250)
                client.quit()
                failures = {labels["reason"]: value for name, labels, value in proxy.metrics().samples
                            if name == "ringmx_service_failures_total" and labels["service"] == f"s{n}" and value}
                self.assertEqual(failures, {faults[what][1]: 1})

        def told():  # or counted: there are not more than ten lines a second
            left_out = re.findall(r"^ringmx: (\d+) further lines? ", "\n".join(proxy.errors), re.M)
            return sum('service "s' in line for line in proxy.errors) + sum(map(int, left_out))
        harness.eventually(lambda: told() >= len(faults), "a line in the log for each")

    def test_auth_http(self):
        for what, reply in self.one_clear_reply(HTTP_FAULTS, ScriptedService, {}):
            self.assertEqual(reply.raw, b"451 4.3.0 A policy service is not available, try again later\r\n", what)

    def test_policy(self):
        for what, reply in self.one_clear_reply(POLICY_FAULTS, PolicyService, {"protocol": "policy"}):
            self.assertEqual(reply.raw, b"451 4.3.0 A policy service is not available, try again later\r\n", what)

    def test_on_failure(self):
        faults = {what: HTTP_FAULTS[what] for what in ("none", "status 500", "CRLF in a value")}
        for _, reply in self.one_clear_reply(faults, ScriptedService, {"on_failure": "refuse"}):
            self.assertEqual(reply.raw, b"550 5.3.0 A policy service is not available\r\n")
        for _, reply in self.one_clear_reply(faults, ScriptedService, {"on_failure": "allow"}):
            self.assertEqual(reply.code, 250)

    def test_nobody_there(self):
        self.start((harness.free_address(), {}), (f"http://unix:{harness.temporary_directory()}/none:/", {}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 250)
        client.command("RCPT TO:<c@d>", 451)
        self.assertEqual(self.total("service_failures_total", reason="connect"), 1)


# ------------------------------------------------------------------------------------- connections

class Connections(TestCase):
    def test_bodies(self):
        """What stands behind the head is read before the connection is used again, or it is not used again."""
        for answer, connections in ((http_answer(OK, keep=True, body=b"HTTP/1.1 200 OK\r\nAuth-Status: no\r\n\r\n" * 50), 1),
                                    (http_answer(OK, keep=True, body=b"x" * 100_000), 3), (http_answer(OK, body=b"x"), 3),
                                    (http_answer(OK, keep=True) + b"HTTP/1.1 200 OK\r\nAuth-Status: no\r\n\r\n", 3),
                                    (http_answer(OK + "Transfer-Encoding: chunked\r\n", keep=True) + b"0\r\n\r\n", 3)):
            with self.subTest(answer=answer[:200]):
                service = self.service(answer)
                self.start((service, {}))
                for _ in range(3):
                    client = self.client()
                    client.ehlo()
                    client.deliver()
                    client.quit()
                self.assertEqual(service.connections, connections)

    def test_a_kept_connection_that_is_dead(self):
        service = self.service(http_answer(OK, keep=True))
        self.start((service, {}))
        client = self.client()
        client.ehlo()
        client.deliver()
        service.stop()
        service.start()
        client.deliver()
        self.assertEqual(service.connections, 2)
        # At the very moment of the question: once more, and no more.
        service.answer = lambda _, connection: connection.close()
        client.command("MAIL FROM:<a@b>", 250)
        client.command("RCPT TO:<c@d>", 451)
        self.assertEqual(len(service.requests), 4)

    def test_many_questions_few_connections(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(*_):
            release.wait(harness.PATIENCE)
            return http_answer(OK, keep=True)
        service = self.service(answer)
        self.start((service, {"max_connections": 2, "steps": "mail"}), server={"reactors": 1})
        clients = [self.client() for _ in range(10)]
        for client in clients:
            client.ehlo()
            client.send(b"MAIL FROM:<a@b>\r\n")
        harness.eventually(lambda: self.total("service_waiting_questions") == 8, "8 questions to wait")
        for client in clients[2:5]:
            client.reset()  # whoever has gone does not wait any more
        harness.eventually(lambda: self.total("service_waiting_questions") == 5, "5 questions to wait")
        release.set()
        for client in clients[:2] + clients[5:]:
            client.expect(250)
        self.assertEqual(service.connections, 2)
        harness.eventually(lambda: self.total("service_connections_current", state="idle") == 2, "idle connections")

    def test_whoever_gives_up(self):
        """A client that is gone, or reset, while its question is out: the answer is nobody else's."""
        asked = threading.Event()
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(request, _):
            if "first" in request:
                asked.set()
                release.wait(harness.PATIENCE)
                return http_answer("Auth-Status: no\r\n", keep=True)
            return http_answer(OK, keep=True)
        service = self.service(answer)
        self.start((service, {"max_connections": 1, "steps": "mail"}), server={"reactors": 1})
        client = self.client()
        client.ehlo()
        client.send(b"MAIL FROM:<first@b>\r\n")
        self.assertTrue(asked.wait(harness.PATIENCE))
        client.reset()
        second = self.client()
        second.ehlo()
        second.command("MAIL FROM:<second@b>", 250)
        release.set()
        second.command("RSET", 250)
        second.command("MAIL FROM:<third@b>", 250)

    def answers_to_their_questions(self, kind, asked, answer, keys):
        """Connections that are few and kept, answers that come late, in pieces, twice or not at all, clients that go
        before they are told: what a client is told is still about its own recipient, or that there is no answer."""
        def misbehave(request, connection):
            about = asked(request)
            octets = answer(about)
            behaviour = dice.choice(("good", "good", "good", "pieces", "late", "surplus", "then closes", "closes", "half"))
            seen.add(behaviour)
            if behaviour == "pieces":
                for n in range(0, len(octets), 7):
                    connection.sendall(octets[n:n + 7])
                return b""
            if behaviour == "late":  # ringmx does not wait for it, and closes
                select.select([connection], [], [], harness.PATIENCE)
                return octets
            if behaviour == "surplus":
                return octets + answer("surplus@b")
            if behaviour in ("then closes", "closes", "half"):
                connection.sendall({"then closes": octets, "closes": b"", "half": octets[:len(octets) // 2]}[behaviour])
                connection.shutdown(socket.SHUT_RDWR)
                return None
            return octets

        def session(number):
            for turn in range(harness.load(3)):
                with self.client() as client:
                    client.ehlo()
                    names = [f"{number}.{turn}.{n}@b" for n in range(8)]
                    client.send(b"MAIL FROM:<a@b>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % n.encode() for n in names))
                    client.expect(250)
                    for n, name in enumerate(names):
                        if turn % 3 == 2 and n == number % 8:
                            client.reset()
                            break
                        told.append((name, client.reply().raw.decode()))
        dice, seen, told = random.Random(1), set(), []
        service = self.service(misbehave, kind)
        self.start((service, {"max_connections": 3, "timeout": duration(0.3), **keys}), listener={"error_limit": 1000})
        clients = [threading.Thread(target=session, args=(n,)) for n in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertEqual(len(seen), 7)
        self.assertEqual(len(told), sum((8 if turn % 3 < 2 else n) for n in range(8) for turn in range(harness.load(3))))
        for name, reply in told:
            self.assertIn(reply, (f"550 5.7.1 {name}\r\n",
                                  "451 4.3.0 A policy service is not available, try again later\r\n"), name)
        right = sum(reply.startswith("550") for _, reply in told)
        self.assertGreater(right, len(told) // 4)

    def test_every_answer_is_to_its_own_question(self):
        self.answers_to_their_questions(
            ScriptedService, lambda r: re.search(r"RCPT TO:<(.*)>", r)[1],
            lambda name: http_answer(f"Auth-Status: {name}\r\nAuth-Error-Code: 550 5.7.1\r\n", keep=True, body=b"x" * 50), {})
        self.answers_to_their_questions(PolicyService, lambda r: attribute(r, "recipient"),
                                        lambda name: f"action=550 5.7.1 {name}\n\n".encode(), {"protocol": "policy"})

    def test_draining_while_a_question_is_out(self):
        asked = threading.Event()
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(request, _):
            asked.set()
            release.wait(harness.PATIENCE)
            return http_answer(OK, keep=True)
        self.start((self.service(answer), {}))
        client, idle = self.client(), self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@b>", 250)
        client.send(b"RCPT TO:<c@d>\r\n")
        self.assertTrue(asked.wait(harness.PATIENCE))
        self.proxy.signal(signal.SIGTERM)
        idle.expect(421)
        release.set()
        client.expect(250)
        client.command("DATA", 354)
        client.send(b"x\r\n.\r\n")
        client.expect(250)
        client.expect(421)
        client.close()
        idle.close()
        self.assertEqual(self.proxy.wait(35), 0)

    def test_an_upstream_that_dies_meanwhile(self):
        """The second recipient is asked about while the first waits for an upstream that goes away."""
        asked = threading.Event()
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(request, _):
            if "second" in request:
                asked.set()
                release.wait(harness.PATIENCE)
            return http_answer(OK, keep=True)
        upstream = self.upstream({"rcpt": harness.is_silent})
        self.start((self.service(answer), {}), upstreams=[upstream])
        client = self.client()
        client.ehlo()
        client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<first@b>\r\nRCPT TO:<second@b>\r\n")
        client.expect(250)
        self.assertTrue(asked.wait(harness.PATIENCE))
        upstream.wait_until_begun("rcpt")
        upstream.faults.clear()
        upstream.close_connections()
        client.expect(451)
        release.set()
        client.expect(250)

    def test_unix_socket(self):
        path = harness.temporary_directory() / "auth"
        service = self.service(http_answer(OK, keep=True), address=f"unix:{path}")
        self.start((f"http://unix:{path}:/a?b", {}))
        client = self.client()
        client.ehlo()
        client.deliver()
        self.assertTrue(service.requests[0][1].startswith("GET /a?b HTTP/1.0\r\nHost: localhost\r\n"))

    @needs_tls
    def test_https(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "p256.pem", CERTIFICATES / "p256.key")
        service = self.service(http_answer(OK, keep=True), tls=context)
        verified = {"verify": "ca_file", "ca_file": str(CERTIFICATES / "root.pem")}
        for name, verify, code in ((tls_test.NAME, verified, 250), ("other.example.net", verified, 451),
                                   (tls_test.NAME, {"verify": "system"}, 451)):
            self.start((f"https://{service.address}/x", {"tls_name": name, **verify}))
            for _ in range(2):
                client = self.client()
                client.ehlo()
                client.command("MAIL FROM:<a@b>", 250)
                client.command("RCPT TO:<c@d>", code)
        self.assertEqual(field(service.requests[0][1], "Host"), tls_test.NAME)
        self.assertEqual([number for number, _ in service.requests], [1, 1])
        self.assertEqual(self.total("service_failures_total", reason="tls"), 2)

    @needs_tls
    def test_https_across_a_reload(self):
        """What a kept connection was verified by may be gone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "p256.pem", CERTIFICATES / "p256.key")
        service = self.service(http_answer(OK, keep=True), tls=context)
        ca = harness.temporary_directory() / "ca.pem"
        ca.write_bytes((CERTIFICATES / "root.pem").read_bytes())
        self.start((f"https://{service.address}/x", {"tls_name": tls_test.NAME, "verify": "ca_file", "ca_file": str(ca)}))
        self.client_that_is_told(250)
        ca.write_bytes((CERTIFICATES / "other.pem").read_bytes())
        self.proxy.signal(signal.SIGHUP)
        harness.eventually(lambda: self.total("service_connections_current", state="idle") == 0, "the end of the old one")
        self.client_that_is_told(451)

    def client_that_is_told(self, code):
        with self.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<a@b>", 250)
            client.command("RCPT TO:<c@d>", code)


# ------------------------------------------------------------------------------------- who there really is

class Peers(TestCase):
    def decided_per_client(self, url):
        """Who must use TLS is a script's decision: the client from 127.0.0.1 need not, the others must."""
        self.start((url, {"steps": ["mail"]}), listener=tls_test.STARTTLS)
        self.lets_in_per_client()

    def lets_in_per_client(self):
        with self.proxy.client(source="127.0.0.1") as client:
            client.ehlo()
            client.deliver()
            client.quit()
        self.assertEqual(len(self.sink_.messages), 1)
        secret = b"secret in clear text"
        with self.proxy.client(source="127.0.0.2") as client:
            client.ehlo()
            client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
            self.assertEqual(client.expect(530).raw, b"530 5.7.0 Must issue a STARTTLS command first\r\n")
            client.expect(503)
            client.expect(503)
            client.command(secret)
        self.assertEqual(len(self.sink_.messages), 1)
        for version in tls_test.VERSIONS.values():
            with tls_test.Client(self.proxy.address(), source="127.0.0.2", context=tls_test.client_context(version),
                                 before=lambda c: c.command("MAIL FROM:<a@b>", 530)) as client:
                client.ehlo()
                client.deliver()
                client.quit()
        self.assertEqual(len(self.sink_.messages), 3)

    @needs_tls
    def test_nginx_as_a_script(self):
        """As docs/policy.md has it, but for addresses."""
        nginx = harness.program("nginx")
        document = (harness.SOURCE_ROOT / "docs" / "policy.md").read_text()

        def of_document(name):
            return re.search(rf"<!-- a test runs this one: {name} -->\n```\w+\n(.*?)```", document, re.DOTALL)[1]
        directory = harness.temporary_directory()
        directory.chmod(0o755)
        address = harness.free_address()
        server = of_document("nginx").replace("127.0.0.1:9000", address).replace(r"192\.0\.2\.", "127.0.0.1$")
        config = directory / "nginx.conf"
        config.write_text(f"""
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 64; }}
http {{ access_log off; {server} }}
""")
        process = self.process([nginx, "-p", directory, "-e", "stderr", "-c", config])
        self.addCleanup(process.wait)
        self.addCleanup(process.signal, signal.SIGTERM)
        process.wait_for_listener(address)
        self.decided_per_client(f"http://{address}/")
        self.assertEqual(self.total("service_connections_total", result="ok"), harness.REACTORS)
        (directory / "ringmx.toml").write_text(of_document("script"))
        for kind in ("pem", "key"):
            shutil.copy(CERTIFICATES / f"p256.{kind}", directory / f"mx.{kind}")
        status, output, errors = harness.run([harness.RINGMX, "check", "--config", directory / "ringmx.toml"])
        self.assertEqual(status, 0, output + errors)

    @needs_tls
    def test_a_small_script(self):
        class Script(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                if self.headers["Client-IP"] == "127.0.0.1" or self.headers["Auth-SSL"] == "on":
                    self.send_header("Auth-Status", "OK")
                else:
                    self.send_header("Auth-Status", "Must issue a STARTTLS command first")
                    self.send_header("Auth-Error-Code", "530 5.7.0")
                self.end_headers()

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer((harness.HOST, 0), Script)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.decided_per_client(f"http://{harness.HOST}:{server.server_address[1]}/")

    def test_postgrey(self):
        postgrey = harness.program("postgrey")
        directory = harness.temporary_directory()
        directory.chmod(0o777)
        user = pwd.getpwuid(os.getuid()).pw_name
        address = harness.free_address()
        none = directory / "none"
        none.write_text("")
        process = self.process([postgrey, f"--inet={address}", f"--dbdir={directory}", f"--user={user}", "--group=root"
                                if user == "root" else "--group=" + user, "--delay=1", "--auto-whitelist-clients=0",
                                f"--whitelist-clients={none}", f"--whitelist-recipients={none}"])
        process.wait_for_listener(address)
        self.start((address, {"protocol": "policy"}))
        client = self.client()
        client.ehlo()
        client.command("MAIL FROM:<a@example.org>", 250)
        reply = client.command("RCPT TO:<b@example.net>", 450)
        self.assertRegex(reply.lines[0], r"^4\.2\.0 (<b@example\.net>: )?.*Greylisted")
        harness.eventually(lambda: client.command("RCPT TO:<b@example.net>").code == 250, "postgrey to let it pass")
        client.command("DATA", 354)
        client.send(b"x\r\n.\r\n")
        client.expect(250)
        self.assertEqual([r for r, _ in self.sink_.messages[0].recipients], ["b@example.net"])


if __name__ == "__main__":
    harness.main()
