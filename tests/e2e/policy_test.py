# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules: who must use TLS, at which step; and the configurations of docs/policy.md."""

import hashlib
import re
import shutil
import signal
import ssl

import harness
import tls_test

TLS = tls_test.STARTTLS
ASKING = {**TLS, "client_certificates": "request", "client_ca_file": str(tls_test.ROOT)}
NEEDS_TLS = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
LATER = b"451 4.7.0 Must issue a STARTTLS command first\r\n"
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"
MESSAGE = b"Subject: x\r\n\r\nx\r\n"


def fingerprint(name):
    return hashlib.sha256(tls_test.leaf(name)).hexdigest()


class TestCase(harness.TestCase):
    def start(self, *rules, **listener):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], listeners=[{**TLS, **listener}],
                                 rules=[{"name": f"rule{n}", **rule} for n, rule in enumerate(rules)])

    def client(self, source=ONE):
        client = self.proxy.client(source=source)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def secured(self, source=ONE, **options):
        client = tls_test.Client(self.proxy.address(), source=source, **options)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def says(self, client, command, reply):
        self.assertEqual(client.command(command).raw, reply)

    def heard(self):
        """Every command that the upstream ever got, in one list, but for greetings."""
        said = [line for lines in self.sink_.commands.values() for line in lines]
        return [line for line in said if not line.startswith((b"EHLO", b"QUIT", b"RSET"))]

    def counted(self, rule, **results):
        metrics = self.proxy.metrics()
        for result in ("allowed", "refused", "tempfailed", "marked"):
            self.assertEqual(metrics.total("ringmx_policy_rules_total", rule=rule, result=result),
                             results.get(result, 0), f"{rule} {result}")


class Steps(TestCase):
    def test_mail(self):
        self.start({"tls": "required"})
        client = self.client()
        self.says(client, "MAIL FROM:<a@a.example>", NEEDS_TLS)
        client.command("RCPT TO:<b@b.example>", 503)
        client.command("DATA", 503)
        client.command("NOOP", 250)
        # In one breath, and one octet at a time.
        client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
        self.assertEqual([client.reply().code for _ in range(3)], [530, 503, 503])
        client.send_bytewise(b"MAIL FROM:<a@a.example>\r\n")
        client.expect(530)
        self.assertEqual(self.sink_.sessions, 0)
        self.secured().deliver(MESSAGE, sender="in@tls.example")
        self.assertEqual([line for line in self.heard() if line.startswith(b"MAIL")], [b"MAIL FROM:<in@tls.example>"])
        self.counted("rule0", refused=3, allowed=1)

    def test_each_recipient(self):
        self.start({"recipient_domains": ["secret.example", ".secret.example"], "tls": "required"})
        client = self.client()
        client.command("MAIL FROM:<a@a.example>", 250)
        self.says(client, "RCPT TO:<b@secret.example>", NEEDS_TLS)
        client.command("DATA", 554)  # as if the upstream had refused it
        self.assertEqual(self.sink_.sessions, 0)
        client.command("RCPT TO:<b@open.example>", 250)
        self.says(client, "RCPT TO:<b@x.SECRET.example>", NEEDS_TLS)
        client.command("DATA", 354)
        client.send(MESSAGE + b".\r\n")
        client.expect(250)
        self.assertEqual(self.heard(), [b"MAIL FROM:<a@a.example>", b"RCPT TO:<b@open.example>", b"DATA"])
        # Refused behind RCPTs whose replies are due: replies leave in the order of commands.
        client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<1@open.example>\r\nRCPT TO:<2@open.example>\r\n"
                    b"RCPT TO:<3@secret.example>\r\nRCPT TO:<4@open.example>\r\nDATA\r\n")
        replies = [client.reply() for _ in range(6)]
        self.assertEqual([reply.code for reply in replies], [250, 250, 250, 530, 250, 354])
        client.send(MESSAGE + b".\r\n")
        client.expect(250)
        self.assertEqual([address for address, _ in self.sink_.wait_for(2)[1].recipients],
                         ["1@open.example", "2@open.example", "4@open.example"])
        self.assertFalse([line for line in self.heard() if b"secret" in line.lower()])
        self.counted("rule0", refused=3)
        secured = self.secured()
        secured.deliver(MESSAGE, recipient="b@x.secret.example")
        self.counted("rule0", refused=3, allowed=1)

    def test_data(self):
        self.start({"steps": "data", "tls": "required"})
        client = self.client()
        client.begin("a@a.example", "b@b.example")
        self.says(client, "DATA", NEEDS_TLS)
        self.says(client, "DATA", NEEDS_TLS)
        client.send(b"BDAT 10 LAST\r\nRSET\r\nQUIT")  # its octets are no commands
        self.assertEqual(client.reply().raw, NEEDS_TLS)
        client.send(b"BDAT 6\r\nQUIT\r\n")
        client.expect(503)
        client.command("RSET", 250)
        # A client that does not wait: its message is not taken for commands.
        impatient = self.client()
        impatient.begin("a@a.example", "b@b.example")
        impatient.send(b"DATA\r\nRSET\r\nMAIL FROM:<evil@a.example>\r\n.\r\n")
        self.assertEqual(impatient.reply().raw, NEEDS_TLS)
        impatient.expect_close()
        self.assertFalse([line for line in self.heard() if line.startswith((b"DATA", b"BDAT")) or b"evil" in line])
        self.assertEqual(self.sink_.messages, [])
        secured = self.secured()
        secured.begin()
        secured.send(b"BDAT 5\r\na\r\nb\r")
        secured.expect(250)
        secured.send(b"BDAT 1 LAST\r\n\n")
        secured.expect(250)
        self.counted("rule0", refused=4, allowed=1)  # of a message in chunks the first one is the step

    def test_sender_is_remembered_and_forgotten(self):
        self.start({"steps": ["rcpt", "data"], "sender_domains": ["a.example"], "tls": "required"})
        client = self.client()
        for sender, code in (("x@a.example", 530), ("x@b.example", 250), ("x@A.example", 530), ("", 250)):
            client.command(f"MAIL FROM:<{sender}>", 250)
            client.command("RCPT TO:<b@b.example>", code)
            client.command("RSET", 250)
        client.deliver(MESSAGE, sender="x@b.example")
        client.command("MAIL FROM:<x@a.example>", 250)
        client.command("RCPT TO:<b@b.example>", 530)
        client.ehlo()
        client.command("MAIL FROM:<x@c.example>", 250)
        client.command("RCPT TO:<b@b.example>", 250)


