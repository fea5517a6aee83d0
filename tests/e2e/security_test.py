# SPDX-License-Identifier: GPL-3.0-or-later
"""What attackers send, and what must happen: smuggling, line ends in commands, forbidden octets,
oversized lines, slow and early talkers, chunk confusion, other protocols."""

import contextlib
import re
import socket
import time

import harness
from harness import Closed

# SMTP smuggling (CVE-2023-51764, -51765, -51766): what some server takes for the end of data.
ENDS_OF_DATA = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r",
                b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n"]
SMUGGLED = b"MAIL FROM:<smuggled@b>\r\nRCPT TO:<victim@b>\r\nDATA\r\n\r\nx\r\n"
HEAD = b"\r\nbefore"
ENVELOPE = b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n"
# The way to where an attack begins.
GREETED = [(b"EHLO x\r\n", (250,))]
BEGUN = GREETED + [(ENVELOPE, (250, 250))]
IN_DATA = BEGUN + [(b"DATA\r\n", (354,))]


def mended(octets):
    """A message without the octets that RFC 5321 2.3.8 forbids: a bare LF becomes CRLF, a bare CR
    and a NUL become a space."""
    return re.sub(rb"\r\n|\r|\n|\0", lambda m: b" " if m[0] in (b"\r", b"\0") else b"\r\n", octets)


def mended_data(octets):
    """What a DATA stream says, mended. Dots are un-stuffed where a line begins, and a line begins
    behind CRLF only. CRLF . LF is a line of one dot, neither stuffed nor the end of data."""
    return mended(re.sub(rb"(?<=\r\n)\.(?!\n)", b"", b"\r\n" + octets)[2:])


# Where a sanitizer makes everything slow, not every place to cut at is tried.
STEP = 1 if harness.LOAD_SCALE >= 1 else 5


def cuts(octets, step=STEP):
    """The octets in two segments, cut at every place; and each octet a segment of its own."""
    ways = [(octets[:n], octets[n:]) for n in range(1, len(octets), step)]
    return ways + [tuple(octets[n:n + 1] for n in range(len(octets)))]


class Split(harness.TestCase):
    """Byte sequences, each in as many segments as it is cut into, each handled by ringmx on its own.

    A segment is sent when ringmx has counted the one before (ringmx_bytes_received_total): then it came
    out of a receive of its own. That the kernel has acknowledged it (TCP_INFO, SIOCOUTQ) would say less,
    since one receive may bring two segments. One scrape serves for all sessions that are under way."""

    def ringmx(self, upstreams=(), listeners=({},), **options):
        # Who is refused is still heard until all of a sequence is sent, however slow the machine: so it is counted.
        return super().ringmx(upstreams, listeners=[{"close_timeout": harness.duration(60), **one} for one in listeners],
                              **options)

    def sessions(self, proxy, listener, opening, ways, greeting=True, at_once=300):
        """Opens a session for each way to cut a sequence (`ways`: sequence, segments), brings it through the
        opening (octets, codes of their replies), and sends the segments. Yields (sequence, segments, client),
        many of them at a time."""
        ways = sorted(((sequence, segments) for sequence, all in ways for segments in all),
                      key=lambda way: len(way[1]))
        for first in range(0, len(ways), at_once):
            batch = [(*way, proxy.client(listener, greeting=greeting)) for way in ways[first:first + at_once]]
            with contextlib.ExitStack() as open_sessions:
                for _, _, client in batch:
                    open_sessions.enter_context(client)
                for octets, codes in opening:
                    for _, _, client in batch:
                        client.send(octets)
                    for _, _, client in batch:
                        for code in codes:
                            client.expect(code)
                self.send_segments(proxy, [(segments, client) for _, segments, client in batch])
                yield from batch

    def send_segments(self, proxy, batch):
        def received():
            return proxy.metrics().total("ringmx_bytes_received_total", side="client")

        expected = received()
        for n in range(max(len(segments) for segments, _ in batch)):
            if n > 0:
                harness.eventually(lambda: received() >= expected, "ringmx to receive a segment")
                self.assertEqual(received(), expected)
            for segments, client in batch:
                if n < len(segments):
                    client.send(segments[n])
                    expected += len(segments[n])

    def check_replies(self, client, sequence, segments, expected):
        """`expected`: a set of codes for each reply; None stands for a close. Whether the session goes on."""
        for codes in expected:
            if codes is None:
                client.expect_close()
                return False
            reply = client.reply()
            self.assertIn(reply.code, codes, (sequence, segments, reply))
        return True


