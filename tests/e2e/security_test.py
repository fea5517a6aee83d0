# SPDX-License-Identifier: GPL-3.0-or-later
"""What attackers send, and what must happen: smuggling, line ends in commands, forbidden octets,
oversized lines, slow and early talkers, chunk confusion, other protocols, exhaustion."""

import contextlib
import re
import resource
import signal
import threading
import time

import harness
from harness import Closed

# SMTP smuggling (CVE-2023-51764, -51765, -51766): what some server takes for the end of data.
ENDS_OF_DATA = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r",
                b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"]
SMUGGLED = (b"MAIL FROM:<smuggled@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nx\r\n")
HEAD = b"Subject: carrier\r\n\r\nbefore"
ENVELOPE = b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n"


def mended(octets):
    """A message without the octets that RFC 5321 2.3.8 forbids: a bare LF becomes CRLF, a bare CR
    and a NUL become a space."""
    return re.sub(rb"\r\n|\r|\n|\0", lambda m: b" " if m[0] in (b"\r", b"\0") else b"\r\n", octets)


def mended_data(octets):
    """What a DATA stream says, mended. Dots are un-stuffed where a line begins, and a line begins
    behind CRLF only. CRLF . LF is a line of one dot, neither stuffed nor the end of data."""
    return mended(re.sub(rb"(?<=\r\n)\.(?!\n)", b"", b"\r\n" + octets)[2:])


def grouped(sessions):
    """The clients of each sequence."""
    groups = {}
    for sequence, client in sessions:
        groups.setdefault(sequence, []).append(client)
    return groups.items()


def every_cut(sequences):
    return {sequence: range(1, len(sequence)) for sequence in sequences}


class Split(harness.TestCase):
    """Byte sequences, each cut in two at every place, each half handled by ringmx on its own."""

    def sessions(self, proxy, listener, preamble, codes, cuts):
        """Opens a session for every cut of every sequence (`cuts`: sequence, places to cut it at),
        and brings it through the preamble. Returns [(sequence, client)], both halves sent."""
        halves = []
        for sequence, places in cuts.items():
            for cut in places:
                client = proxy.client(listener)
                self.addCleanup(client.close)
                client.send(preamble)
                halves.append((sequence, cut, client))
        for _, _, client in halves:
            for code in codes:
                client.expect(code)
        for sequence, cut, client in halves:
            client.send(sequence[:cut])
        self.let_read(proxy, listener)
        for sequence, cut, client in halves:
            client.send(sequence[cut:])
        return [(sequence, client) for sequence, _, client in halves]

    def let_read(self, proxy, listener):
        """Returns when ringmx has taken what was sent to it before. All clients have one address,
        so they are on one reactor, and it serves events in their order."""
        for _ in range(2):
            with proxy.client(listener) as client:
                client.command("NOOP", 250)