class Conditions(TestCase):
    def test_networks(self):
        self.start({"clients": ["127.0.0.2"], "tls": "required"},
                   {"clients": ["127.0.0.0/31"]},
                   {"clients": ["127.0.0.0/8"], "tls": "required", "otherwise": "tempfail"})
        for source, reply in ((ONE, None), (TWO, NEEDS_TLS), (THREE, LATER)):
            client = self.client(source)
            if reply:
                self.says(client, "MAIL FROM:<a@a.example>", reply)
            else:
                client.deliver(MESSAGE)
            self.secured(source).deliver(MESSAGE)
        self.assertEqual(len(self.sink_.messages), 4)
        self.counted("rule0", refused=1, allowed=1)
        self.counted("rule1", allowed=2)
        self.counted("rule2", tempfailed=1, allowed=1)

    def test_a_client_that_has_gone(self):
        """The kernel can't say any more who it was: what it has left behind is nobody's mail."""
        self.start({"clients": [ONE], "tls": "required"}, forbid_unauth_pipelining=False)
        self.proxy.signal(signal.SIGSTOP)
        client = self.proxy.client(source=ONE, greeting=False)
        client.send(b"EHLO a.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + MESSAGE
                    + b".\r\n")
        client.reset()
        self.proxy.signal(signal.SIGCONT)

        def ended():
            return self.proxy.metrics().total("ringmx_connections_closed_total")
        harness.eventually(lambda: ended() == 1, "the session to end")
        self.assertEqual(self.heard(), [])

    def test_ipv6(self):
        self.start({"clients": ["::1"], "tls": "required"}, address=harness.free_ipv6_address())
        client = self.proxy.client()
        self.addCleanup(client.close)
        client.ehlo()
        self.says(client, "MAIL FROM:<a@a.example>", NEEDS_TLS)

    def test_addresses_with_another_domain_in_them(self):
        """A mail server behind ringmx may deliver these to conf.example; in TLS there is nothing to refuse."""
        self.start({"recipient_domains": ["loc.example"]},
                   {"recipient_domains": ["conf.example"], "tls": "required"},
                   {"sender_domains": ["corp.example"], "tls": "required"})
        hidden = ["v%conf.example@loc.example", '"v@conf.example"@loc.example', "conf.example!v@loc.example",
                  "v@con\uff46.example"]
        senders = ["boss", "boss%corp.example", '""', '"boss@corp.example"@loc.example']
        client, secured = self.client(), self.secured()
        for sender in senders:
            self.says(client, f"MAIL FROM:<{sender}>", NEEDS_TLS)
            secured.command(f"MAIL FROM:<{sender}>", 250)
            secured.command("RSET", 250)
        for one in client, secured:
            one.command("MAIL FROM:<a@a.example> SMTPUTF8", 250)
            for recipient in ("v@loc.example", "v%open.example@loc.example", "v@m\u00fcnchen.example", "Postmaster"):
                one.command(f"RCPT TO:<{recipient}>".encode(), 250)
        for recipient in hidden:
            self.says(client, f"RCPT TO:<{recipient}>".encode(), NEEDS_TLS)
            secured.command(f"RCPT TO:<{recipient}>".encode(), 250)
        self.counted("rule0", allowed=2)
        self.counted("rule1", refused=len(hidden))
        self.counted("rule2", refused=len(senders))

    def test_files(self):
        folder = harness.temporary_directory()
        (folder / "clients").write_text("# partners\n127.0.0.2/31\n")
        (folder / "domains").write_text("a.example\n.b.example\n<>\n")
        self.start({"clients_file": str(folder / "clients"), "sender_domains_file": str(folder / "domains"),
                    "tls": "required"})
        for source in (ONE, TWO):
            client = self.client(source)
            for sender in ("x@a.example", "x@m.b.example", "", "x@b.example", "x@m.a.example"):
                listed = sender in ("x@a.example", "x@m.b.example", "")
                client.command(f"MAIL FROM:<{sender}>", 530 if listed and source == TWO else 250)
                client.command("RSET", 250)

    def test_helo_is_said_anew_after_tls(self):
        self.start({"helo": [".trusted.example"]}, {"tls": "TLSv1.3"})
        client = self.client()
        self.says(client, "MAIL FROM:<a@a.example>", NEEDS_TLS)
        client.command("HELO mail.trusted.example", 250)
        client.command("MAIL FROM:<a@a.example>", 250)
        # What was said in clear text counts no more.
        secured = tls_test.Client(self.proxy.address(), source=ONE, before=lambda c: c.ehlo("mail.trusted.example"),
                                  context=tls_test.client_context(version=ssl.TLSVersion.TLSv1_2))
        self.addCleanup(secured.close)
        secured.command("MAIL FROM:<a@a.example>", 503)
        secured.ehlo("mail.other.example")
        self.says(secured, "MAIL FROM:<a@a.example>", b"550 5.7.10 TLS 1.3 is required\r\n")
        secured.ehlo("mail.trusted.example")
        secured.command("MAIL FROM:<a@a.example>", 250)

    def test_certificates(self):
        self.start({"sender_domains": ["pinned.example"], "fingerprints": [fingerprint("stranger")]},
                   {"sender_domains": ["verified.example"], "client_certificate": "verified"},
                   {"sender_domains": ["any.example"], "client_certificate": "presented",
                    "reply": "550 5.7.1 Show a certificate"}, **ASKING)
        absent = b"550 5.7.0 A client certificate is required\r\n"
        expected = {
            None: (absent, absent, b"550 5.7.1 Show a certificate\r\n"),
            "client": (b"550 5.7.0 The client certificate is not one of those expected\r\n", None, None),
            "stranger": (None, b"550 5.7.0 The client certificate could not be verified\r\n", None),
        }
        for name, replies in expected.items():
            client = self.secured(context=tls_test.client_context(certificate=name))
            for domain, reply in zip(("pinned", "verified", "any"), replies):
                self.says(client, f"MAIL FROM:<a@{domain}.example>", reply or b"250 2.0.0 Ok\r\n")
                client.command("RSET", 250)
        client = self.client()
        self.says(client, "MAIL FROM:<a@pinned.example>", NEEDS_TLS)