class Smuggling(Split):
    def check(self, proxy, listener, sink, framing, refusal=None):
        del sink.messages[:]
        wanted = {}
        for end in ENDS_OF_DATA:
            for head in (HEAD, b""):  # in the middle, and at the very beginning
                case = head + end + SMUGGLED
                if framing == "DATA":
                    wanted[case + b".\r\n"] = mended_data(case)
                else:
                    wanted[b"BDAT %d LAST\r\n" % len(case) + case] = mended(case)
        opening = IN_DATA if framing == "DATA" else BEGUN
        ways = [(sequence, cuts(sequence)) for sequence in wanted]
        expected = []
        for sequence, segments, client in self.sessions(proxy, listener, opening, ways):
            reply = client.reply()
            self.assertEqual(reply.code, refusal or 250, (sequence, segments, reply))
            if refusal:
                self.assertIn(b"5.6.11", reply.raw)
            else:
                expected.append(wanted[sequence])
            # Exactly one reply: the next one is the next command's.
            client.command("RSET", 250)
            client.quit()
        self.check_upstream(sink, expected)

    def check_upstream(self, sink, expected):
        """It has got these messages, each of which it asked for, and not a word besides."""
        self.assertEqual(sink.refused, [])
        self.assertEqual(sorted(m.content for m in sink.messages), sorted(expected))
        for message in sink.messages:
            self.assertEqual(message.commands[:2], ENVELOPE.split(b"\r\n")[:2])
            self.assertLessEqual({line[:5] for line in message.commands[2:]}, {b"DATA", b"BDAT "})
        lines = [line for commands in sink.commands.values() for line in commands]
        self.assertLessEqual({line[:4] for line in lines}, {b"EHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET",
                                                            b"QUIT"})
        self.assertFalse([line for line in lines if b"smuggled" in line or b"victim" in line])

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
        sink = self.sink(extensions=set(harness.message_sink.EXTENSIONS) - {"CHUNKING"})
        proxy = self.ringmx_for(sink)
        self.check(proxy, 0, sink, "BDAT")
        self.check(proxy, 1, sink, "BDAT", refusal=550)

    def test_line_ends_cut_across_chunks(self):
        for extensions in (set(), {"CHUNKING"}):
            sink = self.sink(extensions=set(harness.message_sink.EXTENSIONS) - {"CHUNKING"} | extensions)
            proxy = self.ringmx_for(sink)
            wanted = {}
            for end in ENDS_OF_DATA + [b"\r\n.\r\n", b"\r\n..\r\n"]:
                case = HEAD + end + SMUGGLED
                for cut in range(len(HEAD) - 1, len(HEAD) + len(end) + 2):
                    wanted[b"BDAT %d\r\n" % cut + case[:cut] + b"BDAT %d LAST\r\n" % (len(case) - cut) + case[cut:]] = (
                        mended(case))
            expected = []
            # The cut is the chunk's. And the segments end where the chunks do, or one octet later.
            ways = [(sequence, [(sequence,), *[(sequence[:n], sequence[n:]) for n in
                                              (sequence.rindex(b"BDAT"), sequence.rindex(b"BDAT") + 1)]])
                    for sequence in wanted]
            for sequence, segments, client in self.sessions(proxy, 0, BEGUN, ways):
                self.check_replies(client, sequence, segments, [{250}, {250}])
                client.quit()
                expected.append(wanted[sequence])
            self.check_upstream(sink, expected)

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
    def check_one_reply(self, proxy, listener, sequences, begun=False):
        """sequence: the codes of its replies. Then the session goes on, where it was: there is no transaction,
        or, if one had begun, it is still the same."""
        opening = BEGUN if begun else GREETED
        ways = [(sequence, cuts(sequence)) for sequence in sequences]
        for sequence, segments, client in self.sessions(proxy, listener, opening, ways):
            self.check_replies(client, sequence, segments, sequences[sequence])
            if begun:
                client.command("DATA", 354)
                client.send(b"x\r\n.\r\n")
                client.expect(250)
            else:
                client.command("RCPT TO:<c@example.test>", 503)
                client.command("MAIL FROM:<a@example.test>", 250)
            client.quit()
        return sum(len(way[1]) for way in ways)

    def check_within_a_transaction(self, sequences):
        """And the upstream gets neither more recipients nor more commands."""
        sink = self.sink()
        proxy = self.ringmx([sink])
        count = self.check_one_reply(proxy, 0, sequences, begun=True)
        self.assertEqual(len(sink.messages), count)
        for message in sink.messages:
            self.assertEqual(message.commands, [*ENVELOPE.split(b"\r\n")[:2], b"DATA"])

    def test_bare_line_ends(self):
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{}, {"bare_lf_in_commands": True}])
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
        self.assertEqual(sink.commands, {}, "the upstream was told")
        self.check_within_a_transaction({
            b"RCPT TO:<c@d>\rRCPT TO:<e@f>\r\n": refused,
            b"RCPT TO:<c@d>\nRCPT TO:<e@f>\r\n": refused,
            b"RCPT TO:<c@d>\nDATA\n.\nQUIT\r\n": refused,
            b"RSET\rNOOP\r\n": refused,
            b"DATA\n\r\n": refused,
        })

    def test_forbidden_octets(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
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
            b"MAIL FROM:<\xc3\xa4@example.test> SMTPUTF\xb8\r\n": [{500, 501, 553, 555}],
        })
        self.assertEqual(sink.commands, {}, "the upstream was told")
        self.check_within_a_transaction({
            b"RCPT TO:<c\0@d>\r\n": bad,
            b"RCPT TO:<c\x7f@d>\r\n": bad,
            b"RCPT TO:<\xe4@d>\r\n": [{553}],
            b"RCPT TO:<c@\xc3\xa4.test>\r\n": [{553}],  # MAIL had no SMTPUTF8
            b"RCPT TO:<c@d> NOTIFY=\xff\r\n": [{501, 555}],
        })

    def test_every_forbidden_octet(self):
        proxy = self.ringmx([self.sink()], listeners=[{"error_limit": 1000}])
        octets = [n for n in range(256) if not 0x20 <= n < 0x7f and n not in (0x0a, 0x0d)]
        with proxy.client() as client:
            client.ehlo()
            for n in octets:
                client.command(b"MAIL FROM:<a%c@example.test>" % n, *((500, 501) if n < 0x80 else (553,)))
                client.command(b"NOOP a%cb" % n, 500, 501)
                client.command(b"%cNOOP" % n, 500, 501)
                client.command("RCPT TO:<b@example.test>", 503)

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