class Smuggling(Split):
    def check(self, proxy, listener, sink, framing, refusal=None):
        del sink.messages[:]
        cuts, wanted = {}, {}
        for end in ENDS_OF_DATA:
            for head in (HEAD, b""):  # in the middle, and at the very beginning
                case = head + end + SMUGGLED
                if framing == "DATA":
                    command, sequence = b"DATA\r\n", case + b".\r\n"
                else:
                    command, sequence = b"", b"BDAT %d LAST\r\n" % len(case) + case
                start = sequence.index(end + SMUGGLED)
                cuts[sequence] = range(max(1, start - 2), start + len(end) + 4)
                wanted[sequence] = mended_data(case) if framing == "DATA" else mended(case)
        codes = (250, 250, 250, 354)[:4 if command else 3]
        expected = []
        for sequence, client in self.sessions(proxy, listener, b"EHLO x\r\n" + ENVELOPE + command, codes, cuts):
            reply = client.reply()
            self.assertEqual(reply.code, refusal or 250, (sequence, reply))
            if refusal:
                self.assertIn(b"5.6.11", reply.raw)
            else:
                expected.append(wanted[sequence])
            # Exactly one reply: the next one is the next command's.
            client.command("RSET", 250)
            client.quit()
        self.assertFalse([c for commands in sink.commands.values() for c in commands if b"smuggled" in c])
        self.assertEqual(sink.refused, [])
        self.assertEqual(sorted(m.content for m in sink.messages), sorted(expected))

    def ringmx_for(self, sink, **listener):
        return self.ringmx([sink], listeners=[{"bare_newline": "normalize", "nul": "normalize", **listener},
                                              {"bare_newline": "reject", "nul": "reject", **listener}])

    def test_data(self):
        sink = self.sink(extensions=set(harness.message_sink.EXTENSIONS) - {"CHUNKING"})
        proxy = self.ringmx_for(sink)
        self.check(proxy, 0, sink, "DATA")
        self.check(proxy, 1, sink, "DATA", refusal=550)

    def test_data_to_an_upstream_with_chunking(self):
        sink = self.sink()
        proxy = self.ringmx_for(sink)
        self.check(proxy, 0, sink, "DATA")
        self.check(proxy, 1, sink, "DATA", refusal=550)

    def test_chunks(self):
        sink = self.sink()
        proxy = self.ringmx_for(sink)
        self.check(proxy, 0, sink, "BDAT")
        self.check(proxy, 1, sink, "BDAT", refusal=550)

    def test_chunks_to_an_upstream_without_chunking(self):
        # ringmx offers what it learnt from the upstream's last EHLO: it must lose CHUNKING after that.
        sink = self.sink()
        proxy = self.ringmx([{"address": sink.address, "reuse": False}],
                            listeners=[{"bare_newline": "normalize"}])
        for end in ENDS_OF_DATA:
            case = HEAD + end + SMUGGLED
            for cut in range(len(HEAD) - 1, len(HEAD) + len(end) + 2):
                with self.subTest(end=end, cut=cut), proxy.client() as client:
                    sink.extensions.add("CHUNKING")
                    with proxy.client() as teacher:  # ringmx learns that there is CHUNKING
                        teacher.ehlo()
                        teacher.begin()
                    self.assertIn("CHUNKING", client.ehlo())
                    sink.extensions.remove("CHUNKING")
                    # The line ends cut across chunks, too.
                    client.send(ENVELOPE + b"BDAT %d\r\n" % cut + case[:cut] +
                                b"BDAT %d LAST\r\n" % (len(case) - cut) + case[cut:])
                    for _ in range(4):
                        client.expect(250)
                    client.quit()
                    self.assertEqual(sink.messages[-1].content, mended(case))
        self.assertFalse([c for commands in sink.commands.values() for c in commands if b"smuggled" in c])
        self.assertEqual(sink.refused, [])

    def test_every_octet_its_own_segment(self):
        sink = self.sink()
        proxy = self.ringmx_for(sink)
        for end in ENDS_OF_DATA:
            with proxy.client() as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                client.send_bytewise(HEAD + end + SMUGGLED + b".\r\n")
                client.expect(250)
                client.quit()
                self.assertEqual(sink.messages[-1].content, mended_data(HEAD + end + SMUGGLED))
        self.assertEqual(len(sink.messages), len(ENDS_OF_DATA))

    def test_one_policy_without_the_other(self):
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"bare_newline": "reject"}, {"nul": "reject"}])
        for listener, octets, code in ((0, b"\n", 550), (0, b"\0", 250), (1, b"\n", 250), (1, b"\0", 550)):
            with self.subTest(listener=listener, octets=octets), proxy.client(listener) as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                client.send(b"a" + octets + b"b\r\n.\r\n")
                client.expect(code)
                client.deliver()
        self.assertEqual([message.content for message in sink.messages if message.content[:1] == b"a"],
                         [b"a b\r\n", b"a\r\nb\r\n"])

    def test_counted(self):
        sink = self.sink()
        proxy = self.ringmx_for(sink)
        for listener in (0, 1):
            for octets in (b"\n", b"\r", b"\0"):
                with proxy.client(listener) as client:
                    client.ehlo()
                    client.begin()
                    client.command("DATA", 354)
                    client.send(b"a" + octets + b"b\r\n.\r\n")
                    client.reply()
        metrics = proxy.metrics()
        for kind in ("bare_lf_message", "bare_cr_message", "nul_message"):
            for action in ("normalized", "rejected"):
                self.assertEqual(metrics.total("ringmx_protocol_violations_total", type=kind, action=action), 1)