class Outcomes(TestCase):
    def test_mark(self):
        self.start({"tls": "required", "otherwise": "mark"},
                   {"sender_domains": ["a.example"], "tls": "required", "reply": "530 5.7.0 No"})
        client = self.client()
        client.deliver(MESSAGE, sender="who@b.example")
        for _ in range(5):
            client.command("MAIL FROM:<who@b.example>", 250)
            client.command("RSET", 250)
        self.says(client, "MAIL FROM:<who@a.example>", b"530 5.7.0 No\r\n")
        self.secured().deliver(MESSAGE)
        self.counted("rule0", marked=7)
        self.counted("rule1", refused=1)

        def lines():
            return [line for line in self.proxy.errors if "marks" in line]
        harness.eventually(lines, "a line of the log")
        self.assertEqual(lines()[0], f'ringmx: rule "rule0" marks mail of {ONE} at mx0: there is no TLS; '
                                     'helo "client.example.test", sender "who@b.example"')

    def test_refusals_end_a_session(self):
        self.start({"tls": "required"}, error_limit=3)
        client = self.client()
        client.command("MAIL FROM:<a@a.example>", 530)
        client.command("MAIL FROM:<a@a.example>", 530)
        client.command("MAIL FROM:<a@a.example>", 421)
        client.expect_close()

    def test_auth_only(self):
        self.start(starttls="required-for-auth")
        client = self.client()
        self.says(client, "AUTH PLAIN AGEAYg==", NEEDS_TLS)
        client.deliver(MESSAGE)
        self.secured().command("AUTH PLAIN AGEAYg==", 502)  # nobody is asked there


