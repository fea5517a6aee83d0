# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream fails in every state and in every way. The client always gets exactly one reply to
each command, a 250 behind the end of data only for a message that the upstream has accepted, and a
session that it can go on with, or one that is closed after a 421."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import threading

import harness
from harness import closes, is_silent, resets, says, says_and_closes, says_twice

PATIENCE = {  # of ringmx with its upstream; short, so that silence can be waited for
    key: harness.duration(1)
    for key in ("connect_timeout", "greeting_timeout", "command_timeout", "data_timeout", "send_timeout",
                "message_timeout")
}
CONTENT = b"Subject: x\r\n\r\n.first\r\nRSET\r\nQUIT\r\n"
FIRST, REST = harness.stuffed(CONTENT)[:20], harness.stuffed(CONTENT)[20:] + b".\r\n"

UNAVAILABLE = b"421 4.3.2 Going down\r\n"
FLOOD = b"".join(b"250-%07d\r\n" % n for n in range(2 * 1024 * 1024 // 13)) + b"250 end\r\n"
FLOOD_LINE = b"250 " + b"x" * 2 * 1024 * 1024 + b"\r\n"


def flood(octets):
    def fault(connection, _):
        connection.send(octets)
        connection.until_peer_closes()
    return fault


EVERYWHERE = {
    "closes": closes,
    "resets": resets,
    "is silent": is_silent,
    "says 421 and closes": says_and_closes(UNAVAILABLE),
    "says 421 and stays": says(UNAVAILABLE),
    "says half a reply and closes": says_and_closes(b"250 o"),
    "says half a multi-line reply and closes": says_and_closes(b"250-one\r\n"),
    "says half a reply and is silent": lambda c, _: (c.send(b"250-one\r\n25"), c.until_peer_closes()),
    "says what is no reply": says(b"hello there\r\n"),
    "says codes that differ": says(b"250-one\r\n251 two\r\n"),
    "says a code that is none": says(b"999 what\r\n"),
    "says a bare LF": says(b"250 one\n250 two\r\n"),
    "says NUL": says(b"250 \0\r\n"),
    "speaks TLS": says(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"),
    "floods": flood(FLOOD),
    "floods with one line": flood(FLOOD_LINE),
}

# Stage: what goes wrong there beyond the above. All of it is a temporary failure for the client.
STAGES = {
    "greeting": {"says 554": says(b"554 5.7.1 Not you\r\n"), "says 554 and closes": says_and_closes(b"554 no\r\n")},
    "ehlo": {},
    "mail": {"says 354": says(b"354 Now?\r\n")},
    "rcpt": {"says 354": says(b"354 Now?\r\n")},
    "data": {"says 250": says(b"250 2.0.0 Ok\r\n")},
    "body": {"says 250 early": says(b"250 2.0.0 Ok\r\n"), "says 250 early and closes": says_and_closes(b"250 Ok\r\n")},
    "message": {"says 354": says(b"354 Again?\r\n")},
}
# In the body an upstream has nothing to say, so to be silent is what it should be; it is the reader
# that stops which has to be noticed, and that needs more octets than the sockets hold.
SILENCE = ("is silent", "says half a reply and is silent")

CELLS = [(stage, what, fault)
         for stage, special in STAGES.items()
         for what, fault in (EVERYWHERE | special).items()
         if not (stage == "body" and what in SILENCE)]


class EveryState(harness.TestCase):
    """One ringmx; each cell of the table has a listener and an upstream to itself."""

    def transaction(self, client, upstream, stage):
        """A transaction up to the reply that says it failed: (stage of the client, reply)."""
        client.command("MAIL FROM:<sender@example.test>", 250)
        reply = client.command("RCPT TO:<recipient@example.test>")
        if reply.code != 250:
            return "rcpt", reply
        reply = client.command("DATA")
        if reply.code != 354:
            return "data", reply
        client.send(FIRST)
        if stage == "body":
            upstream.wait_until_reached("body")
        client.send(REST)
        return "message", client.reply()

    def cell(self, proxy, listener, upstream, stage):
        with proxy.client(listener) as client:
            client.ehlo()
            where, reply = self.transaction(client, upstream, stage)
            expected = {"greeting": "rcpt", "ehlo": "rcpt", "mail": "rcpt", "rcpt": "rcpt", "data": "data",
                        "body": "message", "message": "message"}[stage]
            self.assertEqual(where, expected, f"the client was told at {where}: {reply}")
            self.assertIn(reply.code, (451, 421), reply)
            self.assertEqual(upstream.accepted, [])
            upstream.faults.clear()
            if reply.code == 421:
                client.expect_close()
                return
            # One reply was due, and one came: the next one is that of the next command.
            client.command("RSET", 250)
            client.deliver(CONTENT)
            self.assertEqual(upstream.accepted, [CONTENT])
            client.quit()

    def test_every_failure_in_every_state(self):
        upstreams = [self.upstream({stage: fault}) for stage, _, fault in CELLS]
        names = [f"up{n}" for n in range(len(CELLS))]
        proxy = self.ringmx(
            [{"name": name, "address": upstream.address, "retry_after": "0ms", **PATIENCE}
             for name, upstream in zip(names, upstreams)],
            listeners=[{"name": f"mx-{name}", "upstreams": [name]} for name in names])
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            cells = [pool.submit(self.cell, proxy, n, upstreams[n], stage) for n, (stage, _, _) in enumerate(CELLS)]
            for (stage, what, _), cell in zip(CELLS, cells):
                with self.subTest(f"upstream {what} at {stage}"):
                    cell.result()
        self.assertEqual(proxy.popen.poll(), None)
        metrics = proxy.metrics()
        harness.eventually(lambda: proxy.metrics().total("ringmx_connections_current") == 0, "all sessions to end")
        self.assertEqual(metrics.total("ringmx_messages_total", result="accepted"),
                         sum(len(upstream.accepted) for upstream in upstreams))

    def test_pipelined_through_every_failure(self):
        """The same, the commands in one segment: every command still gets one reply."""
        cells = [cell for cell in CELLS if cell[0] in ("greeting", "ehlo", "mail", "rcpt", "data")]
        upstreams = [self.upstream({stage: fault}) for stage, _, fault in cells]
        names = [f"up{n}" for n in range(len(cells))]
        proxy = self.ringmx(
            [{"name": name, "address": upstream.address, "retry_after": "0ms", **PATIENCE}
             for name, upstream in zip(names, upstreams)],
            listeners=[{"name": f"mx-{name}", "upstreams": [name]} for name in names])

        def cell(n):
            with proxy.client(n) as client:
                client.ehlo()
                client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<one@example.test>\r\n"
                            b"RCPT TO:<two@example.test>\r\nDATA\r\n")
                client.expect(250)
                codes = []
                for _ in range(3):
                    codes.append(client.reply().code)
                    if codes[-1] == 421:
                        client.expect_close()
                        return
                self.assertNotIn(354, codes)
                self.assertEqual(upstreams[n].accepted, [])
                upstreams[n].faults.clear()
                client.command("RSET", 250)
                client.deliver(CONTENT)
                client.quit()

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            done = [pool.submit(cell, n) for n in range(len(cells))]
            for (stage, what, _), one in zip(cells, done):
                with self.subTest(f"upstream {what} at {stage}"):
                    one.result()

    def test_killed_in_every_state(self):
        """Not only this connection: the whole upstream is gone, and comes back."""
        for stage in STAGES:
            with self.subTest(stage):
                killed = lambda connection, _: (connection.upstream.stop(), connection.close())  # noqa: E731
                upstream = self.upstream({stage: killed})
                proxy = self.ringmx([{"address": upstream.address, "retry_after": "0ms", **PATIENCE}])
                with proxy.client() as client:
                    client.ehlo()
                    _, reply = self.transaction(client, upstream, stage)
                    self.assertEqual(reply.code, 451)
                    client.command("RSET", 250)
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RCPT TO:<recipient@example.test>", 451)
                    client.command("RSET", 250)
                    upstream.faults.clear()
                    upstream.start()
                    client.deliver(CONTENT)
                    self.assertEqual(upstream.accepted, [CONTENT])
                    client.quit()


class Connecting(harness.TestCase):
    def test_nobody_listens(self):
        proxy = self.ringmx([harness.free_address()])
        with proxy.client() as client:
            client.ehlo()
            for _ in range(2):
                client.command("MAIL FROM:<sender@example.test>", 250)
                client.command("RCPT TO:<one@example.test>", 451)
                client.command("RCPT TO:<two@example.test>", 451)
                client.command("DATA", 451, 503, 554)
                client.command("RSET", 250)
            client.quit()

    def test_the_unix_socket_is_not_there(self):
        proxy = self.ringmx([f"unix:{harness.temporary_directory()}/none"])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<one@example.test>", 451)
            client.quit()

    def test_connect_is_never_answered(self):
        # A backlog that is full: the kernel drops further SYNs.
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind((harness.HOST, 0))
        listener.listen(0)
        full = []
        for _ in range(3):
            one = socket.socket()
            self.addCleanup(one.close)
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            full.append(one)
        proxy = self.ringmx([{"address": "{}:{}".format(*listener.getsockname()),
                              "connect_timeout": harness.duration(0.5)}])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<one@example.test>", 451)
            client.command("RSET", 250)
            client.quit()

    def test_fail_over(self):
        """Whatever keeps the first upstream from being used, the second serves."""
        failing = [None, "greeting", "ehlo"]
        for stage in failing:
            for what, fault in (EVERYWHERE | STAGES.get(stage, {})).items() if stage else [("refuses", None)]:
                with self.subTest(f"first upstream {what} at {stage or 'connect'}"):
                    first = self.upstream({stage: fault}) if stage else None
                    sink = self.sink()
                    proxy = self.ringmx([{"address": first.address if first else harness.free_address(), **PATIENCE},
                                         {"address": sink.address, **PATIENCE}])
                    with proxy.client() as client:
                        client.ehlo()
                        for n in range(4):
                            client.deliver(b"%d\r\n" % n)
                        client.quit()
                    self.assertEqual([message.content for message in sink.messages],
                                     [b"%d\r\n" % n for n in range(4)])
                    proxy.stop()

    def test_fail_over_past_many(self):
        """However many of them are down."""
        sink = self.sink()
        proxy = self.ringmx([harness.free_address() for _ in range(64)] + [sink.address])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
            client.quit()
        self.assertEqual(len(sink.messages), 1)

    def test_fail_over_to_an_idle_connection(self):
        """The client's time runs there as everywhere."""
        upstream = self.upstream()
        proxy = self.ringmx([{"name": "none", "address": harness.free_address()},
                             {"name": "mta", "address": upstream.address}],
                            listeners=[{"upstreams": ["mta"]},
                                       {"upstreams": ["none", "mta"], "command_timeout": harness.duration(1)}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
        upstream.faults["mail"] = says(b"451 4.3.0 Later\r\n")
        with proxy.client(1) as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<recipient@example.test>", 451)
            client.expect(421)
            client.expect_close()

    def test_an_upstream_without_ehlo(self):
        """It is spoken to as RFC 5321 3.2 says; if it refuses that too, it is none."""
        upstream = self.upstream({"ehlo": says(b"502 5.5.1 Not implemented\r\n")})
        proxy = self.ringmx([{"address": upstream.address, "retry_after": "0ms"}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
            self.assertEqual(upstream.accepted, [CONTENT])
            upstream.faults["helo"] = says(b"550 5.7.1 No\r\n")
            upstream.close_connections()
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<recipient@example.test>", 451)
            client.quit()

    def test_round_robin(self):
        sinks = [self.sink() for _ in range(3)]
        proxy = self.ringmx(sinks)
        with proxy.client() as client:
            client.ehlo()
            for _ in range(9):
                client.deliver()
            client.quit()
        self.assertEqual([len(sink.messages) for sink in sinks], [3, 3, 3])

    def test_a_listener_uses_its_own_upstreams_only(self):
        sinks = [self.sink(), self.sink()]
        proxy = self.ringmx([{"name": "a", "address": sinks[0].address}, {"name": "b", "address": sinks[1].address}],
                            listeners=[{"upstreams": ["b"]}])
        with proxy.client() as client:
            client.ehlo()
            for _ in range(4):
                client.deliver()
        self.assertEqual([len(sink.messages) for sink in sinks], [0, 4])


class Body(harness.TestCase):
    def test_refuses_data_while_the_client_pipelines_the_body(self):
        """What the client sent in hope is no list of commands."""
        smuggled = (b"Subject: x\r\n\r\nRSET\r\nMAIL FROM:<smuggled@example.test>\r\nRCPT TO:<victim@example.test>\r\n"
                    b"DATA\r\nsmuggled\r\n.\r\nQUIT\r\n")
        for refusal in (b"554 5.7.1 No\r\n", b"451 4.3.0 Later\r\n", b"421 4.3.2 Going\r\n"):
            upstream = self.upstream({"data": says(refusal)})
            proxy = self.ringmx([upstream])
            with self.subTest(refusal), proxy.client() as client:
                client.ehlo()
                client.begin()
                client.send(b"DATA\r\n" + smuggled)
                replies = client.replies_until_close()
                self.assertGreaterEqual(len(replies), 1)
                self.assertGreaterEqual(replies[0].code, 400)
                # Then it is closed, or the end of data is found, and QUIT is what is answered.
                for reply in replies[1:]:
                    self.assertIn(reply.code, (221, 421, 554), replies)
                self.assertEqual(upstream.accepted, [])
                for connection in upstream.connections:
                    self.assertFalse([line for line in connection.commands if b"smuggled" in line or b"victim" in line])

    def test_refuses_every_recipient_while_the_client_pipelines_the_body(self):
        """Then ringmx itself refuses DATA, and the body is no more commands than before."""
        for how in ("at once", "later"):
            upstream = self.upstream({"rcpt": says(b"550 5.1.1 Nobody\r\n")})
            proxy = self.ringmx([upstream])
            with self.subTest(how), proxy.client() as client:
                client.ehlo()
                body = b"hello\r\nRSET\r\nMAIL FROM:<sender@example.test>\r\n.\r\n"
                client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\nDATA\r\n"
                            + (body if how == "at once" else b""))
                for code in (250, 550, 554):
                    client.expect(code)
                if how == "later":
                    client.send(body)
                    client.expect(554)
                client.expect_close()

    def test_refuses_a_chunk(self):
        """The octets that follow are consumed, to the last one, and are not commands."""
        sink = self.sink(size_limit=10)
        proxy = self.ringmx([sink], listeners=[{"message_size_limit": 0}])
        body = b"RSET\r\nMAIL FROM:<smuggled@example.test>\r\n"
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.send(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(body), body))
            client.expect(552)
            client.expect(250)
            client.deliver(b"x\r\n")
            client.quit()
        self.assertEqual([message.content for message in sink.messages], [b"x\r\n"])

    def test_dies_in_a_long_body(self):
        """The client is in the middle of sending, and is told when it has sent all of it."""
        for what, fault in (("closes", closes), ("resets", resets)):
            upstream = self.upstream({"body": fault})
            proxy = self.ringmx([upstream])
            with self.subTest(what), proxy.client() as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                block = b"NOOP\r\n" * 10_000
                for _ in range(100):
                    client.send(block)
                client.send(b".\r\n")
                client.expect(451)
                upstream.faults.clear()
                client.deliver(CONTENT)
                client.quit()
            self.assertEqual(upstream.accepted, [CONTENT])

    def test_stops_reading_in_the_body(self):
        upstream = self.upstream({"body": lambda connection, _: stopped.wait(harness.PATIENCE)})
        stopped = threading.Event()
        self.addCleanup(stopped.set)
        proxy = self.ringmx([{"address": upstream.address, **PATIENCE}],
                            listeners=[{"data_timeout": harness.duration(8)}])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            block = b"x" * 998 + b"\r\n"
            with contextlib.suppress(ConnectionError):
                for _ in range(16):
                    client.send(block * 1000)
                client.send(b".\r\n")
            client.expect(451, 421)
        self.assertEqual(upstream.accepted, [])

    def test_refuses_before_it_has_all_and_takes_the_rest_for_commands(self):
        """The rest never leaves, nor does another transaction on that connection."""
        smuggled = b"MAIL FROM:<smuggled@example.test>\r\nRCPT TO:<victim@example.test>\r\n"
        content = (b"x" * 76 + b"\r\n") * 5500 + smuggled

        def refuses_early(connection, _):
            sent.wait(harness.PATIENCE)
            connection.send(b"552 5.3.4 Too big\r\n")
            while True:
                connection.line()

        for reuse in (True, False):
            address = f"unix:{harness.temporary_directory()}/mta"  # a socket whose buffer is small
            upstream = self.upstream({"body": refuses_early}, address=address)
            sent = threading.Event()
            proxy = self.ringmx([{"address": address, "reuse": reuse}])
            with self.subTest(reuse=reuse), proxy.client() as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                before = proxy.metrics().total("ringmx_bytes_received_total", side="client")
                client.send(content + b".\r\n")
                harness.eventually(lambda: proxy.metrics().total("ringmx_bytes_received_total", side="client")
                                   >= before + len(content) + 3, "ringmx to have it all")
                sent.set()
                client.expect(552)
                upstream.faults.clear()
                client.deliver(CONTENT)
                client.quit()
                self.assertEqual(upstream.accepted, [CONTENT])
                self.assertFalse([line for line in upstream.connections[0].commands if b"smuggled" in line])

    def test_accepts_before_it_has_all(self):
        """250 while a part of the message still waits here can't be the word on that message."""
        size = 8_000_000
        proxy = None

        def accepts(connection, _):
            harness.eventually(
                lambda: proxy.metrics().total("ringmx_bytes_received_total", side="client") > size, "the message")
            connection.send(b"250 2.0.0 Ok\r\n")
            harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_replies_total", stage="message") == 1,
                               "the reply")
            connection.reset()

        upstream = self.upstream({"body": accepts}, receive_buffer=16384)
        proxy = self.ringmx([upstream], server={"session_memory": "64MiB", "receive_memory": "256MiB"})
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            client.send(b"%s\r\n" % (b"x" * 998) * (size // 1000) + b".\r\n")
            self.assertEqual(client.reply().code, 451)
            client.quit()
        self.assertEqual(upstream.accepted, [])

    def test_accepts_at_the_moment_of_the_end(self):
        """ringmx finds the end of the message and the upstream's 250 at once: this can't be the word on that."""
        may_accept = threading.Event()
        self.addCleanup(may_accept.set)

        def accepts(connection, _):
            may_accept.wait(harness.PATIENCE)
            connection.send(b"250 2.0.0 Ok\r\n")

        upstream = self.upstream({"body": accepts})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            client.send(FIRST)
            harness.eventually(lambda: upstream.connections[0].input, "the body to begin")
            proxy.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, proxy.pid, os.WSTOPPED | os.WNOWAIT)
            client.send(REST)
            may_accept.set()
            upstream.wait_until_reached("body")
            proxy.signal(signal.SIGCONT)
            client.expect(451)
            upstream.faults.clear()
            client.deliver(CONTENT)
            client.quit()
        self.assertEqual(upstream.accepted, [CONTENT])

    def test_the_client_leaves_in_the_body(self):
        upstream = self.upstream()
        proxy = self.ringmx([upstream])
        for leave in (harness.Client.close, harness.Client.reset, harness.Client.half_close):
            with proxy.client() as client:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
                client.send(FIRST)
                leave(client)
        harness.eventually(lambda: proxy.metrics().total("ringmx_messages_total", result="aborted") == 3,
                           "three aborted messages")
        # The upstream's connection can't be used again, and isn't.
        with proxy.client() as client:
            client.ehlo()
            client.deliver(CONTENT)
        self.assertEqual(upstream.accepted, [CONTENT])


class Replies(harness.TestCase):
    def test_answers_twice(self):
        """The second answer belongs to nothing, and never becomes the answer to something else."""
        for stage in ("greeting", "ehlo", "mail", "rcpt", "data", "message"):
            upstream = self.upstream({stage: says_twice})
            proxy = self.ringmx([{"address": upstream.address, "retry_after": "0ms", **PATIENCE}])
            with self.subTest(stage), proxy.client() as client:
                client.ehlo()
                accepted = 0
                for n in range(3):
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    reply = client.command("RCPT TO:<recipient@example.test>")
                    if reply.code == 250:
                        reply = client.command("DATA")
                        if reply.code == 354:
                            client.send(b"%d\r\n.\r\n" % n)
                            reply = client.reply()
                            accepted += reply.code == 250
                    self.assertIn(reply.code, (250, 451))
                    client.command("RSET", 250)
                self.assertEqual(len(upstream.accepted), accepted)
                if stage == "message":  # each message was answered before the answer too many
                    self.assertEqual(accepted, 3)
                upstream.faults.clear()
                client.deliver(CONTENT)
                self.assertEqual(upstream.accepted[-1], CONTENT)
                client.quit()

    def test_answers_twice_while_the_next_transaction_waits(self):
        """The client has it in the pipe, and it gets the same connection in the same breath."""
        upstream = self.upstream({"message": says_twice})
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
            client.send(b"first\r\n.\r\nMAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\n")
            client.expect(250)
            client.expect(250)
            self.assertEqual(client.expect(250).raw, b"250 2.1.5 Ok\r\n")  # not the answer to MAIL
            client.command("DATA", 354)
            client.send(b"second\r\n.\r\n")
            client.expect(250)
        self.assertEqual(upstream.accepted, [b"first\r\n", b"second\r\n"])

    def test_what_makes_no_sense_is_counted(self):
        for stage, nonsense in (("mail", b"354 Now?\r\n"), ("rcpt", b"354 Now?\r\n"), ("data", b"250 Ok\r\n"),
                                ("message", b"354 Again?\r\n")):
            upstream = self.upstream({stage: says(nonsense)})
            proxy = self.ringmx([upstream])
            with self.subTest(stage), proxy.client() as client:
                client.ehlo()
                client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<recipient@example.test>\r\nDATA\r\n")
                replies = [client.reply().code for _ in range(3)]
                if replies[-1] == 354:
                    client.send(b"x\r\n.\r\n")
                    client.expect(451)
                self.assertEqual(proxy.metrics().total("ringmx_upstream_lost_total", reason="bad_reply"), 1)

    def test_silent_for_as_long_as_a_client_may_be(self):
        """It is not the client that has been silent."""
        upstream = self.upstream({"rcpt": is_silent})
        patience = harness.duration(1)
        proxy = self.ringmx([{"address": upstream.address, "command_timeout": patience}],
                            listeners=[{"command_timeout": patience}])
        with proxy.client() as client:
            client.ehlo()
            client.command("MAIL FROM:<sender@example.test>", 250)
            for _ in range(2):
                client.command("RCPT TO:<recipient@example.test>", 451)
            client.command("NOOP", 250)
            client.quit()

    def test_says_half_a_reply_while_idle(self):
        """Which would be the beginning of the next transaction's first."""
        upstream = self.upstream()
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(b"first\r\n")
            half = b"250 2.1.0 "
            received = proxy.metrics().total("ringmx_bytes_received_total", side="upstream") + len(half)
            upstream.connections[-1].send(half)
            harness.eventually(lambda: proxy.metrics().total("ringmx_bytes_received_total", side="upstream") >= received,
                               "half a reply")
            upstream.faults["mail"] = says(b"550 5.7.1 Not you\r\n")
            client.command("MAIL FROM:<sender@example.test>", 250)
            client.command("RCPT TO:<recipient@example.test>", 550)
            client.quit()
        self.assertEqual(len(upstream.connections), 2)

    def test_says_something_while_idle(self):
        """An idle connection that speaks is no longer idle, and not used again."""
        upstream = self.upstream()
        proxy = self.ringmx([upstream])
        with proxy.client() as client:
            client.ehlo()
            client.deliver(b"first\r\n")
            upstream.connections[-1].send(b"250 2.0.0 For the next one\r\n")
            harness.eventually(
                lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 0,
                "the connection to be dropped")
            client.deliver(b"second\r\n")
            client.quit()
        self.assertEqual(upstream.accepted, [b"first\r\n", b"second\r\n"])
        self.assertEqual(len(upstream.connections), 2)


class Pool(harness.TestCase):
    def test_reuse_across_clients(self):
        sink = self.sink()
        proxy = self.ringmx([sink])
        for _ in range(10):
            with proxy.client() as client:
                client.ehlo()
                client.deliver()
                client.quit()
        self.assertEqual(len(sink.messages), 10)
        self.assertEqual(sink.sessions, 1)
        metrics = proxy.metrics()
        self.assertEqual(metrics.total("ringmx_upstream_reused_total", upstream="mta0"), 9)
        self.assertEqual(metrics.total("ringmx_upstream_connections_total", upstream="mta0", result="ok"), 1)
        self.assertEqual(metrics.total("ringmx_upstream_connections_current", upstream="mta0", state="idle"), 1)

    def test_no_reuse(self):
        sink = self.sink()
        proxy = self.ringmx([{"address": sink.address, "reuse": False}])
        for _ in range(5):
            with proxy.client() as client:
                client.ehlo()
                client.deliver()
                client.deliver()  # the session's own connection serves all of its transactions
                client.quit()
        self.assertEqual(len(sink.messages), 10)
        self.assertEqual(sink.sessions, 5)
        self.assertEqual(len({message.session for message in sink.messages}), 5)

    def test_what_one_client_left_is_not_the_next_ones(self):
        """A transaction given up must not leak its recipients into the next one's."""
        sink = self.sink()
        proxy = self.ringmx([sink])
        for leave in (lambda c: c.quit(), lambda c: c.close(), lambda c: c.reset(), lambda c: c.command("RSET", 250),
                      lambda c: c.ehlo()):
            with proxy.client() as client:
                client.ehlo()
                client.begin("left@example.test", "left@example.test")
                leave(client)
            with proxy.client() as client:
                client.ehlo()
                client.deliver()
        self.assertEqual(len(sink.messages), 5)
        for message in sink.messages:
            self.assertEqual((message.sender, message.recipients),
                             ("sender@example.test", [("recipient@example.test", [])]))

    def test_lost_while_idle(self):
        """However it was lost, the client does not notice."""
        for seen in (True, False):
            sink = self.sink()
            proxy = self.ringmx([sink])
            with self.subTest(seen=seen), proxy.client() as client:
                client.ehlo()
                for n in range(5):
                    client.deliver(b"%d\r\n" % n)
                    sink.drop_connections()
                    if seen:
                        harness.eventually(
                            lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 0,
                            "the loss to be seen")
                client.quit()
            self.assertEqual([message.content for message in sink.messages], [b"%d\r\n" % n for n in range(5)])

    def test_a_stale_connection(self):
        """An idle connection that the upstream closes at the first command (its own idle timeout):
        the transaction is taken to a fresh one."""
        for fault in (closes, resets, says_and_closes(b"421 4.4.2 Idle for too long\r\n")):
            def at_mail(connection, usual, fault=fault):
                if connection.number == 1 and len(upstream.accepted) == 1:
                    fault(connection, usual)
                connection.send(usual)
            upstream = self.upstream({"mail": at_mail})
            proxy = self.ringmx([upstream])
            with self.subTest(fault), proxy.client() as client:
                client.ehlo()
                client.deliver(b"first\r\n")
                client.deliver(b"second\r\n")
                client.quit()
            self.assertEqual(upstream.accepted, [b"first\r\n", b"second\r\n"])

    def test_idle_connections_are_bounded_in_number(self):
        sink = self.sink()
        proxy = self.ringmx([{"address": sink.address, "max_idle": 2}])
        clients = [proxy.client() for _ in range(6)]
        for client in clients:
            self.addCleanup(client.close)
            client.ehlo()
            client.begin()
            client.command("DATA", 354)
        for client in clients:
            client.send(b"x\r\n.\r\n")
        for client in clients:
            client.expect(250)
        harness.eventually(
            lambda: proxy.metrics().total("ringmx_upstream_connections_current", state="idle") == 2,
            "two idle connections")
        self.assertEqual(sink.sessions, 6)

    def test_connections_that_wait_for_the_reply_to_rset_are_bounded_in_number(self):
        """Else every transaction that a client gives up would cost one, for as long as command_timeout."""
        upstream = self.upstream({"rset": is_silent})
        proxy = self.ringmx([{"address": upstream.address, "max_idle": 2}])
        with proxy.client() as client:
            client.ehlo()
            for _ in range(20):
                client.begin()
                client.command("RSET", 250)
        harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current") == 2,
                           "two connections")
        self.assertEqual(len(upstream.connections), 20)

    def test_idle_connections_are_bounded_in_time(self):
        sink = self.sink()
        proxy = self.ringmx([{"address": sink.address, "idle_timeout": harness.duration(0.3)}])
        with proxy.client() as client:
            client.ehlo()
            client.deliver()
        harness.eventually(lambda: proxy.metrics().total("ringmx_upstream_connections_current") == 0,
                           "the idle connection to be closed")
        harness.eventually(lambda: sink.commands[1][-1] == b"QUIT", "the end of it")


if __name__ == "__main__":
    harness.main()
