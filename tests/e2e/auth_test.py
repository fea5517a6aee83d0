# SPDX-License-Identifier: GPL-3.0-or-later
"""AUTH: which clients are offered it, what services are asked, what a client that fails meets, and how an upstream
is told who a client is. No password is ever asked about, logged or passed on where it must not be."""

import base64
import hashlib
import hmac
import random
import re
import smtplib
import ssl
import threading
import time
import urllib.parse

import harness
import postfix_test
import services_test
import tls_test
from harness import says
from services_test import field, http_answer, needs_tls

USERS = {"alice@example.org": "correct horse", "bob": "bob's secret"}
WRONG = "Auth-Status: Invalid login or password\r\n"  # 535 5.7.0, as nginx has it
OK = services_test.OK
FAST = {"auth_failure_delay": "0ms"}
XCLIENT = ("PIPELINING", "8BITMIME", "XCLIENT NAME ADDR LOGIN")
PLAIN = ("PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN")


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def plain(user, password, authorization=""):
    return b64(f"{authorization}\0{user}\0{password}")


def passwords(request, _=None):
    """A script as nginx's users have them."""
    method = field(request, "Auth-Method")
    user, password = (urllib.parse.unquote(field(request, f"Auth-{name}")) for name in ("User", "Pass"))
    expected = USERS.get(user)
    if method == "cram-md5" and expected:
        expected = hmac.new(expected.encode(), field(request, "Auth-Salt").encode(), hashlib.md5).hexdigest()
    if method in ("oauthbearer", "xoauth2"):
        expected = f"token of {user}".replace(" ", ".")
    if method == "external":
        expected = "" if field(request, "Auth-SSL-Verify") == "SUCCESS" else None
    return http_answer(OK if expected is not None and password == expected else WRONG)


class TestCase(services_test.TestCase):
    def setUp(self):
        self.script = None

    def begin(self, *mechanisms, answer=passwords, service=None, listener=None, **options):
        self.script = self.service(answer)
        listener = {"auth": list(mechanisms or ("plain", "login", "cram-md5", "oauthbearer", "xoauth2")),
                    **FAST, **(listener or {})}
        return self.start((self.script, {"steps": "auth", **(service or {})}), listener=listener, **options)

    def ready(self, **options):
        client = self.client(**options)
        client.offered = client.ehlo()
        return client

    def secured(self, **options):
        client = tls_test.Client(self.proxy.address(), **options)
        self.addCleanup(client.close)
        client.offered = client.ehlo()
        return client

    def asked(self, name="Auth-User"):
        return [urllib.parse.unquote(field(request, name)) for _, request in self.script.requests]

    def no_secret_was_told(self, *secrets):
        """In no line of the log, and not among the metrics."""
        told = "\n".join(self.proxy.errors) + self.proxy.metrics().page
        for secret in secrets:
            for form in (secret, b64(secret), urllib.parse.quote(secret)):
                self.assertNotIn(form, told)