class Lines(Split):
    def setUp(self):
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], server={"receive_memory": "4MiB"},
                                 listeners=[{"error_limit": 10_000, "junk_command_limit": 10_000}])

    def check_cuts(self, line, code, places):
        """The line again and again, cut in two at each of these places; the session goes on at the next one."""
        places = list(places)
        in_a_row = 100
        batch = []
        for first in range(0, len(places), in_a_row):
            client = self.proxy.client()
            self.addCleanup(client.close)
            client.ehlo()
            segments, rest = [], b""
            for place in places[first:first + in_a_row]:
                segments.append(rest + line[:place])
                rest = line[place:]
            batch.append((segments + [rest + b"NOOP\r\n"], client))
        self.send_segments(self.proxy, batch)
        for segments, client in batch:
            for _ in segments[1:]:
                client.expect(code)
            client.expect(250)
            client.quit()

    def test_cut_at_every_place(self):
        for length, code in ((511, 250), (512, 250), (513, 500)):
            line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
            self.check_cuts(line, code, range(1, length, STEP))
            ways = [(line, [cuts(line)[-1]])]  # octet by octet
            for _, _, client in self.sessions(self.proxy, 0, GREETED, ways):
                client.expect(code)
                client.command("NOOP", 250)
                client.quit()
        self.check_cuts(b"x" * 4096 + b"\r\n", 500, range(1, 4098, STEP))
        for length in (12287, 12288, 12289):
            self.check_cuts(b"AUTH PLAIN " + b"x" * (length - 13) + b"\r\n", 500, range(1, length, 2 * STEP))
        self.check_cuts(b"AUTH PLAIN " + b"x" * (12288 - 13) + b"\r\n", 500, range(2, 12288, 2 * STEP))
        self.assertEqual(self.sink_.commands, {})

    def test_text_lines_cut_at_every_place(self):
        lines = [(length, range(1, length, STEP)) for length in (999, 1000, 1001)]
        ends = [1, 2, 998, 1000, 4095, 4096, 65535, 65536, 65537, 131072, (1 << 20) - 2, (1 << 20) - 1]
        lines += [(1 << 20, [place]) for place in ends]  # more of them would prove no more
        batch, expected = [], []
        for length, places in lines:
            line = b"." + b"x" * (length - 3) + b"\r\n"
            for first in range(0, len(places), 100):
                client = self.proxy.client()
                self.addCleanup(client.close)
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                segments, rest = [], b""
                for place in places[first:first + 100]:
                    segments.append(rest + b"." + line[:place])
                    rest = line[place:]
                batch.append((segments + [rest + b".\r\n"], client))
                expected.append(line * len(places[first:first + 100]))
        self.send_segments(self.proxy, batch)
        for _, client in batch:
            client.expect(250)
        self.assertEqual(sorted(m.content for m in self.sink_.messages), sorted(expected))

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