class Programs(harness.TestCase):
    def run_(self, *words, status=0):
        got, output, errors = harness.run([harness.RINGMX, *words])
        self.assertEqual(got, status, output + errors)
        return output, errors

    def config(self, **options):
        path = harness.temporary_directory() / "ringmx.toml"
        listener = {"name": "mx", "address": "0.0.0.0:25", **TLS}
        upstream = {"name": "mta", "address": "127.0.0.1:2525"}
        path.write_text(harness.config_text(listeners=[{**listener, **options.pop("listener", {})}],
                                            upstreams=[upstream], **options))
        return path

    def test_check_explains_and_warns(self):
        config = self.config(listener={"starttls": "required"})
        output, _ = self.run_("check", "--config", config)
        self.assertTrue(output.startswith(f'{config}: ok\nlistener "mx" at 0.0.0.0:25:\n  STARTTLS is required.'))
        self.assertIn('\nwarning: listener "mx" is public (0.0.0.0:25), and starttls = "required"', output)
        self.assertIn("RFC 3207 section 4", output)
        output, _ = self.run_("check", "--config", self.config())
        self.assertNotIn("warning", output)

    def test_files_that_are_wrong(self):
        wrong = harness.temporary_directory() / "clients"
        wrong.write_text("192.0.2.0/24\nmx.example.org\n")
        config = self.config(rules=[{"name": "a", "clients_file": str(wrong)}])
        for command in ("check", "run"):
            _, errors = self.run_(command, "--config", config, status=1)
            self.assertIn(f'{wrong}:2:1: rule.clients_file: "mx.example.org" is not a network', errors)

    def test_explain(self):
        config = self.config(rules=[{"name": "partners", "clients": ["192.0.2.0/24"], "tls": "required"}])
        session = ["--listener", "mx", "--mail", "a@a.example", "--rcpt", "b@b.example"]
        output, _ = self.run_("explain", "--config", config, *session, "--client", "192.0.2.1", "--tls", "no")
        self.assertIn('  rule "partners": applies, and there is no TLS\n  => 530 5.7.0 Must', output)
        output, _ = self.run_("explain", "--config", config, *session, "--client", "192.0.2.1", "--tls", "1.2")
        self.assertTrue(output.endswith("DATA\n  no rule decides\n  => allowed\n"), output)
        config = self.config(rules=[{"name": "secret", "recipient_domains": ["conf.example"], "tls": "required"}])
        session = ["--listener", "mx", "--mail", "a@a.example", "--rcpt", "v%conf.example@loc.example"]
        output, _ = self.run_("explain", "--config", config, *session, "--client", "192.0.2.1", "--tls", "no")
        self.assertIn('  rule "secret": may apply, since v%conf.example@loc.example may be read as another domain\'s, '
                      'and there is no TLS\n  => 530 5.7.0 Must', output)
        _, errors = self.run_("explain", "--config", config, *session, "--client", "192.0.2.1", status=2)
        self.assertEqual(errors, "it is not said whether there is TLS; write --tls no, --tls 1.2 or --tls 1.3\n")