class Commands(Split):
    def check_one_reply(self, proxy, listener, sequences):
        """sequence: the codes of its replies, and then the session goes on."""
        sessions = self.sessions(proxy, listener, b"EHLO x\r\n", (250,), every_cut(sequences))
        for sequence, clients in grouped(sessions):
            with self.subTest(sequence=sequence):
                for client in clients:
                    for codes in sequences[sequence]:
                        reply = client.reply()
                        self.assertIn(reply.code, codes, reply)
                    client.command("MAIL FROM:<a@example.test>", 250)
                    client.quit()

    def test_bare_line_ends(self):
        proxy = self.ringmx([self.sink()], listeners=[{}, {"bare_lf_in_commands": True}])
        refused = [{500}]
        self.check_one_reply(proxy, 0, {
            b"NOOP\nNOOP\r\n": refused,
            b"NOOP\n\r\n": refused,
            b"NOOP\rNOOP\r\n": refused,
            b"NOOP\r\r\n": refused,
            b"MAIL FROM:<a@b>\rRCPT TO:<c@d>\r\n": refused,
            b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\n": refused,
            b"EHLO x\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\nDATA\n.\nQUIT\r\n": refused,
            b"\nNOOP\r\n": refused,
            b"\rNOOP\r\n": refused,
        })
        # Lenient for LF alone. A bare CR is as bad as ever.
        self.check_one_reply(proxy, 1, {
            b"NOOP\nNOOP\r\n": [{250}, {250}],
            b"VRFY x\nRSET\n": [{252}, {250}],
            b"NOOP\rNOOP\r\n": refused,
            b"NOOP\rNOOP\n": refused,
        })

    def test_forbidden_octets(self):
        proxy = self.ringmx([self.sink()])
        bad = [{500, 501}]
        self.check_one_reply(proxy, 0, {
            b"MAIL FROM:<a\0@b>\r\n": bad,
            b"NOOP\0\r\n": bad,
            b"\0NOOP\r\n": bad,
            b"MAIL FROM:<a\x01@b>\r\n": bad,
            b"MAIL FROM:<a\x7f@b>\r\n": bad,
            b"MAIL FROM:<a\x1b[2J@b>\r\n": bad,
            b"MAIL FROM:<a\tb@c>\r\n": bad,
            b"MAIL FROM:<\xe4@example.test>\r\n": [{553}],
            b"MAIL FROM:<a@\xc3\xa4.test>\r\n": [{553}],
            b"MAIL FROM:<\xff@example.test> SMTPUTF8\r\n": [{501, 553}],
            b"MAIL FROM:<\xc3@example.test> SMTPUTF8\r\n": [{501, 553}],
            b"MAIL FROM:<\xc0\xaf@example.test> SMTPUTF8\r\n": [{501, 553}],  # overlong
            b"MAIL FROM:<\xed\xa0\x80@example.test> SMTPUTF8\r\n": [{501, 553}],  # surrogate
            b"EHLO \xff\r\n": [{500, 501}],
            b"\xff\xfe\r\n": [{500}],
        })

    def test_helo_cannot_smuggle_either(self):
        proxy = self.ringmx([self.sink()])
        with proxy.client() as client:
            client.command(b"EHLO a\0b", 500, 501)
            client.command("EHLO", 501)
            client.command("MAIL FROM:<a@example.test>", 503)

    def test_xclient_is_refused_and_never_forwarded(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        with proxy.client() as client:
            self.assertNotIn("XCLIENT", client.ehlo())
            client.command("XCLIENT ADDR=127.0.0.1", 500, 502, 550)
            client.command("XFORWARD NAME=x", 500, 502, 550)
            client.deliver()
        self.assertFalse([c for commands in sink.commands.values() for c in commands if c[:1] == b"X"])

    def test_too_many_errors_end_the_session(self):
        proxy = self.ringmx([self.sink()], listeners=[{"error_limit": 5, "junk_command_limit": 7}])
        with proxy.client() as client:
            codes = []
            with contextlib.suppress(Closed, ConnectionError):
                for _ in range(20):
                    codes.append(client.command("NONSENSE").code)
            self.assertEqual(codes[-1], 421)
            self.assertLessEqual(len(codes), 6)
        with proxy.client() as client:
            codes = []
            with contextlib.suppress(Closed, ConnectionError):
                for _ in range(20):
                    codes.append(client.command("NOOP").code)
            self.assertEqual(codes[-1], 421)
            self.assertLessEqual(len(codes), 8)


class Lines(harness.TestCase):
    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], server={"receive_memory": "4MiB"})

    def test_commands(self):
        with self.proxy.client() as client:
            client.ehlo()
            for length, code in ((511, 250), (512, 250), (513, 500), (514, 500), (4096, 500), (100_000, 500)):
                with self.subTest(length):
                    client.command(b"NOOP " + b"x" * (length - 7), code)
                    client.command("NOOP", 250)

    def test_extensions_make_room(self):
        """MAIL: SIZE adds 26, 8BITMIME 17, SMTPUTF8 10, DSN at least 108 (RFC 1870, 6152, 6531, 3461)."""
        padding = 512 - len("MAIL FROM:<@example.test>\r\n")
        domain = ".".join(["d" * 60] * 3) + ".test"
        with self.proxy.client() as client:
            client.ehlo()
            envid = "x" * 100
            line = f"MAIL FROM:<{'l' * 64}@{domain}> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID={envid}"
            line += " " * (600 - len(line) - 2)
            self.assertEqual(len(line) + 2, 600)
            client.command(line, 250)
            client.command("RSET", 250)
            client.command("MAIL FROM:<" + "x" * (padding + 4000) + "@example.test>", 500, 501)
            client.deliver()

    def test_a_long_line_is_one_line_however_it_comes(self):
        line = b"NOOP " + b"x" * 4091
        with self.proxy.client() as client:
            client.ehlo()
            client.send_bytewise(line)
            client.command(b"", 500)
            client.send(line)
            self.assertFalse(client.ready_within(0.05), "an answer before the line was over")
            client.command(b"", 500)
            client.command("NOOP", 250)

    def test_auth(self):
        with self.proxy.client() as client:
            client.ehlo()
            for length in (12287, 12288, 12289):
                client.command(b"AUTH PLAIN " + b"x" * (length - 13), 500, 502, 503, 530, 538)
                client.command("NOOP", 250)

    def test_memory_is_bounded(self):
        if harness.sanitized():
            self.skipTest("a sanitizer's memory is not ringmx's")
        before = anonymous_memory(self.proxy.pid)
        with self.proxy.client() as client:
            client.ehlo()
            for _ in range(64):
                client.send(b"x" * (1 << 20))
            client.command(b"", 500)
            client.command("NOOP", 250)
        # The receive buffers (64 of 64 KiB) are used in turn; nothing else may grow with the line. The kernel may
        # round up to huge pages of 2 MiB, at both ends.
        self.assertLess(anonymous_memory(self.proxy.pid) - before, (64 * 64 + 1024 + 2 * 2048) * 1024)

    def test_text_lines(self):
        """Long lines of text are the upstream's business, and pass unharmed."""
        content = b"".join(b"x" * (length - 2) + b"\r\n" for length in (999, 1000, 1001, 1 << 20)) + b"y\r\n"
        with self.proxy.client() as client:
            client.ehlo()
            client.deliver(content)
        self.assertEqual(self.sink_.wait_for(1)[0].content, content)