class Early(Split):
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

    def check_where(self, listener, before, after, in_step, out_of_step, messages=()):
        """`before` asks for an answer that `after` has not waited for; or it has, where the cut is between the
        two. The replies to either."""
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[listener])
        expected = []
        for sequence, segments, client in self.sessions(proxy, 0, [], [(before + after, cuts(before + after))]):
            waited = len(segments) > 2 or segments[0] == before
            self.check_replies(client, sequence, segments, in_step if waited else out_of_step)
            expected += messages if waited or out_of_step == in_step else ()
        self.assertEqual([m.content for m in sink.messages], expected)
        self.assertEqual(sink.refused, [])

    def test_before_the_greeting_cut_at_every_place(self):
        sink = self.sink()
        for sequence in (b"EHLO x\r\n", b"EHLO x\r\n" + ENVELOPE + b"DATA\r\nx\r\n.\r\n", b"\r\n"):
            # One for each: octets may come late that nobody answers, and are not to count for the next.
            proxy = self.ringmx([sink], listeners=[{"greeting_delay": "60s"}])
            for _, segments, client in self.sessions(proxy, 0, [], [(sequence, cuts(sequence))], greeting=False):
                self.check_replies(client, sequence, segments, [{554}, None])
        self.assertEqual(sink.commands, {})

    def test_what_has_not_waited_cut_at_every_place(self):
        ok, no = {250}, {554}
        strict = {"forbid_unauth_pipelining": True}
        envelope, body = b"EHLO x\r\n" + ENVELOPE, b"Subject: x\r\n\r\nx\r\n.\r\n"
        self.check_where(strict, b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", [ok, ok], [no, None])
        self.check_where(strict, b"HELO x\r\n", b"NOOP\r\n", [ok, ok], [no, None])
        self.check_where(strict, b"NOOP\r\n", b"NOOP\r\n", [ok, ok], [no, None])
        self.check_where({}, b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", [ok, ok], [ok, ok])
        # By default a body before its 354 is the body all the same, and nothing else.
        replies = [ok, ok, ok, {354}, ok, {221}]
        self.check_where({}, envelope + b"DATA\r\n", body + b"QUIT\r\n", replies, replies,
                         [b"Subject: x\r\n\r\nx\r\n"])

    def test_a_body_before_354_cut_at_every_place(self):
        """Where that is forbidden."""
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"forbid_unauth_pipelining": True}])
        data, body = b"DATA\r\n", b"MAIL FROM:<smuggled@b>\r\nx\r\n.\r\n"
        sent = 0
        for sequence, segments, client in self.sessions(proxy, 0, BEGUN, [(data + body, cuts(data + body, 1))]):
            if len(segments) > 2 or segments[0] == data:
                sent += 1
                self.check_replies(client, sequence, segments, [{354}, {250}])
                client.quit()
            else:
                self.check_replies(client, sequence, segments, [{554}, None])
        self.assertEqual([m.content for m in sink.messages], [body[:-3]] * sent)
        self.assertFalse([c for commands in sink.commands.values() for c in commands if b"smuggled" in c])

    def test_other_protocols(self):
        hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(1, 190))
        sink = self.sink()
        proxy = self.ringmx([sink])
        for octets in (b"GET / HTTP/1.1\r\nHost: mx.example.test\r\n\r\n",
                       b"POST / HTTP/1.1\r\nHost: mx.example.test\r\nContent-Length: 52\r\n\r\n"
                       b"EHLO x\r\nMAIL FROM:<smuggled@example.test>\r\nRCPT TO:<v@b>\r\n",
                       b"PUT /x HTTP/1.1\r\nMAIL FROM:<smuggled@example.test>\r\n",
                       b"OPTIONS * RTSP/1.0\r\n\r\n",
                       hello + b"\r\nEHLO x\r\n"):
            ways = [(octets, [(octets,), *cuts(octets)])]
            for opening in ([], GREETED):
                for _, segments, client in self.sessions(proxy, 0, opening, ways):
                    # One answer, at the first line, and no more of it is looked at.
                    self.check_replies(client, octets, segments, [{221, 421}, None])
        self.assertEqual(sink.commands, {})