class Document(TestCase):
    """The configurations of docs/policy.md, as they stand there but for addresses."""

    def start_from_document(self, name):
        text = (harness.SOURCE_ROOT / "docs" / "policy.md").read_text()
        found = re.search(rf"<!-- a test runs this one: {name} -->\n```toml\n(.*?)```", text, re.DOTALL)
        self.assertTrue(found, name)
        self.sink_ = self.sink()
        folder = harness.temporary_directory()
        for kind in ("pem", "key"):
            shutil.copy(tls_test.CERTIFICATES / f"p256.{kind}", folder / f"mx.{kind}")
        shutil.copy(tls_test.ROOT, folder / "ca.pem")
        address = harness.free_address()
        config = found[1].replace('"0.0.0.0:25"', f'"{address}"').replace('"127.0.0.1:2525"', f'"{self.sink_.address}"')
        config = config.replace('"192.0.2.0/28"', f'"{TWO}"')
        self.assertIn(address, config)
        self.assertIn(self.sink_.address, config)
        (folder / "ringmx.toml").write_text(config + (f'[tls]\nktls = "{harness.KTLS}"\n' if harness.KTLS else ""))
        (folder / "as-it-stands.toml").write_text(found[1])
        process = self.process([harness.RINGMX, "run", "--config", folder / "ringmx.toml"])
        process.wait_for_error_line("ready")
        status, output, _ = harness.run([harness.RINGMX, "check", "--config", folder / "as-it-stands.toml"])
        self.assertEqual(status, 0)
        self.warned = "RFC 3207 section 4" in output

        class Proxy:  # what TestCase.client() asks for
            def address(self):
                return address

            def client(self, **options):
                return harness.Client(address, **options)
        self.proxy = Proxy()

    def test_tls_for_auth_only(self):
        self.start_from_document("auth")
        self.assertFalse(self.warned)
        client = self.client()
        self.assertNotIn("AUTH", client.ehlo())
        self.says(client, "AUTH PLAIN AGEAYg==", NEEDS_TLS)
        client.deliver(MESSAGE)  # on the same socket
        self.secured().deliver(MESSAGE)
        self.assertEqual(len(self.sink_.messages), 2)

    def test_tls_before_mail(self):
        self.start_from_document("mail")
        self.assertTrue(self.warned)
        client = self.client(ONE)
        self.says(client, "MAIL FROM:<a@a.example>", NEEDS_TLS)
        client.send(b"MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
        client.expect(530)
        self.assertEqual(self.sink_.commands, {})  # not a line of it
        self.secured(ONE).deliver(MESSAGE)
        self.client(TWO).deliver(MESSAGE)
        self.assertEqual(len(self.sink_.messages), 2)

    def test_tls_for_some(self):
        self.start_from_document("some")
        self.assertFalse(self.warned)
        client = self.client()
        for sender in ("a@one.example", "a@x.one.example"):
            self.says(client, f"MAIL FROM:<{sender}>", NEEDS_TLS)
        no_certificate = b"550 5.7.1 Mail from two.example comes with its certificate or not at all\r\n"
        self.says(client, "MAIL FROM:<a@two.example>", no_certificate)
        self.says(self.secured(), "MAIL FROM:<a@two.example>", no_certificate)
        partner = self.secured(context=tls_test.client_context(certificate="client"))
        partner.command("MAIL FROM:<a@two.example>", 250)
        client.command("MAIL FROM:<a@three.example>", 250)
        self.says(client, "RCPT TO:<b@confidential.example>", NEEDS_TLS)
        client.command("RCPT TO:<b@open.example>", 250)
        client.command("DATA", 354)
        client.send(MESSAGE + b".\r\n")
        client.expect(250)
        self.assertEqual(self.sink_.messages[0].recipients, [("b@open.example", [])])


if __name__ == "__main__":
    harness.main()
