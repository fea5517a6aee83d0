# SPDX-License-Identifier: GPL-3.0-or-later
"""More of everything than there is room for: descriptors, sessions, buffers, upstreams that do not read.
These fill the machine, so they run alone."""

import contextlib
import resource
import selectors
import signal
import socket
import threading
import time

import harness
import security_test
from harness import Closed


class Exhaustion(security_test.Split):
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

    def test_whoever_is_there_is_served_however_it_is_cut(self):
        sink = self.sink()
        proxy = self.ringmx([sink], before_exec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
        sequence = security_test.ENVELOPE + b"BDAT 4\r\na\r\n.BDAT 3 LAST\r\n\r\nbRSET\r\n"
        ways = security_test.cuts(sequence)
        with proxy.client() as client:
            client.ehlo()
            client.deliver(b"first\r\n")  # so there is an upstream connection
            others = self.fill(proxy, 300)
            for segments in ways:
                self.send_segments(proxy, [(segments, client)])
                for _ in range(5):
                    client.expect(250)
            self.served(others)
            for _ in range(3):  # there was no room all the time
                with proxy.client(greeting=False) as newcomer, contextlib.suppress(Closed):
                    if newcomer.ready_within(0.1 * harness.TIMEOUT_SCALE):
                        newcomer.expect(421)
        self.assertEqual([m.content for m in sink.messages], [b"first\r\n"] + [b"a\r\n.\r\nb"] * len(ways))
        self.assertEqual(len(sink.commands), 1)
        for other in others:
            other.close()
        self.recovers(proxy)

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

    def test_clients_that_send_all_they_can_to_a_silent_upstream(self):
        """Legitimately: MAIL, RCPT, BDAT and its octets in one go. Whoever comes later is served; they
        themselves have to wait."""
        for memory, session, flooders, at_once in (
                ("1MiB", "64KiB", 64, False), ("64MiB", "1MiB", 600, False), ("1MiB", "64KiB", 900, True)):
            with self.subTest(memory=memory, flooders=flooders):
                self.check_flood(memory, session, flooders, at_once)

    def check_flood(self, memory, session, flooders, at_once):
        silent = socket.create_server(("127.0.0.1", 0), backlog=2 * flooders)  # the kernel accepts, and that is all
        self.addCleanup(silent.close)
        sink = self.sink()
        proxy = self.ringmx(
            [{"name": "silent", "address": f"127.0.0.1:{silent.getsockname()[1]}"},
             {"name": "good", "address": sink.address}],
            listeners=[{"upstreams": ["silent"]}, {"upstreams": ["good"]}],
            server={"receive_memory": memory, "session_memory": session})
        clients = []
        for _ in range(flooders):
            client = proxy.client()
            self.addCleanup(client.close)
            client.ehlo()
            client.send(security_test.ENVELOPE + b"BDAT 100000000\r\n")
            client.socket.setblocking(False)
            clients.append(client)
        block = b"x" * 65536
        if at_once:
            proxy.signal(signal.SIGSTOP)
        with selectors.DefaultSelector() as flooding:
            for client in clients:
                flooding.register(client.socket, selectors.EVENT_WRITE)
            while writable := flooding.select(0.5 * harness.TIMEOUT_SCALE):  # until sockets and buffers are full
                for key, _ in writable:
                    try:
                        key.fileobj.send(block)
                    except BlockingIOError:
                        pass
                    except OSError:  # it was sent away
                        flooding.unregister(key.fileobj)
        proxy.signal(signal.SIGCONT)
        for listener, deliver in ((0, False), (1, True)):
            for _ in range(20):
                with proxy.client(listener) as client:
                    client.ehlo()
                    client.command("MAIL FROM:<sender@example.test>", 250)
                    client.command("RSET", 250)
                    if deliver:
                        client.deliver(b"x" * 100_000 + b"\r\n")
                    client.command("QUIT", 221)
        self.assertEqual(len(sink.messages), 20)
        # Those that had to wait get a word each when there is one.
        sent_away = int(proxy.metrics().total("ringmx_connections_closed_total", reason="memory"))
        silent.close()
        waited = 0
        for client in clients:
            try:
                client.expect(250)
                waited += client.expect(451, 421).code == 451
            except Closed:
                pass
        self.assertEqual(waited, flooders - sent_away)


if __name__ == "__main__":
    harness.main()
