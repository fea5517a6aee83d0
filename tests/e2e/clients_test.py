# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of every kind: what they send, and however they cut it, arrives as they meant it."""

import itertools
import select
import smtplib
import threading

import harness
from harness import stuffed

CONTENT = (b"From: <sender@example.test>\r\nSubject: dots\r\n\r\n"
           b".\r\n..\r\n...\r\n.leading\r\n\r\n\r\n" + b"x" * 998 + b"\r\n\xe4\xf6\xfc\r\n. \r\n")

SESSION = (b"EHLO client.example.test\r\nMAIL FROM:<sender@example.test>\r\nRCPT TO:<one@example.test>\r\n"
           b"RCPT TO:<two@example.test>\r\nDATA\r\n")
SESSION_CODES = [220, 250, 250, 250, 250, 354]


def codes(replies):
    return [reply.code for reply in replies]


class Segments(harness.TestCase):
    """The same bytes, cut differently."""

    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_])

    def check(self, count=1):
        for message in self.sink_.wait_for(count):
            self.assertEqual(message.content, CONTENT)
            self.assertEqual(message.sender, "sender@example.test")
            self.assertEqual(message.recipients, [("one@example.test", []), ("two@example.test", [])])
        self.assertEqual(len(self.sink_.messages), count)
        self.assertEqual(self.sink_.refused, [])

    def test_one_octet_per_segment(self):
        with self.proxy.client() as client:
            client.send_bytewise(SESSION)
            for code in SESSION_CODES[1:]:
                client.expect(code)
            client.send_bytewise(stuffed(CONTENT) + b".\r\n")
            client.expect(250)
            client.send_bytewise(b"QUIT\r\n")
            client.expect(221)
            client.expect_close()
        self.check()

    def test_everything_in_one_segment(self):
        with self.proxy.client(greeting=False) as client:
            client.send(SESSION + stuffed(CONTENT) + b".\r\nQUIT\r\n")
            self.assertEqual(codes(client.replies_until_close()), SESSION_CODES + [250, 221])
        self.check()

    def test_everything_in_one_segment_and_half_close(self):
        with self.proxy.client(greeting=False) as client:
            client.send(SESSION + stuffed(CONTENT) + b".\r\nQUIT\r\n")
            client.half_close()
            self.assertEqual(codes(client.replies_until_close()), SESSION_CODES + [250, 221])
        self.check()

    def test_half_close_instead_of_quit(self):
        with self.proxy.client(greeting=False) as client:
            client.send(SESSION + stuffed(CONTENT) + b".\r\n")
            client.half_close()
            self.assertEqual(codes(client.replies_until_close()), SESSION_CODES + [250])
        self.check()

    def test_quit_and_half_close_at_once(self):
        """The end of the client's side comes with QUIT, before 221 has left."""
        for _ in range(20):
            with self.proxy.client() as client:
                client.send(b"NOOP\r\nQUIT\r\n")
                client.half_close()
                self.assertEqual([reply.code for reply in client.replies_until_close()], [250, 221])

    def test_several_transactions_in_one_segment(self):
        transaction = SESSION.partition(b"\r\n")[2] + stuffed(CONTENT) + b".\r\n"
        with self.proxy.client(greeting=False) as client:
            client.send(b"EHLO client.example.test\r\n" + 5 * transaction + b"QUIT\r\n")
            self.assertEqual(codes(client.replies_until_close()), [220, 250] + 5 * [250, 250, 250, 354, 250] + [221])
        self.check(5)

    def test_chunks_pipelined_in_one_segment(self):
        with self.proxy.client(greeting=False) as client:
            half = len(CONTENT) // 2
            client.send(SESSION.replace(b"DATA\r\n", b"BDAT %d\r\n" % half) + CONTENT[:half] +
                        b"BDAT %d LAST\r\n" % (len(CONTENT) - half) + CONTENT[half:] + b"QUIT\r\n")
            self.assertEqual(codes(client.replies_until_close()), [220] + 6 * [250] + [221])
        self.check()

    def test_half_a_message_is_no_message(self):
        for end in (lambda c: c.half_close(), lambda c: c.reset(), lambda c: c.close()):
            with self.proxy.client() as client:
                client.send(SESSION)
                for code in SESSION_CODES[1:]:
                    client.expect(code)
                client.send(stuffed(CONTENT))
                end(client)
        harness.eventually(
            lambda: self.proxy.metrics().total("ringmx_messages_total", result="aborted") == 3,
            "three aborted messages")
        self.assertEqual((self.sink_.messages, self.sink_.refused), ([], []))