class Mechanisms(TestCase):
    def test_each(self):
        self.begin()
        user, password = "alice@example.org", USERS["alice@example.org"]
        token = f"token.of.{user}"
        exchanges = {
            "plain": [f"AUTH PLAIN {plain(user, password)}"],
            "plain, in two steps": ["auth plain", plain(user, password)],
            "plain, for itself": [f"AUTH PLAIN {plain(user, password, user)}"],
            "login": ["AUTH LOGIN", b64(user), b64(password)],
            "login, in two steps": [f"AUTH LOGIN {b64(user)}", b64(password)],
            "oauthbearer": [f"AUTH OAUTHBEARER {b64(f'n,a={user},' + chr(1) + f'auth=Bearer {token}' + chr(1) * 2)}"],
            "xoauth2": [f"AUTH XOAUTH2 {b64(f'user={user}' + chr(1) + f'auth=Bearer {token}' + chr(1) * 2)}"],
        }
        for name, lines in exchanges.items():
            with self.subTest(name), self.ready() as client:
                self.assertEqual(client.offered["AUTH"], ["PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2"])
                for line in lines[:-1]:
                    client.command(line, 334)
                self.assertEqual(client.command(lines[-1], 235).raw, b"235 2.7.0 Authentication successful\r\n")
                client.command("AUTH PLAIN", 503)
                client.deliver()
                client.quit()
        self.assertEqual(set(self.asked()), {user})
        self.assertEqual([field(r, "Auth-Method") for _, r in self.script.requests],
                         ["plain"] * 5 + ["oauthbearer", "xoauth2"])
        self.assertEqual(len(self.sink_.wait_for(len(exchanges))), len(exchanges))
        self.assertEqual(self.total("authentications_total", result="accepted"), len(exchanges))
        self.no_secret_was_told(password, token)

    def test_cram_md5(self):
        self.begin("cram-md5")
        seen = set()
        for password, code in ((USERS["bob"], 235), ("no", 535)):
            client = self.ready()
            challenge = base64.b64decode(client.command("AUTH CRAM-MD5", 334).lines[0])
            self.assertRegex(challenge, rb"\A<\d+\.\d+@mx\.example\.test>\Z")
            seen.add(challenge)
            digest = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
            client.command(b64(f"bob {digest}"), code)
            self.assertEqual(self.script.requests[-1][1].count("Auth-Salt: " + challenge.decode()), 1)
        self.assertEqual(len(seen), 2)

    def test_a_refused_token(self):
        """The client is told by a challenge, answers it, and gets the reply."""
        self.begin("xoauth2", "oauthbearer")
        client = self.ready()
        for mechanism, message in (("XOAUTH2", "user=bob\1auth=Bearer x\1\1"),
                                   ("OAUTHBEARER", "n,a=bob,\1auth=Bearer x\1\1")):
            challenge = client.command(f"AUTH {mechanism} {b64(message)}", 334)
            self.assertIn(b'"status"', base64.b64decode(challenge.lines[0]))
            client.command("AQ==" if mechanism == "OAUTHBEARER" else "", 535)
        client.command("NOOP", 250)
        self.assertEqual(self.total("authentications_total", result="refused"), 2)

    @needs_tls
    def test_external(self):
        listener = {**tls_test.STARTTLS, "client_certificates": "request", "client_ca_file": str(tls_test.ROOT)}
        self.begin("plain", "external", listener=listener)
        self.assertEqual(self.ready().offered["AUTH"], ["PLAIN"])
        for certificate, offered in ((None, ["PLAIN"]), ("stranger", ["PLAIN"]), ("client", ["PLAIN", "EXTERNAL"])):
            client = self.secured(context=tls_test.client_context(certificate=certificate))
            self.assertEqual(client.offered["AUTH"], offered)
            client.command("AUTH EXTERNAL =", 235 if "EXTERNAL" in offered else 504)
        client = self.secured(context=tls_test.client_context(certificate="client"))
        client.command("AUTH EXTERNAL", 334)
        client.command(b64("relay 7"), 235)
        self.assertEqual(self.asked(), ["", "relay 7"])
        self.assertEqual(self.asked("Auth-Method"), ["external"] * 2)


class Nginx(TestCase):
    def asked_like_nginx(self, *commands, context=None):
        return services_test.Questions.nginx_requests(
            self, context, ("EHLO client.example.test", *commands), smtp_auth="plain login cram-md5",
            of_listener={"auth": ["plain", "login", "cram-md5"], **FAST}, of_service={"steps": "auth"})

    def test_the_same_question(self):
        """Octet for octet, but for what a challenge has of its own."""
        user, password = "a b%+c@example.org", "p\tw d%=\u00e9&?"

        def digest(challenge):
            salt = base64.b64decode(challenge.lines[0])
            # A user with a space nginx does not take apart.
            return b64(f"a%+c@example.org {hmac.new(password.encode(), salt, hashlib.md5).hexdigest()}")
        for commands in ([f"AUTH PLAIN {plain(user, password)}"], ["AUTH PLAIN", plain(user, password)],
                         ["AUTH LOGIN", b64(user), b64(password)], [f"AUTH LOGIN {b64(user)}", b64(password)],
                         ["AUTH CRAM-MD5", digest]):
            with self.subTest(commands):
                nginxs, ours = (re.sub(r"(?<=Auth-Salt: ).*(?=\r)|(?<=Auth-Pass: )[0-9a-f]{32}(?=\r)", "", request)
                                for request in self.asked_like_nginx(*commands))
                self.assertEqual(ours, nginxs)

    @needs_tls
    def test_in_tls(self):
        context = tls_test.client_context(tls_test.VERSIONS["TLSv1.3"])
        nginxs, ours = self.asked_like_nginx(f"AUTH PLAIN {plain('bob', 'x')}", context=context)
        self.assertEqual(ours, nginxs)