def anonymous_memory(pid):
    """Octets of anonymous memory that a process holds."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        for line in rollup:
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no Anonymous in smaps_rollup")


class Slow(harness.TestCase):
    """Deadlines that octets do not extend."""

    def drip(self, client, octets, pause=0.1):
        """An octet now and then, until there is an answer; the seconds that took."""
        started = time.monotonic()
        for n in range(len(octets)):
            try:
                client.send(octets[n:n + 1])
            except ConnectionError:
                break
            if client.ready_within(pause * harness.TIMEOUT_SCALE):
                break
        return (time.monotonic() - started) / harness.TIMEOUT_SCALE

    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], listeners=[{
            "command_timeout": harness.duration(1), "data_timeout": harness.duration(1),
            "close_timeout": harness.duration(1), "min_data_rate": 1000}])

    def test_a_command_octet_by_octet(self):
        with self.proxy.client() as client:
            client.ehlo()
            self.assertLess(self.drip(client, b"NOOP " + b"x" * 400), 5)
            client.expect(421)
            client.expect_close()

    def test_nothing_at_all(self):
        with self.proxy.client() as client:
            client.expect(421)
            client.expect_close()

    def test_nothing_in_a_transaction(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.begin()
            client.expect(421)
            client.expect_close()
        with self.proxy.client() as client:  # what it left behind is nobody's
            client.ehlo()
            client.deliver()
        self.assertEqual(len(self.sink_.messages), 1)

    def test_a_message_octet_by_octet(self):
        for command in ("DATA", "BDAT 5000 LAST"):
            with self.subTest(command), self.proxy.client() as client:
                client.ehlo()
                client.begin()
                client.send(command.encode() + b"\r\n")
                if command == "DATA":
                    client.expect(354)
                self.assertLess(self.drip(client, b"x" * 400), 5)
                client.expect(421)
                client.expect_close()
        self.assertEqual(self.sink_.messages, [])

    def test_a_message_that_stops(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            client.send(b"Subject: x\r\n\r\n")
            client.expect(421)
            client.expect_close()
        self.assertEqual(self.sink_.messages, [])

    def test_a_message_fast_enough(self):
        with self.proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            for _ in range(20):  # 2 s in all, twice the timeout; 10 times the rate
                client.send(b"x" * 998 + b"\r\n")
                self.assertFalse(client.ready_within(0.1 * harness.TIMEOUT_SCALE))
            client.send(b".\r\n")
            client.expect(250)

    def test_replies_that_are_never_read(self):
        with self.proxy.client(receive_buffer=2048) as client:
            client.socket.settimeout(0.5 * harness.TIMEOUT_SCALE)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(20_000):
                    client.send(b"EHLO x\r\n" * 500)
            harness.eventually(
                lambda: self.proxy.metrics().total("ringmx_connections_current") == 0, "the session to be closed")

    def test_many_of_them_hurt_nobody(self):
        slow = []
        for n in range(500):
            client = self.proxy.client()
            self.addCleanup(client.close)
            client.send((b"EHL", b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCP", b"EHLO x\r\n" + ENVELOPE + b"DATA\r\nx")[n % 3])
            slow.append(client)
        with self.proxy.client() as client:
            client.ehlo()
            for _ in range(10):
                client.deliver()
            client.quit()
        self.assertEqual(len(self.sink_.messages), 10)
        for client in slow:
            self.assertEqual(client.replies_until_close()[-1].code, 421)


class Early(harness.TestCase):
    def test_before_the_greeting(self):
        proxy = self.ringmx([self.sink()], listeners=[{"greeting_delay": harness.duration(1)}])
        with proxy.client(greeting=False) as client:
            client.send(b"EHLO x\r\n")
            client.expect(554)
            client.expect_close()
        with proxy.client(greeting=False) as client:
            self.assertFalse(client.ready_within(0.2 * harness.TIMEOUT_SCALE), "greeted too early")
            client.expect(220)
            client.ehlo()
            client.quit()

    def test_where_waiting_is_demanded(self):
        """RFC 2920 3.1: EHLO, DATA and the like are last in their group."""
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"forbid_unauth_pipelining": True}])
        cases = [
            b"EHLO x\r\nMAIL FROM:<a@b>\r\n",
            b"EHLO x\r\nNOO",
            b"HELO x\r\nNOOP\r\n",
        ]
        for octets in cases:
            with self.subTest(octets), proxy.client() as client:
                client.send(octets)
                replies = client.replies_until_close()
                self.assertEqual(replies[-1].code, 554, replies)
                self.assertLessEqual(len(replies), 2)
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.send(b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
            replies = client.replies_until_close()
            self.assertEqual(replies[-1].code, 554, replies)
        self.assertEqual(sink.messages, [])
        with proxy.client() as client:  # and what RFC 2920 allows is allowed
            client.ehlo()
            client.send(ENVELOPE + b"DATA\r\n")
            for code in (250, 250, 354):
                client.expect(code)
            client.send(b"x\r\n.\r\nRSET\r\n" + ENVELOPE + b"BDAT 3 LAST\r\nx\r\nQUIT\r\n")
            for code in (250, 250, 250, 250, 250, 221):
                client.expect(code)
        self.assertEqual(len(sink.messages), 2)

    def test_other_protocols(self):
        hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(1, 190))
        proxy = self.ringmx([self.sink()])
        for octets in (b"GET / HTTP/1.1\r\nHost: mx.example.test\r\n\r\n",
                       b"POST / HTTP/1.1\r\nHost: mx.example.test\r\nContent-Length: 52\r\n\r\n"
                       b"EHLO x\r\nMAIL FROM:<smuggled@example.test>\r\nRCPT TO:<v@b>\r\n",
                       b"PUT /x HTTP/1.1\r\nMAIL FROM:<smuggled@example.test>\r\n",
                       b"OPTIONS * RTSP/1.0\r\n\r\n",
                       hello + b"\r\nEHLO x\r\n"):
            with self.subTest(octets[:20]), proxy.client() as client:
                client.send(octets)
                replies = client.replies_until_close()
                self.assertLessEqual(len(replies), 1)
                for reply in replies:
                    self.assertIn(reply.code, (221, 421, 500, 554))


class RefusedData(harness.TestCase):
    """Row 12: the message behind a DATA that was refused is not read as commands, whoever refused it."""

    MESSAGE = (b"hello there\r\nRSET\r\nMAIL FROM:<smuggled@example.test>\r\nRCPT TO:<victim@example.test>\r\n"
               b"DATA\r\nSubject: evil\r\n\r\nx\r\n.\r\nQUIT\r\n")

    def check(self, faults, codes):
        upstream = self.upstream(faults)
        proxy = self.ringmx([upstream])
        with proxy.client() as client:  # in one segment
            client.ehlo()
            client.send(ENVELOPE + b"DATA\r\n" + self.MESSAGE)
            self.assertEqual([reply.code for reply in client.replies_until_close()], codes)
        with proxy.client() as client:  # the message comes when the refusal is on its way
            client.ehlo()
            client.send(ENVELOPE + b"DATA\r\n")
            for code in codes:
                client.expect(code)
            client.send(self.MESSAGE)
            self.assertEqual([reply.code for reply in client.replies_until_close()], [554])
        self.assertEqual(upstream.accepted, [])

    def test_by_the_session(self):
        self.check({"rcpt": lambda connection, usual: connection.send(b"550 5.1.1 No such user\r\n")}, [250, 550, 554])

    def test_by_the_upstream(self):
        self.check({"data": lambda connection, usual: connection.send(b"451 4.3.0 Not now\r\n")}, [250, 250, 451])

    def test_a_client_that_waits_goes_on(self):
        upstream = self.upstream({"data": lambda connection, usual: connection.send(b"451 4.3.0 Not now\r\n")})
        with self.ringmx([upstream]).client() as client:
            client.ehlo()
            client.send(ENVELOPE + b"DATA\r\n")
            for code in (250, 250, 451):
                client.expect(code)
            client.command("RSET", 250)
            client.quit()


class Chunks(Split):
    """Chunk sizes that lie. Exactly the octets announced are consumed, whatever the answer. In
    `check`, None stands for a close."""

    AFTER_RCPT = b"EHLO x\r\n" + ENVELOPE

    def check(self, preamble, codes, sequences):
        sink = self.sink()
        proxy = self.ringmx([sink])
        sessions = self.sessions(proxy, 0, preamble, codes, every_cut(sequences))
        for sequence, clients in grouped(sessions):
            with self.subTest(sequence=sequence):
                for client in clients:
                    for expected in sequences[sequence]:
                        if expected is None:
                            client.expect_close()
                            break
                        reply = client.reply()
                        self.assertIn(reply.code, expected, reply)
                    else:
                        client.command("RSET", 250)
                        client.deliver(b"good\r\n")
                        client.quit()
        self.assertEqual(sink.refused, [])
        self.assertFalse([m for m in sink.messages if m.sender != "sender@example.test"])
        return sink

    def test_with_recipients(self):
        ok, order = {250}, {503}
        # How many octets follow is not known, so nothing that follows may be looked at: it is closed.
        refused = [{501}, None]
        self.check(self.AFTER_RCPT, (250, 250, 250), {
            # The octets announced are one short: the LF is the beginning of the next line.
            b"BDAT 5\r\nRSET\r\nNOOP\r\n": [ok, {500}],
            b"BDAT 6\r\nRSET\r\nNOOP\r\n": [ok, ok],
            b"BDAT 0\r\nBDAT 0\r\nBDAT 0\r\nNOOP\r\n": [ok, ok, ok, ok],
            b"BDAT 0 LAST\r\nNOOP\r\n": [ok, ok],
            b"BDAT 6 LAST x\r\nRSET\r\nNOOP\r\n": [{501}, ok],
            b"BDAT 6 FIRST\r\nQUIT\r\nNOOP\r\n": [{501}, ok],
            b"BDAT 3 last\r\nx\r\nNOOP\r\n": [ok, ok],
            b"BDAT 99999999999999999999\r\nNOOP\r\n": refused,
            b"BDAT 000000000000000000000000003\r\nNOOP\r\n": refused,
            b"BDAT 18446744073709551616\r\nNOOP\r\n": refused,
            b"BDAT -1\r\nNOOP\r\n": refused,
            b"BDAT +1\r\nNOOP\r\n": refused,
            b"BDAT 0x10\r\nNOOP\r\n": refused,
            b"BDAT\r\nNOOP\r\n": refused,
            b"BDAT LAST\r\nNOOP\r\n": refused,
            b"BDAT 6\r\nRSET\r\nDATA\r\n": [ok, order],
            b"BDAT 6\r\nRSET\r\nMAIL FROM:<x@example.test>\r\nNOOP\r\n": [ok, order, ok],
            b"BDAT 6\r\nRSET\r\nRCPT TO:<x@example.test>\r\nNOOP\r\n": [ok, order, ok],
            b"BDAT 6 LAST\r\nRSET\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n": [ok, order, ok],
        })

    def test_without_recipients(self):
        order, ok = {503, 554}, {250}
        self.check(b"EHLO x\r\n", (250,), {
            b"BDAT 6\r\nRSET\r\nNOOP\r\n": [order, ok],
            b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n": [order, ok],
            b"BDAT 0\r\nNOOP\r\n": [order, ok],
            b"MAIL FROM:<a@example.test>\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n": [ok, order, ok],
        })

    def test_a_huge_chunk_is_refused_before_it_is_there(self):
        """Larger than any message may be: refused for its announcement, its octets are dropped."""
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"message_size_limit": 1000}])
        with proxy.client() as client:
            client.send(self.AFTER_RCPT)
            for code in (250, 250, 250):
                client.expect(code)
            client.send(b"BDAT 9223372036854775807 LAST\r\n" + b"RSET\r\n" * 1000)
            client.half_close()
            replies = client.replies_until_close()
            self.assertLessEqual([reply.code for reply in replies], [552])
        self.assertEqual(sink.messages, [])


class Exhaustion(harness.TestCase):
    """Descriptors, sessions and buffers run out: whoever is there is served, newcomers are told or
    wait, and when there is room again all is as before."""

    def served(self, clients):
        for client in clients:
            client.command("NOOP", 250)

    def fill(self, proxy, most):
        """Connects until nobody is greeted any more; those who were."""
        served = []
        for _ in range(most):
            client = proxy.client(greeting=False)
            self.addCleanup(client.close)
            if not client.ready_within(0.5 * harness.TIMEOUT_SCALE):
                client.close()  # not accepted
                break
            try:
                if client.reply().code != 220:
                    client.close()  # told to come again
                    break
            except Closed:
                client.close()
                break
            served.append(client)
        else:
            raise AssertionError(f"{most} sessions, and still more")
        return served

    def recovers(self, proxy):
        def delivers():
            try:
                with proxy.client() as client:
                    client.ehlo()
                    client.deliver()
                    return True
            except (AssertionError, ConnectionError):
                return False
        harness.eventually(delivers, "ringmx to recover")

    def test_more_connections_than_descriptors(self):
        sink = self.sink()
        proxy = self.ringmx([sink], before_exec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)))
        served = self.fill(proxy, 400)
        self.assertGreater(len(served), 50)
        self.served(served)
        served[0].ehlo()
        # There is no descriptor for an upstream, or there is: an answer there must be.
        served[0].command("MAIL FROM:<a@example.test>", 250)
        served[0].command("RCPT TO:<b@example.test>", 250, 451)
        served[0].command("RSET", 250)
        for client in served[5:]:
            client.close()
        self.recovers(proxy)
        self.served(served[:5])

    def test_descriptors_run_out_again_and_again(self):
        sink = self.sink()
        proxy = self.ringmx([sink], before_exec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
        for _ in range(5):
            for client in self.fill(proxy, 300):
                client.close()
            self.recovers(proxy)

    def test_more_sessions_than_allowed(self):
        sink = self.sink()
        proxy = self.ringmx([sink], server={"max_sessions": 20})
        served = [proxy.client() for _ in range(20)]
        for client in served:
            self.addCleanup(client.close)
        for _ in range(10):
            with proxy.client(greeting=False) as client:
                client.expect(421)
                client.expect_close()
        self.served(served)
        served[0].ehlo()
        served[0].deliver()
        self.assertEqual(proxy.metrics().total("ringmx_connections_rejected_total", reason="session_limit"), 10)
        for client in served[1:]:
            client.close()
        self.recovers(proxy)
        self.served(served[:1])

    def test_every_buffer_is_held(self):
        """More senders than buffers, each with an upstream that does not read: all buffers end up
        waiting for it. Sessions that send a command still get their answer when it reads again."""
        reads = threading.Event()
        self.addCleanup(reads.set)
        upstream = self.upstream({"body": lambda connection, _: reads.wait(60 * harness.TIMEOUT_SCALE)},
                                 receive_buffer=16384)
        sink = self.sink()
        proxy = self.ringmx(
            [{"name": "stuck", "address": upstream.address}, {"name": "good", "address": sink.address}],
            listeners=[{"upstreams": ["stuck"]}, {"upstreams": ["good"]}],
            server={"receive_memory": "1MiB", "session_memory": "64KiB"})
        block = b"x" * 998 + b"\r\n"
        sent = []
        for _ in range(8):
            client = proxy.client()
            self.addCleanup(client.close)
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            sent.append((client, 0))
        for n, (client, count) in enumerate(sent):
            # Until the way is full: sockets, buffers, sockets.
            client.socket.settimeout(0.2 * harness.TIMEOUT_SCALE)
            with contextlib.suppress(TimeoutError):
                while count < 40_000:
                    position = 0
                    while position < len(block):
                        position += client.socket.send(block[position:])
                    count += 1
            sent[n] = (client, count, block[position:] if position < len(block) else b"")
            client.socket.settimeout(harness.PATIENCE)
        reads.set()
        for client, _, rest in sent:
            client.send(rest + b".\r\n")
        for client, _, _ in sent:
            client.expect(250, seconds=60)
        self.assertEqual(sorted(len(content) for content in upstream.accepted),
                         sorted((count + bool(rest)) * len(block) for _, count, rest in sent))
        with proxy.client(1) as client:
            client.ehlo()
            client.deliver()
            client.quit()
        self.assertEqual(len(sink.messages), 1)

    def test_one_stuck_upstream_does_not_stop_the_others(self):
        """A session that waits holds session_memory and no more: the rest serve everybody else.
        Several times, since how much a receive brings at once is the kernel's choice."""
        for _ in range(8):
            self.check_one_stuck_upstream()

    def check_one_stuck_upstream(self):
        reads = threading.Event()
        self.addCleanup(reads.set)
        upstream = self.upstream({"body": lambda connection, _: reads.wait(60 * harness.TIMEOUT_SCALE)},
                                 receive_buffer=16384)
        sink = self.sink()
        proxy = self.ringmx(
            [{"name": "stuck", "address": upstream.address}, {"name": "good", "address": sink.address}],
            listeners=[{"upstreams": ["stuck"]}, {"upstreams": ["good"]}],
            server={"receive_memory": "1MiB", "session_memory": "64KiB"})
        with proxy.client() as stuck, proxy.client(1) as client:
            stuck.ehlo()
            stuck.begin()
            stuck.command("DATA", 354)
            # ringmx finds a lot at once, more than all its buffers hold, and gets more all the time.
            proxy.signal(signal.SIGSTOP)
            stuck.socket.settimeout(0.2 * harness.TIMEOUT_SCALE)
            with contextlib.suppress(TimeoutError):
                for n in range(500):
                    if n == 8:
                        proxy.signal(signal.SIGCONT)
                    stuck.send(b"x" * 65536)
            proxy.signal(signal.SIGCONT)
            try:
                client.ehlo()
                for _ in range(20):
                    client.deliver(b"x" * 100_000 + b"\r\n")
            finally:
                reads.set()
            client.quit()
        self.assertEqual(len(sink.messages), 20)


if __name__ == "__main__":
    harness.main()