class Programs(harness.TestCase):
    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_])

    def test_swaks_pipelining(self):
        host, _, port = self.proxy.address().rpartition(":")
        status, output, errors = harness.run(
            [harness.program("swaks"), "--server", host, "--port", port, "--pipeline", "--from",
             "sender@example.test", "--to", "one@example.test,two@example.test", "--data",
             "Subject: swaks\\n\\n.dot\\n..\\n.\\nend"])
        self.assertEqual(status, 0, output + errors)
        message, = self.sink_.wait_for(1)
        self.assertEqual([address for address, _ in message.recipients], ["one@example.test", "two@example.test"])
        self.assertTrue(message.content.startswith(b"Subject: swaks\r\n\r\n.dot\r\n..\r\n.\r\nend\r\n"),
                        message.content)

    def test_swaks_without_pipelining(self):
        host, _, port = self.proxy.address().rpartition(":")
        status, output, errors = harness.run(
            [harness.program("swaks"), "--server", host, "--port", port, "--from", "sender@example.test", "--to",
             "recipient@example.test"])
        self.assertEqual(status, 0, output + errors)
        self.sink_.wait_for(1)

    def test_curl(self):
        mail = harness.temporary_directory() / "mail"
        mail.write_bytes(CONTENT)
        status, _, errors = harness.run(
            [harness.program("curl"), "--silent", "--show-error", f"smtp://{self.proxy.address()}", "--mail-from",
             "sender@example.test", "--mail-rcpt", "recipient@example.test", "--upload-file", mail])
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(self.sink_.wait_for(1)[0].content, CONTENT)

    def test_smtplib(self):
        host, _, port = self.proxy.address().rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=harness.PATIENCE) as client:
            for _ in range(3):
                self.assertEqual(client.sendmail("sender@example.test", ["one@example.test", "two@example.test"],
                                                 CONTENT, mail_options=["BODY=8BITMIME"]), {})
        messages = self.sink_.wait_for(3)
        self.assertEqual({message.content for message in messages}, {CONTENT})
        for message in messages:
            self.assertIn("BODY=8BITMIME", message.sender_parameters)