class Required(TestCase):
    def test_mail_waits_for_auth(self):
        self.begin("plain", listener={"auth_required": True})
        client = self.ready()
        client.send(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6 LAST\r\nNOOP\r\nMAIL FROM:<a@b>\r\n")
        self.assertEqual(client.expect(530).raw, b"530 5.7.0 Authentication required\r\n")
        for code in (503, 503, 530):
            client.expect(code)
        self.assertEqual(self.total("upstream_connections_total"), 0)
        user, password = next(iter(USERS.items()))
        client.command(f"AUTH PLAIN {b64(chr(0) + user + chr(0) + password)}", 235)
        client.deliver()
        self.assertEqual(len(self.sink_.wait_for(1)), 1)


class OtherServices(TestCase):
    """What those are asked that have nothing to do with passwords."""

    def test_clients_that_have_authenticated(self):
        """As with permit_sasl_authenticated before check_policy_service; or else they are told who it is."""
        policy = self.service(b"action=DUNNO\n\n", services_test.PolicyService)
        script = self.service(http_answer(OK))
        accounts = self.service(passwords)
        steps = ["mail", "rcpt", "data"]
        for skips in (True, False):
            keys = {"steps": steps} if skips else {"steps": steps, "skip_authenticated": False}
            self.start((accounts, {"steps": "auth"}), (policy, {"protocol": "policy", **keys}),
                       (script, {"extra_headers": True, **keys}), listener={"auth": ["plain", "login"], **FAST})
            for asked in (policy, script):
                asked.requests.clear()
            client = self.ready()
            client.deliver()
            self.assertEqual([len(asked.requests) for asked in (policy, script)], [3, 3])
            client.command(f"AUTH PLAIN {plain('bob', USERS['bob'])}", 235)
            client.deliver()
            self.assertEqual([len(asked.requests) for asked in (policy, script)], [3, 3] if skips else [6, 6])
            client.quit()
        for n, (_, request) in enumerate(policy.requests):
            self.assertEqual([services_test.attribute(request, f"sasl_{what}") for what in ("method", "username")],
                             ["PLAIN", "bob"] if n >= 3 else ["", ""])
        self.assertEqual([field(r, "Auth-SMTP-User") for _, r in script.requests], [None] * 3 + ["bob"] * 3)

    def test_auth_is_part_of_no_transaction(self):
        self.begin("plain", service={"steps": ["auth", "mail"], "extra_headers": True},
                   answer=lambda r, _: passwords(r) if field(r, "Auth-Step") == "auth" else http_answer(OK))
        client = self.ready()
        client.deliver()
        client.command(f"AUTH PLAIN {plain('bob', USERS['bob'])}", 235)
        self.assertEqual([(field(r, "Auth-Step"), field(r, "Auth-SMTP-Transaction") is not None)
                          for _, r in self.script.requests], [("mail", True), ("auth", False)])

    def test_an_upstream_for_somebody(self):
        """Chosen at AUTH, and the client is nobody after all: it is chosen for nobody else."""
        sinks = [self.sink() for _ in range(2)]
        self.begin("oauthbearer", answer=http_answer(OK + "Auth-Upstream: mta1\r\n"),
                   upstreams=[{"address": sink.address} for sink in sinks], listener={"upstreams": ["mta0"]})
        token, client = "\1auth=Bearer x\1\1", self.ready()
        client.command(f"AUTH OAUTHBEARER {b64('n,,' + token)}", 334)
        client.command("AQ==", 535)
        client.deliver()
        client.command(f"AUTH OAUTHBEARER {b64('n,a=bob,' + token)}", 235)
        client.deliver()
        self.assertEqual([len(sink.messages) for sink in sinks], [1, 1])


class Refused(TestCase):
    def test_wrong_password(self):
        self.begin(listener={"auth_failure_limit": 3})
        client = self.ready()
        for n in (1, 2):
            self.assertEqual(client.command(f"AUTH PLAIN {plain('bob', 'guess')}", 535).raw,
                             b"535 5.7.0 Invalid login or password\r\n")
        client.begin()  # a session can go on without
        client.command("AUTH LOGIN", 503)
        client.command("RSET", 250)
        client.command("AUTH LOGIN", 334)
        client.command(b64("bob"), 334)
        client.command(b64("guess"), 421)
        client.expect_close()
        self.assertEqual(self.asked("Auth-Login-Attempt"), ["1", "2", "3"])
        self.assertEqual(self.total("authentications_total", result="refused"), 3)
        self.no_secret_was_told("guess")

    def test_whoever_guesses_waits(self):
        self.begin(listener={"auth_failure_delay": "400ms"})
        client = self.ready()
        client.send(f"AUTH PLAIN {plain('bob', 'guess')}\r\nNOOP\r\n".encode())
        begin = time.monotonic()
        client.expect(535)
        self.assertGreaterEqual(time.monotonic() - begin, 0.3)
        client.expect(250)
        begin = time.monotonic()
        client.command(f"AUTH PLAIN {plain('bob', USERS['bob'])}", 235)
        self.assertLess(time.monotonic() - begin, 0.3 * harness.TIMEOUT_SCALE)

    def test_what_is_no_exchange(self):
        self.begin("plain", "login", listener={"auth_failure_limit": 100, "error_limit": 1000})
        client = self.ready()
        client.command("AUTH LOGIN", 334)
        self.assertEqual(client.command("*", 501).raw, b"501 5.7.0 Authentication cancelled\r\n")
        for line in ("AUTH PLAIN *", "AUTH PLAIN x", "AUTH PLAIN AGEAYg", "AUTH PLAIN AGEAYh==", "AUTH PLAIN YQ==",
                     "AUTH PLAIN ="):
            self.assertTrue(client.command(line, 501).raw.startswith(b"501 5.5.2 "), line)
        for line, code in (("AUTH", 501), ("AUTH PLAIN a b", 501), ("AUTH GSSAPI", 504), ("AUTH EXTERNAL =", 504),
                           ("AUTH CRAM-MD5", 504)):
            client.command(line, code)
        for line in ("EHLO x", "QUIT", "STARTTLS", "MAIL FROM:<a@b>", "GET / HTTP/1.1"):
            client.command("AUTH PLAIN", 334)
            client.command(line, 501)
        client.command("AUTH PLAIN", 334)
        client.send(b"AGEA\0Yg==\r\n")
        client.expect(500)
        # Nobody may act as another.
        client.command(f"AUTH PLAIN {plain('bob', USERS['bob'], 'alice@example.org')}", 535)
        client.command("HELO x", 250)
        client.command("AUTH PLAIN", 503)
        with self.client() as other:
            other.command("AUTH PLAIN", 503)
        self.assertEqual(self.script.requests, [])

    def test_long_lines(self):
        """SECURITY row 7: 12288 octets with CRLF, and 1024 of a user and of a password that is no token."""
        self.begin("plain", "xoauth2", listener={"auth_failure_limit": 100})
        client = self.ready()
        for size in (12286, 12287, 12288, 12289, 30000, 200_000):
            # Not each length is one of base64.
            token = "t" * ((size - 2) // 4 * 3 - 23)
            response = b64(f"user=bob\1auth=Bearer {token}\1\1").ljust(size - 2, "A")
            code = 500 if size > 12288 else 334 if size % 4 == 2 else 501
            client.command("AUTH XOAUTH2", 334)
            reply = client.command(response, code)
            if code == 334:
                self.assertEqual(self.asked("Auth-Pass"), [token])
                client.command("AQ==", 535)
            if code == 500:
                self.assertEqual(reply.raw, b"500 5.5.6 Authentication exchange line is too long\r\n")
            client.send(("AUTH PLAIN ".ljust(size - 2, "A") + "\r\n").encode())
            self.assertEqual(client.reply().raw[:9], b"500 5.5.2" if size > 12288 else b"501 5.5.2")
            client.command("NOOP", 250)
        self.assertEqual(len(self.script.requests), 1)
        for size, code in ((1024, 535), (1025, 501), (9000, 501)):
            client.command(f"AUTH PLAIN {plain('bob', 'p' * size)}", code)
        self.assertEqual([len(password) for password in self.asked("Auth-Pass")[1:]], [1024])

    def test_in_pieces(self):
        """Cut anywhere, and all at once."""
        self.begin("plain", "login")
        session = (f"AUTH LOGIN\r\n{b64('bob')}\r\n{b64('no')}\r\nAUTH PLAIN\r\n{plain('bob', USERS['bob'])}\r\n"
                   "NOOP\r\n").encode()
        codes = (334, 334, 535, 334, 235, 250)
        client = self.ready()
        client.send(session)
        for code in codes:
            client.expect(code)
        client = self.ready()
        client.send_bytewise(session)
        for code in codes:
            client.expect(code)

    def test_service_is_down(self):
        self.begin("plain", "xoauth2", service={"on_failure": "tempfail"}, listener={"auth_failure_delay": "60s"})
        self.script.stop()
        client = self.ready()
        for _ in range(4):  # not the client's failure
            client.command(f"AUTH PLAIN {plain('bob', 'x')}", 451)
        client.command(f"AUTH XOAUTH2 {b64('user=bob' + chr(1) + 'auth=Bearer x' + chr(1) * 2)}", 451)
        self.assertEqual(self.total("authentications_total", result="tempfailed"), 5)

    def test_gone_while_it_is_asked(self):
        """The client goes in the middle: nothing is left, and the next one is served."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        self.begin("plain", answer=lambda request, _: gate.wait(harness.PATIENCE) and passwords(request))
        client = self.ready()
        client.send(f"AUTH PLAIN {plain('bob', USERS['bob'])}\r\n".encode())
        harness.eventually(lambda: self.script.requests, "the question")
        client.reset()
        harness.eventually(lambda: self.total("connections_current") == 0, "no connection to be left")
        gate.set()
        self.ready().command(f"AUTH PLAIN {plain('bob', USERS['bob'])}", 235)


@needs_tls
class Encryption(TestCase):
    LINE = f"AUTH PLAIN {plain('bob', USERS['bob'])}"

    def test_before_tls(self):
        """SECURITY row 8: neither offered nor taken, and never asked about."""
        rule = {"name": "auth-tls", "steps": "auth", "tls": "required"}
        for listener, rules in (({**tls_test.STARTTLS, "starttls": "required-for-auth"}, ()),
                                (tls_test.REQUIRED, ()), (tls_test.STARTTLS, [rule])):
            with self.subTest(listener["starttls"], rules=rules):
                self.begin("plain", "login", listener=listener, rules=rules)
                client = self.ready()
                self.assertNotIn("AUTH", client.offered)
                self.assertTrue(client.command(self.LINE, 530).raw.startswith(b"530 5.7.0"))
                client.command("AUTH LOGIN", 530)
                client.command("STARTTLS", 220)
                client.close()
                self.assertEqual(self.script.requests, [])
                client = self.secured()
                self.assertEqual(client.offered["AUTH"], ["PLAIN", "LOGIN"])
                client.command(self.LINE, 235)
                client.deliver()
                self.assertEqual(len(self.script.requests), 1)
                self.assertEqual(field(self.script.requests[0][1], "Auth-SSL"), "on")
                self.no_secret_was_told(USERS["bob"])
                self.proxy.stop()

    def test_forgotten_by_starttls(self):
        """RFC 3207 section 4.2: who the client is was said in clear text."""
        self.begin("plain", listener=tls_test.STARTTLS,
                   rules=[{"name": "known", "authenticated": True, "steps": "mail"},
                          {"name": "others", "steps": "mail", "tls": "TLSv1.3", "otherwise": "refuse"}])
        client = self.secured(context=tls_test.client_context(tls_test.VERSIONS["TLSv1.2"]),
                              before=lambda c: (c.command(self.LINE, 235), c.command("MAIL FROM:<a@b>", 250)))
        client.command("MAIL FROM:<a@b>", 550)
        client.command(self.LINE, 235)
        client.command("MAIL FROM:<a@b>", 250)

    def test_programs(self):
        """swaks, smtplib and openssl, implicit TLS too."""
        script = self.service(passwords)
        self.sink_ = self.sink()
        keys = {"services": ["s0"], "auth": ["plain", "login", "cram-md5"], **FAST}
        self.proxy = self.ringmx([self.sink_], services=[
            {"name": "s0", "address": f"http://{script.address}/auth", "steps": "auth"}],
            listeners=[{**keys, **tls_test.STARTTLS, "starttls": "required-for-auth"}, {**keys, **tls_test.IMPLICIT}])
        sent = 0
        for n, mode in enumerate(("--tls", "--tls-on-connect")):
            host, _, port = self.proxy.address(n).rpartition(":")
            for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
                for password, status in ((USERS["bob"], 0), ("no", 28)):
                    with self.subTest(f"swaks {mode} {mechanism} {status}"):
                        got, out, errors = harness.run(
                            [harness.program("swaks"), "--server", host, "--port", port, mode, "--auth", mechanism,
                             "--auth-user", "bob", "--auth-password", password, "--to", "b@example.test",
                             "--helo", "c.example.test"])
                        self.assertEqual(got, status, out + errors)
                        sent += not status
            kind = smtplib.SMTP_SSL if n else smtplib.SMTP
            for mechanism in ("auth_plain", "auth_login", "auth_cram_md5"):
                options = {"context": tls_test.client_context()} if n else {}
                with self.subTest(f"smtplib {mechanism}"), Named(kind)(host, int(port), **options) as smtp:
                    if not n:
                        smtp.starttls(context=tls_test.client_context())
                    smtp.ehlo()
                    smtp.user, smtp.password = "bob", USERS["bob"]
                    smtp.auth(mechanism[5:].upper().replace("_", "-"), getattr(smtp, mechanism))
                    smtp.sendmail("a@example.test", ["b@example.test"], "Subject: x\r\n\r\nx\r\n")
                    sent += 1
        client = tls_test.Program([harness.program("openssl"), "s_client", "-connect", self.proxy.address(1), "-quiet",
                                   "-CAfile", tls_test.ROOT, "-verify_return_error", "-servername", tls_test.NAME])
        self.addCleanup(client.kill)
        client.expect(220)
        client.ehlo()
        client.command(self.LINE, 235)
        client.deliver()
        self.assertEqual(len(self.sink_.wait_for(sent + 1)), sent + 1)
        self.no_secret_was_told(USERS["bob"])


def Named(kind):
    """An smtplib client that verifies the name of the test's certificate."""
    class Client(kind):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self._host = tls_test.NAME

        def _get_socket(self, host, port, timeout):
            self._host = tls_test.NAME
            return super()._get_socket(host, port, timeout)
    return Client


class Upstreams(TestCase):
    """Who the client is, told to the upstream."""

    def login(self, user="bob", password=None, client=None):
        client = client or self.ready()
        client.command(f"AUTH PLAIN {plain(user, USERS[user] if password is None else password)}", 235)
        return client

    def told(self, authenticate, extensions, answer=passwords, faults=None, **keys):
        self.mta = self.upstream(faults=faults, extensions=extensions)
        self.begin("plain", answer=answer, upstreams=[{"address": self.mta.address, "authenticate": authenticate, **keys}])

    def commands(self, number):
        return [line.decode().split(" SIZE")[0] for line in self.mta.connections[number].commands]

    def test_xclient(self):
        self.told("xclient", XCLIENT)
        with self.ready() as client:  # nobody: an ordinary connection, which is kept
            client.deliver()
            client.quit()
        for user in ("alice@example.org", "bob"):
            with self.login(user) as client:
                client.deliver()
                client.deliver()
                client.quit()
        with self.ready() as client:
            client.deliver()
            client.quit()
        self.assertEqual(len(self.mta.connections), 3)
        transaction = ["MAIL FROM:<sender@example.test>", "RCPT TO:<recipient@example.test>", "DATA"]
        hello = "EHLO mx.example.test"
        self.assertEqual(self.commands(0)[:7], [hello, *transaction, *transaction])
        for n, user in ((1, "alice@example.org"), (2, "bob")):
            harness.eventually(lambda n=n: b"QUIT" in self.mta.connections[n].commands, "its end")
            self.assertEqual(self.commands(n), [hello, f"XCLIENT LOGIN={user}", hello, *transaction, *transaction,
                                                "QUIT"])
        self.assertEqual(len(self.mta.accepted), 6)

    def test_xtext(self):
        """SECURITY row 14: whatever a user is called, it is one attribute."""
        name = "a+b=c ADDR=127.0.0.1 \u00e9"
        self.told("xclient", XCLIENT, answer=http_answer(OK))
        client = self.ready()
        client.command(f"AUTH PLAIN {plain(name, 'x')}", 235)
        client.deliver()
        self.assertEqual(self.commands(0)[1], "XCLIENT LOGIN=a+2Bb+3Dc+20ADDR+3D127.0.0.1+20+C3+A9")

    def test_auth_plain(self):
        self.told("plain", PLAIN)
        client = self.login()
        client.deliver()
        client.command("MAIL FROM:<sender@example.test> AUTH=bob@example.test", 250)
        client.command("RCPT TO:<recipient@example.test>", 250)
        client.quit()
        harness.eventually(lambda: b"QUIT" in self.mta.connections[0].commands, "its end")
        mail = [line for line in self.commands(0) if line.startswith("MAIL")]
        self.assertEqual(self.commands(0)[1], f"AUTH PLAIN {plain('bob', USERS['bob'])}")
        self.assertEqual(mail, ["MAIL FROM:<sender@example.test>", "MAIL FROM:<sender@example.test> AUTH=<>"])
        self.no_secret_was_told(USERS["bob"])

    def test_a_long_password(self):
        """That does not fit into a command: it follows a challenge."""
        def challenges(connection, _):
            connection.send(b"334 \r\n")
            connection.line()
            connection.send(b"235 2.7.0 Ok\r\n")
        self.told("plain", PLAIN, answer=http_answer(OK), faults={"auth": challenges})
        client = self.ready()
        client.command(f"AUTH PLAIN {plain('bob', 'p' * 1000)}", 235)
        client.deliver()
        self.assertEqual(self.commands(0)[1:3], ["AUTH PLAIN", plain("bob", "p" * 1000)])

    def test_as_the_service_says(self):
        """nginx's Auth-User and Auth-Pass: who the client is to the upstream."""
        self.told("plain", PLAIN, answer=http_answer(OK + "Auth-User: mapped\r\nAuth-Pass: other\r\n"))
        self.login().deliver()
        self.assertEqual(self.commands(0)[1], f"AUTH PLAIN {plain('mapped', 'other')}")

    def test_hand_over_fails(self):
        """The client gets a 4xx, and nobody else is hindered."""
        cases = [("xclient", PLAIN, None, "does not offer XCLIENT LOGIN"),
                 ("xclient", ("XCLIENT NAME ADDR",), None, "does not offer XCLIENT LOGIN"),
                 ("xclient", XCLIENT, {"xclient": says(b"550-5.7.0 insufficient\r\n550 5.7.0 authorization\r\n")},
                  'says "550-5.7.0 insufficient"'),
                 ("xclient", XCLIENT, {"xclient": says(b"421 4.3.0 no\r\n")}, 'says "421 4.3.0 no"'),
                 ("plain", XCLIENT, None, "does not offer AUTH PLAIN"), ("plain", ("AUTH LOGIN",), None, "AUTH PLAIN"),
                 ("plain", PLAIN, {"auth": says(b"535 5.7.8 no\r\n")}, 'says "535 5.7.8 no"'),
                 ("plain", PLAIN, {"auth": says(b"334 YQ==\r\n")}, "says")]
        for authenticate, extensions, faults, told in cases:
            with self.subTest(authenticate, extensions=extensions, faults=faults):
                self.told(authenticate, extensions, faults=faults)
                with self.login() as client:
                    client.command("MAIL FROM:<a@example.test>", 250)
                    self.assertEqual(client.command("RCPT TO:<b@example.test>", 451).raw[:9], b"451 4.4.1")
                self.assertEqual(self.total("upstream_connections_total", result="login"), 1)
                self.says("can't be told who a client is: ")
                self.says(told)
                self.no_secret_was_told(USERS["bob"])
                with self.ready() as other:
                    other.deliver()
                self.proxy.stop()

    def test_no_password_for_the_upstream(self):
        """EXTERNAL and the like: there is nothing to say by AUTH PLAIN. The digest of CRAM-MD5 is no password."""
        for mechanism, named in (("plain", ""), ("cram-md5", None), ("cram-md5", "x y")):
            self.mta = self.upstream(extensions=PLAIN)
            self.begin(mechanism, answer=http_answer(OK if named is None else OK + f"Auth-Pass: {named}\r\n"),
                       upstreams=[{"address": self.mta.address, "authenticate": "plain"}])
            client = self.ready()
            if mechanism == "plain":
                self.login(client=client)
            else:
                client.command("AUTH CRAM-MD5", 334)
                client.command(b64(f"bob {'0123456789abcdef' * 2}"), 235)
            if named:
                client.deliver()
                self.assertEqual(self.commands(0)[1], f"AUTH PLAIN {plain('bob', 'x y')}")
            else:
                client.command("MAIL FROM:<a@example.test>", 250)
                client.command("RCPT TO:<b@example.test>", 451)
                self.says("there is no password")
                self.assertEqual([line for line in self.commands(0) if line.startswith("AUTH")], [])
            client.close()
            self.proxy.stop()

    def test_lost_connection(self):
        """It was told, and died while nothing was asked: the next one is told as well."""
        self.told("xclient", XCLIENT)
        client = self.login()
        client.deliver()
        self.mta.close_connections()
        harness.eventually(lambda: self.total("upstream_connections_current") == 0, "its loss to be noticed")
        client.deliver()
        self.assertEqual(self.commands(1)[1], "XCLIENT LOGIN=bob")

    def test_exclusive_before_the_login(self):
        """A connection of the session's own that knows nobody is not used for somebody."""
        self.told("xclient", XCLIENT, reuse=False)
        client = self.ready()
        client.deliver()
        self.login(client=client)
        client.deliver()
        self.assertEqual([self.commands(n)[1] for n in (0, 1)],
                         ["MAIL FROM:<sender@example.test>", "XCLIENT LOGIN=bob"])

    def sessions(self, number, users):
        """Of clients that log in, or do not, or stop at any point. Each sends mail from who it is."""
        dice = random.Random(number)

        def client(**options):
            client = harness.Client(self.proxy.address(), **options)
            client.ehlo()
            return client

        def log_in(client, user, password=None):
            client.command(f"AUTH PLAIN {plain(user, password or users[user])}", 535 if password else 235)

        def deliver(client, user):
            client.deliver(sender=f"{user}@example.test")

        for _ in range(harness.load(15)):
            user = dice.choice(list(users))
            kind = dice.choice(("nobody", "user", "both", "wrong", "gone", "gone in data", "while asked", "tls"))
            if kind == "tls" and services_test.WITH_TLS:
                with tls_test.Client(self.proxy.address(), before=lambda c, user=user: log_in(c, user)) as c:
                    c.ehlo()
                    deliver(c, "nobody")
                continue
            with client() as c:
                if kind in ("nobody", "both"):
                    deliver(c, "nobody")
                if kind == "wrong":
                    log_in(c, user, "wrong")
                    deliver(c, "nobody")
                elif kind == "while asked":
                    c.send(f"AUTH PLAIN {plain(user, users[user])}\r\nMAIL FROM:<{user}@example.test>\r\n".encode())
                    c.reset()
                elif kind != "nobody":
                    log_in(c, user)
                    for _ in range(dice.randrange(1, 3)):
                        deliver(c, user)
                    if kind.startswith("gone"):
                        c.begin(sender=f"{user}@example.test")
                        if kind == "gone in data":
                            c.command("DATA", 354)
                        c.reset()

    def test_nobody_is_somebody_else(self):
        """Whatever clients do: on a connection that an upstream was told about there is that user's mail alone, and on
        one that it was not told about nobody's who has logged in."""
        users = {f"user{n}": f"secret {n}" for n in range(4)}

        def answer(request, _):
            user, password = (urllib.parse.unquote(field(request, f"Auth-{name}")) for name in ("User", "Pass"))
            return http_answer(OK if users.get(user) == password else WRONG, keep=True)
        for authenticate, extensions in (("xclient", XCLIENT), ("plain", PLAIN)):
            with self.subTest(authenticate):
                self.mta = self.upstream(extensions=extensions)
                self.begin("plain", answer=answer, service={"max_connections": 2},
                           listener=tls_test.STARTTLS if services_test.WITH_TLS else {},
                           upstreams=[{"address": self.mta.address, "authenticate": authenticate}])
                failures = []

                def run(number):
                    try:
                        self.sessions(number, users)
                    except Exception as failure:
                        failures.append(failure)
                threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertEqual(failures, [])
                of_nobody, of_somebody = set(), set()
                for n, connection in enumerate(self.mta.connections):
                    told = [re.fullmatch(r"(?:XCLIENT LOGIN=|AUTH PLAIN )(.*)", line) for line in self.commands(n)]
                    told = [line[1] for line in told if line]
                    if told and authenticate == "plain":
                        told[0] = base64.b64decode(told[0]).split(b"\0")[1].decode()
                    senders = {line[11:-len("@example.test>")] for line in self.commands(n) if line.startswith("MAIL")}
                    self.assertLessEqual(len(told), 1)
                    self.assertLessEqual(senders, {told[0] if told else "nobody"})
                    (of_somebody if told else of_nobody).add(connection)
                self.assertTrue(of_nobody and of_somebody)
                self.proxy.stop()

    @needs_tls
    def test_over_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls_test.CERTIFICATES / "p256.pem", tls_test.CERTIFICATES / "p256.key")
        for authenticate, extensions in (("xclient", XCLIENT), ("plain", PLAIN)):
            with self.subTest(authenticate):
                self.mta = self.upstream(extensions=extensions, tls=context)
                self.begin("plain", upstreams=[{"address": self.mta.address, "authenticate": authenticate,
                                                "starttls": "required", "verify": "none"}])
                self.login().deliver()
                self.assertEqual(self.commands(0)[:3], ["EHLO mx.example.test", "STARTTLS", "EHLO mx.example.test"])
                self.assertTrue(self.commands(0)[3].startswith("XCLIENT LOGIN=bob" if authenticate == "xclient" else "AUTH PLAIN "))
                self.proxy.stop()

    def test_postfix(self):
        """A real one: its log names who has sent the message."""
        mta = postfix_test.postfix(self, smtpd_authorized_xclient_hosts="127.0.0.0/8")
        self.begin("plain", upstreams=[{"address": mta.address, "authenticate": "xclient"}])
        self.ready().deliver(sender="nobody@example.test")
        self.login("alice@example.org").deliver()
        mta.delivered(2)
        named = re.findall(r"client=\S+, sasl_method=XCLIENT, sasl_username=(\S+)", mta.log.read_text())
        self.assertEqual(named, ["alice@example.org"])


if __name__ == "__main__":
    harness.main()