class RefusedData(Split):
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
        # However it is cut: where DATA ends a segment the refusal may have come before the rest.
        data = ENVELOPE + b"DATA\r\n"
        for _, segments, client in self.sessions(proxy, 0, GREETED, [(data + self.MESSAGE, cuts(data + self.MESSAGE))],
                                                 at_once=100):
            replies = [reply.code for reply in client.replies_until_close()]
            early = len(segments) > 2 or segments[0] == data
            self.assertIn(replies, [codes, codes + [554]] if early else [codes], segments)
        self.assertEqual(upstream.accepted, [])
        for connection in upstream.connections:
            self.assertFalse([line for line in connection.commands if b"smuggled" in line or b"victim" in line])

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


class Answers(harness.TestCase):
    """Row 12: what an upstream says that does not fit, cut in two at every place and octet by octet. The second
    half leaves when ringmx has counted the first."""

    def setUp(self):
        self.upstream_ = self.upstream()
        self.proxy = self.ringmx([{"address": self.upstream_.address, "retry_after": "0ms"}])

    def octets_received(self):
        return self.proxy.metrics().total("ringmx_bytes_received_total", side="upstream")

    def connections(self):
        return self.proxy.metrics().total("ringmx_upstream_connections_current")

    def hung_up(self, connection):
        try:
            return connection.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def has_received(self, connection):
        """Whether ringmx has all that this connection, the first since `before_`, has sent, or hung up on it."""
        return self.octets_received() - self.before_ == connection.octets_sent or self.hung_up(connection)

    def check(self, stage, octets, transaction):
        """transaction(client): talks until the answer to `octets` is there; whether a message was accepted."""
        for segments in [(octets,), *cuts(octets)]:
            self.upstream_.close_connections()  # so there will be a new one
            harness.eventually(lambda: self.connections() == 0, "the upstream connections to close")
            self.before_ = self.octets_received()
            del self.upstream_.accepted[:]
            self.upstream_.reached.clear()

            def says(connection, _, segments=segments):
                for segment in segments:
                    harness.eventually(lambda: self.has_received(connection), "ringmx to receive a segment")
                    connection.send(segment)
                return octets
            says.accepts = octets.startswith(b"250 2.0.0 Ok\r\n")
            self.upstream_.faults[stage] = says
            with self.subTest(stage=stage, segments=segments), self.proxy.client() as client:
                client.ehlo()
                accepted = transaction(client)
                self.upstream_.wait_until_reached(stage)
                connection = self.upstream_.connections[-1]
                harness.eventually(lambda: self.has_received(connection), "ringmx to receive the last segment")
                self.assertEqual(len(self.upstream_.accepted), accepted)
                # One reply was due, and one came: the next is that of the next command.
                self.upstream_.faults.clear()
                client.command("RSET", 250)
                client.deliver(b"good\r\n")
                client.quit()
                self.assertEqual(self.upstream_.accepted, [b"x\r\n"] * accepted + [b"good\r\n"])

    def at_rcpt(self, *codes):
        def transaction(client):
            client.command("MAIL FROM:<a@example.test>", 250)
            client.command("RCPT TO:<b@example.test>", *codes)
            return 0
        return transaction

    def at_data(self, *codes):
        def transaction(client):
            client.begin()
            client.command("DATA", *codes)
            return 0
        return transaction

    def at_the_end(self, *codes):
        def transaction(client):
            client.begin()
            client.command("DATA", 354)
            client.send(b"x\r\n.\r\n")
            return int(client.expect(*codes).code == 250)
        return transaction

    def test_no_reply_at_all(self):
        for nonsense in (b"25\r\n", b"250-a\r\n251 b\r\n", b"250 a\nb\r\n", b"250 a\rb\r\n", b"250 a\0\r\n",
                         b"999 a\r\n", b"\r\n", b"EHLO x\r\n"):
            self.check("greeting", nonsense.replace(b"25", b"22"), self.at_rcpt(451))
            self.check("rcpt", nonsense, self.at_rcpt(451))
            self.check("data", nonsense, self.at_data(451))
            self.check("message", nonsense, self.at_the_end(451))

    def test_several_lines_are_one_reply(self):
        self.check("rcpt", b"250-2.1.5 a\r\n250-2.1.5 b\r\n250 2.1.5 c\r\n", self.at_rcpt(250))
        self.check("data", b"554-5.7.1 a\r\n554 5.7.1 b\r\n", self.at_data(554))
        self.check("message", b"552-5.3.4 a\r\n552 5.3.4 b\r\n", self.at_the_end(552))
        self.check("message", b"250 2.0.0 Ok\r\n", self.at_the_end(250))

    def test_twice(self):
        self.check("message", b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n", self.at_the_end(250))
        self.check("message", b"451 4.3.0 No\r\n250 2.0.0 Ok\r\n", self.at_the_end(451))

    def test_early(self):
        """An acceptance of a message that was not sent is none. So is one that came with 354."""
        def transaction(client):
            client.begin()
            client.command("DATA", 354)
            self.upstream_.wait_until_reached("data")
            connection = self.upstream_.connections[-1]
            harness.eventually(lambda: self.has_received(connection), "ringmx to receive all of it")
            client.send(b"x\r\n.\r\n")
            client.expect(451)
            return 0
        self.check("data", b"354 Go\r\n250 2.0.0 Ok\r\n", transaction)

    def test_two_megabytes(self):
        for reply in (b"250-" + b"x" * 2_000_000 + b"\r\n", b"250-" + b"x" * 500 + b"\r\n"):
            reply *= -(-2_000_000 // len(reply))
            for stage, transaction in (("rcpt", self.at_rcpt), ("data", self.at_data), ("message", self.at_the_end)):
                def says(connection, _):
                    connection.send(reply)
                    connection.until_peer_closes()
                del self.upstream_.accepted[:]
                self.upstream_.faults[stage] = says
                with self.subTest(stage), self.proxy.client() as client:
                    client.ehlo()
                    transaction(451)(client)
                    self.upstream_.faults.clear()
                    client.command("RSET", 250)
                    client.deliver(b"good\r\n")
                    self.assertEqual(self.upstream_.accepted, [b"good\r\n"])


class Chunks(Split):
    """Chunk sizes that lie. Exactly the octets announced are consumed, whatever the answer. In
    `check`, None stands for a close."""

    def check(self, opening, sequences):
        """Towards an upstream with CHUNKING, and one without. sequence: (codes of its replies, and the messages
        that the upstream has of it)."""
        for lacks in (set(), {"CHUNKING"}):
            sink = self.sink(extensions=set(harness.message_sink.EXTENSIONS) - lacks)
            proxy = self.ringmx([sink])
            expected = []
            ways = [(sequence, cuts(sequence)) for sequence in sequences]
            for sequence, segments, client in self.sessions(proxy, 0, opening, ways):
                replies, messages = sequences[sequence]
                expected += messages
                if self.check_replies(client, sequence, segments, replies):
                    client.command("RSET", 250)
                    client.deliver(b"good\r\n")
                    client.quit()
                    expected.append(b"good\r\n")
            self.assertEqual(sink.refused, [])
            self.assertEqual(sorted(m.content for m in sink.messages), sorted(expected))
            for message in sink.messages:
                self.assertEqual(message.commands[:2], ENVELOPE.split(b"\r\n")[:2])

    def test_with_recipients(self):
        ok, order = {250}, {503}
        # How many octets follow is not known, so nothing that follows may be looked at: it is closed.
        refused = ([{501}, None], [])
        self.check(BEGUN, {
            # The octets announced are one short: the LF is the beginning of the next line.
            b"BDAT 5\r\nRSET\r\nNOOP\r\n": ([ok, {500}], []),
            b"BDAT 6\r\nRSET\r\nNOOP\r\n": ([ok, ok], []),
            b"BDAT 0\r\nBDAT 0\r\nBDAT 0\r\nNOOP\r\n": ([ok, ok, ok, ok], []),
            b"BDAT 0 LAST\r\nNOOP\r\n": ([ok, ok], [b""]),
            b"BDAT 0\r\nBDAT 3\r\nx\r\nBDAT 0\r\nBDAT 0 LAST\r\nNOOP\r\n": ([ok] * 5, [b"x\r\n"]),
            b"BDAT 6 LAST x\r\nRSET\r\nNOOP\r\n": ([{501}, ok], []),
            b"BDAT 3 LAST x\r\nx\r\nBDAT 3 LAST\r\nx\r\nNOOP\r\n": ([{501}, order, ok], []),
            b"BDAT 6 FIRST\r\nQUIT\r\nNOOP\r\n": ([{501}, ok], []),
            b"BDAT 3 last\r\nx\r\nNOOP\r\n": ([ok, ok], [b"x\r\n"]),
            b"BDAT 99999999999999999999\r\nNOOP\r\n": refused,
            b"BDAT 000000000000000000000000003\r\nNOOP\r\n": refused,
            b"BDAT 18446744073709551616\r\nNOOP\r\n": refused,
            b"BDAT -1\r\nNOOP\r\n": refused,
            b"BDAT +1\r\nNOOP\r\n": refused,
            b"BDAT 0x10\r\nNOOP\r\n": refused,
            b"BDAT\r\nNOOP\r\n": refused,
            b"BDAT LAST\r\nNOOP\r\n": refused,
            b"BDAT 3\n\r\nQUIT\r\n": ([{500}, None], []),
            b"BDAT 3\0\r\nQUIT\r\n": ([{500}, None], []),
            b"BDAT 6\r\nRSET\r\nDATA\r\n": ([ok, order], []),
            b"BDAT 6\r\nRSET\r\nMAIL FROM:<x@example.test>\r\nNOOP\r\n": ([ok, order, ok], []),
            b"BDAT 6\r\nRSET\r\nRCPT TO:<x@example.test>\r\nNOOP\r\n": ([ok, order, ok], []),
            b"BDAT 6 LAST\r\nRSET\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n": ([ok, order, ok], [b"RSET\r\n"]),
            # What would end a dot-framed message, within a chunk, and with its CR and LF in different ones.
            b"BDAT 12 LAST\r\na\r\n.\r\nQUIT\r\nNOOP\r\n": ([ok, ok], [b"a\r\n.\r\nQUIT\r\n"]),
            b"BDAT 2\r\na\rBDAT 2\r\n\n.BDAT 1\r\n\rBDAT 7 LAST\r\n\nQUIT\r\nNOOP\r\n":
                ([ok] * 5, [b"a\r\n.\r\nQUIT\r\n"]),
        })

    def test_without_recipients(self):
        order, ok = {503, 554}, {250}
        self.check(GREETED, {
            b"BDAT 6\r\nRSET\r\nNOOP\r\n": ([order, ok], []),
            b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n": ([order, ok], []),
            b"BDAT 0\r\nNOOP\r\n": ([order, ok], []),
            b"MAIL FROM:<a@example.test>\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n": ([ok, order, ok], []),
        })

    def test_after_data(self):
        """Then it is text, and no command."""
        self.check(IN_DATA, {
            b"BDAT 3 LAST\r\nx\r\n.\r\nNOOP\r\n": ([{250}, {250}], [b"BDAT 3 LAST\r\nx\r\n"]),
        })

    def test_a_huge_chunk_is_refused_before_it_is_there(self):
        """Larger than any message may be: refused for its announcement, its octets are dropped."""
        sink = self.sink()
        proxy = self.ringmx([sink], listeners=[{"message_size_limit": 1000}])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.send(b"BDAT 9223372036854775807 LAST\r\n" + b"RSET\r\n" * 1000)
            client.half_close()
            replies = client.replies_until_close()
            self.assertLessEqual([reply.code for reply in replies], [552])
        self.assertEqual(sink.messages, [])


if __name__ == "__main__":
    harness.main()