class Commands(harness.TestCase):
    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_])

    def test_the_greeting_and_helo_name_this_host(self):
        with self.proxy.client(greeting=False) as client:
            self.assertEqual(client.expect(220).lines, ["mx.example.test ESMTP"])
            self.assertEqual(client.command("HELO x", 250).lines[0].split()[0], "mx.example.test")
            self.assertEqual(client.command("EHLO x", 250).lines[0].split()[0], "mx.example.test")

    def test_noop_vrfy_help_rset(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.command("NOOP", 250)
            client.command("NOOP with an argument", 250)
            client.command("nOoP", 250)
            client.command("VRFY somebody", 252)
            client.command("HELP", 211, 214)
            client.command("RSET", 250)
            client.command("EXPN list", 252, 502)
            client.command("NONSENSE", 500)
            client.command("", 500)
            client.deliver()
            client.quit()
        # None of it was the upstream's business.
        verbs = [command.split(b" ")[0] for command in self.sink_.commands[1]]
        self.assertEqual([verb for verb in verbs if verb not in (b"EHLO", b"RSET", b"NOOP")],
                         [b"MAIL", b"RCPT", b"DATA"])

    def test_order(self):
        with self.proxy.client() as client:
            client.command("MAIL FROM:<a@example.test>", 503)
            client.ehlo()
            client.command("RCPT TO:<a@example.test>", 503)
            client.command("DATA", 503)
            client.command("MAIL FROM:<a@example.test>", 250)
            client.command("MAIL FROM:<b@example.test>", 503)
            client.command("DATA", 503, 554)
            client.command("RCPT TO:<b@example.test>", 250)
            client.command("RSET", 250)
            client.command("DATA", 503)
            client.deliver()
            client.begin()
            client.ehlo()  # implies RSET (RFC 5321 4.1.4)
            client.command("DATA", 503)
            client.deliver()
        self.assertEqual(len(self.sink_.messages), 2)

    def test_helo_session(self):
        with self.proxy.client() as client:
            client.command("HELO client.example.test", 250)
            client.deliver(CONTENT)
            client.quit()
        self.assertEqual(self.sink_.wait_for(1)[0].content, CONTENT)

    def test_null_sender_postmaster_and_quoted_addresses(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<>", 250)
            for address in ("Postmaster", '"a b>c"@example.test', "a@[127.0.0.1]", "a+b=c@example.test"):
                client.command(f"RCPT TO:<{address}>", 250)
            client.command("DATA", 354)
            client.send(b".\r\n")
            client.expect(250)
        message = self.sink_.wait_for(1)[0]
        self.assertEqual(message.sender, "")
        self.assertEqual([address for address, _ in message.recipients],
                         ["Postmaster", '"a b>c"@example.test', "a@[127.0.0.1]", "a+b=c@example.test"])
        self.assertEqual(message.content, b"")

    def test_several_transactions(self):
        with self.proxy.client() as client:
            client.ehlo()
            for n in range(20):
                client.deliver(b"%d\r\n" % n, sender=f"sender{n}@example.test")
            client.quit()
        self.assertEqual([(message.sender, message.content) for message in self.sink_.messages],
                         [(f"sender{n}@example.test", b"%d\r\n" % n) for n in range(20)])

    def test_many_recipients_pipelined(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\n" +
                        b"".join(b"RCPT TO:<r%d@example.test>\r\n" % n for n in range(500)) + b"DATA\r\n")
            for _ in range(501):
                client.expect(250)
            client.expect(354)
            client.send(b".\r\n")
            client.expect(250)
        self.assertEqual([address for address, _ in self.sink_.wait_for(1)[0].recipients],
                         [f"r{n}@example.test" for n in range(500)])


class Replies(harness.TestCase):
    def test_the_upstreams_replies_come_back_as_they_are(self):
        replies = {
            "rcpt": b"250-2.1.5 first\r\n250-2.1.5 second\r\n250 2.1.5 third\r\n",
            "data": b"354-one\r\n354 two\r\n",
            "message": b"250-2.6.0 stored\r\n250 2.6.0 as 4711\r\n",
        }
        upstream = self.upstream({stage: harness.says(octets) for stage, octets in replies.items()})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            self.assertEqual(client.command("RCPT TO:<recipient@example.test>").raw, replies["rcpt"])
            self.assertEqual(client.command("DATA").raw, replies["data"])
            client.send(b"x\r\n.\r\n")
            self.assertEqual(client.reply().raw, replies["message"])
            client.quit()
        self.assertEqual(upstream.accepted, [b"x\r\n"])

    def test_some_recipients_refused(self):
        def rcpt(connection, usual):
            if b"bad" in connection.commands[-1]:
                usual = b"550 5.1.1 No such user\r\n"
            elif b"later" in connection.commands[-1]:
                usual = b"450 4.2.0 Greylisted\r\n"
            connection.send(usual)
        upstream = self.upstream({"rcpt": rcpt})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<bad@example.test>\r\nRCPT TO:<good@example.test>"
                        b"\r\nRCPT TO:<later@example.test>\r\nRCPT TO:<fine@example.test>\r\nDATA\r\n")
            for code in (250, 550, 250, 450, 250, 354):
                client.expect(code)
            client.send(b"x\r\n.\r\n")
            client.expect(250)
            # All refused: no message can follow, and the session goes on.
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<bad@example.test>", 550)
            client.command("DATA", 503, 554)
            client.command("RSET", 250)
            client.deliver()
            client.quit()
        self.assertEqual(len(upstream.accepted), 2)

    def test_too_many_are_refused(self):
        """Whoever guesses addresses gets no further than by what ringmx refuses itself."""
        for stage, pipelined in itertools.product(("rcpt", "mail"), (False, True)):
            upstream = self.upstream({stage: harness.says(b"550 5.1.1 No\r\n")})
            proxy = self.ringmx([upstream], listeners=[{"error_limit": 7}])
            with self.subTest(stage, pipelined=pipelined), proxy.client() as client:
                client.ehlo()
                client.command("MAIL FROM:<sender@example.test>", 250)
                guesses = [b"RCPT TO:<%d@example.test>\r\n" % n for n in range(20)]
                if pipelined:
                    client.send(b"".join(guesses))
                for guess in guesses[:7]:
                    if not pipelined:
                        client.send(guess)
                    client.expect(550 if guess != guesses[6] else 421)
                client.expect_close()
                self.assertEqual(proxy.metrics().total("ringmx_connections_closed_total", reason="errors"), 1)

    def test_a_message_makes_up_for_refusals(self):
        upstream = self.upstream()
        proxy = self.ringmx([upstream], listeners=[{"error_limit": 3}])
        with proxy.client() as client:
            client.ehlo()
            for _ in range(4):
                upstream.faults["rcpt"] = harness.says(b"550 5.1.1 No\r\n")
                client.command("MAIL FROM:<sender@example.test>", 250)
                for _ in range(2):
                    client.command("RCPT TO:<nobody@example.test>", 550)
                upstream.faults.clear()
                client.command("RCPT TO:<recipient@example.test>", 250)
                client.command("DATA", 354)
                client.send(b"x\r\n.\r\n")
                client.expect(250)
            client.quit()

    def test_sender_refused(self):
        upstream = self.upstream({"mail": harness.says(b"550 5.7.1 Not you\r\n")})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)  # ringmx's own word
            self.assertEqual(client.command("RCPT TO:<recipient@example.test>").code, 550)
            client.command("DATA", 503, 554)
            client.command("RSET", 250)
            upstream.faults.clear()
            client.deliver()
            client.quit()
        self.assertEqual(len(upstream.accepted), 1)

    def test_message_refused(self):
        for refusal in (b"554 5.7.1 Spam\r\n", b"452 4.3.1 Full\r\n"):
            upstream = self.upstream({"message": harness.says(refusal)})
            proxy = self.ringmx([upstream])
            with proxy.client() as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                client.send(b"x\r\n.\r\n")
                self.assertEqual(client.reply().raw, refusal)
                upstream.faults.clear()
                client.deliver()
            self.assertEqual(len(upstream.accepted), 1)


class Extensions(harness.TestCase):
    ALL = set(harness.message_sink.EXTENSIONS)

    def offered(self, proxy, listener=0):
        """What EHLO offers once the upstream is known."""
        with proxy.client(listener) as client:
            client.ehlo()
            client.begin()
            client.command("RSET", 250)
            return client.ehlo()

    def test_before_an_upstream_is_known_the_configured_list_is_offered(self):
        proxy = self.ringmx([harness.free_address()],
                            listeners=[{}, {"extensions": ["PIPELINING", "8BITMIME"]}])
        with proxy.client(0) as client:
            self.assertEqual(set(client.ehlo()), self.ALL)
        with proxy.client(1) as client:
            self.assertEqual(set(client.ehlo()), {"PIPELINING", "8BITMIME"})

    def test_each_extension_that_the_upstream_lacks_is_not_offered(self):
        sinks = {left_out: self.sink(extensions=self.ALL - {left_out}) for left_out in sorted(self.ALL)}
        sinks["nothing"] = self.sink(extensions=self.ALL)
        names = [f"up{n}" for n in range(len(sinks))]
        proxy = self.ringmx([{"address": sink.address, "name": name} for sink, name in zip(sinks.values(), names)],
                            listeners=[{"upstreams": [name]} for name in names])
        # ringmx does these by itself, whatever the upstream can: it answers MAIL, splits what was
        # pipelined, turns chunks into DATA, and has enhanced codes of its own.
        own = {"PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE"}
        for n, left_out in enumerate(sinks):
            with self.subTest(left_out=left_out):
                offered = set(self.offered(proxy, n))
                self.assertEqual(offered - own, self.ALL - own - {left_out})
                self.assertLessEqual(offered, self.ALL)

    def test_the_intersection_of_several_upstreams(self):
        upstreams = [self.sink(extensions=self.ALL - {"DSN"}), self.sink(extensions=self.ALL - {"SMTPUTF8"})]
        proxy = self.ringmx(upstreams)
        for _ in range(2):  # round robin: both are known then
            self.offered(proxy)
        offered = set(self.offered(proxy))
        self.assertFalse(offered & {"DSN", "SMTPUTF8"}, offered)
        self.assertIn("8BITMIME", offered)

    def test_what_the_upstream_offers_is_learnt_anew_on_reconnect(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        both = {"DSN", "8BITMIME"}
        self.assertLessEqual(both, set(self.offered(proxy)))
        for now in (self.ALL - {"DSN"}, self.ALL - {"8BITMIME"}, self.ALL):
            sink.extensions = set(now)
            sink.drop_connections()
            self.assertEqual(set(self.offered(proxy)) & both, now & both)

    def test_mail_and_rcpt_leave_in_one_write_if_the_upstream_has_pipelining(self):
        for pipelining in (True, False):
            there = []  # with MAIL, in the same segment or before its answer

            def at_mail(connection, usual, pipelining=pipelining, there=there):
                if not pipelining and select.select([connection.socket], [], [], 0.1 * harness.TIMEOUT_SCALE)[0]:
                    connection.receive()
                there.append(connection.input)
                connection.send(usual)

            upstream = self.upstream({"mail": at_mail}, extensions=["PIPELINING"] if pipelining else ["8BITMIME"])
            proxy = self.ringmx([upstream])
            with self.subTest(pipelining=pipelining), proxy.client() as client:
                client.ehlo()
                for _ in range(3):  # on a new connection, and on one that is used again
                    client.deliver()
                client.quit()
                rcpt = b"RCPT TO:<recipient@example.test>\r\n" if pipelining else b""
                self.assertEqual(there, [rcpt] * 3)

    def test_what_is_not_offered_is_not_accepted(self):
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"extensions": ["PIPELINING"]}])
        with proxy.client() as client:
            client.ehlo()
            for parameter in ("SIZE=10", "BODY=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=x", "NONSENSE=1"):
                with self.subTest(parameter):
                    client.command(f"MAIL FROM:<a@example.test> {parameter}", 555, 504)
            client.command("MAIL FROM:<a@example.test>", 250)
            client.command("RCPT TO:<a@example.test> NOTIFY=NEVER", 555, 504)
            client.command("RCPT TO:<a@example.test>", 250)

    def test_parameters_pass_untouched(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<jürgen@exämple.test> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=QQ+2B314 SIZE=2",
                           250)
            client.command("RCPT TO:<δοκιμή@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@example.test", 250)
            client.command("RCPT TO:<b@example.test> NOTIFY=NEVER", 250)
            client.command("DATA", 354)
            client.send("ü\r\n.\r\n".encode())
            client.expect(250)
        message, = sink.wait_for(1)
        self.assertEqual(message.sender, "jürgen@exämple.test")
        self.assertEqual(message.sender_parameters,
                         ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=QQ+2B314", "SIZE=2"])
        self.assertEqual(message.recipients,
                         [("δοκιμή@example.test", ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;a+2Bb@example.test"]),
                          ("b@example.test", ["NOTIFY=NEVER"])])
        self.assertEqual(message.content, "ü\r\n".encode())


class Size(harness.TestCase):
    LIMIT = 100_000

    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], listeners=[{"message_size_limit": self.LIMIT}])

    def test_offered(self):
        with self.proxy.client() as client:
            self.assertEqual(client.ehlo()["SIZE"], [str(self.LIMIT)])

    def test_the_smaller_limit_is_offered(self):
        small = self.sink(size_limit=5000)
        proxy = self.ringmx([small], listeners=[{"message_size_limit": self.LIMIT}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver()
            self.assertEqual(client.ehlo()["SIZE"], ["5000"])

    def test_refused_at_mail(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.command(f"MAIL FROM:<a@example.test> SIZE={self.LIMIT + 1}", 552)
            client.command("MAIL FROM:<a@example.test> SIZE=x", 501)
            client.command(f"MAIL FROM:<a@example.test> SIZE={self.LIMIT}", 250)
            client.command("RCPT TO:<a@example.test>", 250)

    def test_exactly_the_limit_passes_one_octet_more_does_not(self):
        # Counted as RFC 1870 says: dots un-stuffed.
        line = b"." * 98 + b"\r\n"
        content = line * (self.LIMIT // 100)
        with self.proxy.client() as client:
            client.ehlo()
            client.deliver(content)
            client.begin()
            client.command("DATA", 354)
            client.send(stuffed(b"x" + content) + b".\r\n")
            client.expect(552)
            client.deliver()
        self.assertEqual([len(message.content) for message in self.sink_.messages][0], self.LIMIT)
        self.assertEqual(len(self.sink_.messages), 2)

    def test_stopped_while_streaming(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            for _ in range(50):
                client.send(b"x" * 65534 + b"\r\n")
            client.send(b".\r\n")
            client.expect(552)
            client.deliver()
            client.quit()
        self.assertEqual(len(self.sink_.messages), 1)
        self.assertLess(self.proxy.metrics().total("ringmx_bytes_sent_total", side="upstream"), 20 * self.LIMIT)

    def test_stopped_while_streaming_chunks(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.begin()
            chunk = b"x" * (self.LIMIT // 2)
            client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            client.expect(250)
            client.send(b"BDAT %d\r\n" % (3 * len(chunk)) + 3 * chunk)
            client.expect(552)
            client.command("RSET", 250)
            client.deliver()
            client.quit()
        self.assertEqual(len(self.sink_.messages), 1)


class Recipients(harness.TestCase):
    def test_the_limit(self):
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"recipient_limit": 3}])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<a@example.test>", 250)
            for n in range(3):
                client.command(f"RCPT TO:<r{n}@example.test>", 250)
            client.command("RCPT TO:<r3@example.test>", 452)
            client.command("DATA", 354)
            client.send(b".\r\n")
            client.expect(250)
        self.assertEqual(len(sink.wait_for(1)[0].recipients), 3)


class Chunking(harness.TestCase):
    """BDAT, to an upstream that has CHUNKING and to one that hasn't.

    ringmx offers what it learnt from the upstream's last EHLO, so the one that hasn't is one that
    had it then: every session gets a connection of its own, and the sink changes its mind in
    between."""

    MESSAGES = [
        [b"x\r\n"],
        [b""],
        [b"", b"", b""],
        [b"x\r\n.\r\ny\r\n"],
        [b".\r\n"],
        [b"..\r\n", b".", b"\r\n"],
        [b"x\r", b"\n.\r", b"\n.", b"\r\n"],
        [b"x\r\n", b".", b"\r", b"\n", b"MAIL FROM:<smuggled@example.test>\r\n"],
        [b"x\r\n", b""],
        [b"RSET\r\n", b"QUIT\r\n"],
        [b"no line end"],
        [b"ends with CR LF in two\r", b"\n"],
        [bytes([n]) for n in CONTENT],
        [b"x" * 300_000 + b"\r\n", b".y\r\n" * 20_000],
    ]

    def send(self, client, chunks, pipelined):
        client.begin()
        if pipelined:
            client.send(b"".join(self.chunk(chunks, n) for n in range(len(chunks))))
        for n in range(len(chunks)):
            if not pipelined:
                client.send(self.chunk(chunks, n))
            client.expect(250)

    @staticmethod
    def chunk(chunks, n):
        return b"BDAT %d%s\r\n" % (len(chunks[n]), b" LAST" if n + 1 == len(chunks) else b"") + chunks[n]

    def check(self, upstream_has_it):
        sink = self.sink()
        proxy = self.ringmx([{"address": sink.address, "reuse": False}])
        expected = []
        for chunks in self.MESSAGES:
            for pipelined in (False, True):
                with self.subTest(chunks=chunks[:10], pipelined=pipelined), proxy.client() as client:
                    sink.extensions.add("CHUNKING")
                    with proxy.client() as teacher:
                        teacher.ehlo()
                        teacher.begin()
                    self.assertIn("CHUNKING", client.ehlo())
                    if not upstream_has_it:
                        sink.extensions.remove("CHUNKING")
                    self.send(client, chunks, pipelined)
                    client.quit()
                    content = b"".join(chunks)
                    if not upstream_has_it and content and not content.endswith(b"\r\n"):
                        content += b"\r\n"
                    expected.append(content)
                    self.assertEqual(sink.messages[-1].content, content)
                    self.assertEqual(sink.messages[-1].framing, "BDAT" if upstream_has_it else "DATA")
        self.assertEqual([message.content for message in sink.messages], expected)
        self.assertEqual(sink.refused, [])

    def test_to_an_upstream_that_has_chunking(self):
        self.check(upstream_has_it=True)

    def test_to_an_upstream_that_has_not(self):
        self.check(upstream_has_it=False)

    def test_an_upstream_that_takes_its_time_for_a_chunk(self):
        """It is not the client that is slow, nor is a client that thinks between two chunks."""
        calm = threading.Event()

        def slow(connection, usual):
            calm.wait(1.5 * harness.TIMEOUT_SCALE)
            connection.send(usual)

        upstream = self.upstream({"bdat": slow}, extensions=("PIPELINING", "8BITMIME", "CHUNKING"))
        proxy = self.ringmx([upstream], listeners=[{"data_timeout": harness.duration(1), "min_data_rate": "1MiB"}])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.send(b"BDAT 100\r\n" + b"x" * 98 + b"\r\n")
            client.expect(250)
            upstream.faults.clear()
            calm.wait(1.2 * harness.TIMEOUT_SCALE)
            client.send(b"BDAT 100 LAST\r\n" + b"x" * 50)
            calm.wait(0.3 * harness.TIMEOUT_SCALE)
            client.send(b"x" * 48 + b"\r\n")
            client.expect(250)
            client.quit()
        self.assertEqual(upstream.accepted, [2 * (b"x" * 98 + b"\r\n")])

    def test_the_next_transaction_after_chunks(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        with proxy.client() as client:
            client.ehlo()
            for n in range(5):
                client.begin()
                client.send(b"BDAT 3 LAST\r\n%d\r\n" % n)
                client.expect(250)
                client.deliver()
            # Given up in the middle: nothing of it remains.
            client.begin()
            client.send(b"BDAT 3\r\nabc")
            client.expect(250)
            client.command("RSET", 250)
            client.deliver(b"last\r\n")
            client.quit()
        self.assertEqual(len(sink.messages), 11)
        self.assertEqual(sink.messages[-1].content, b"last\r\n")


if __name__ == "__main__":
    harness.main()
