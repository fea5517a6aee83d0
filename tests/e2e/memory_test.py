# SPDX-License-Identifier: GPL-3.0-or-later
"""What an idle session costs in user memory: at most 1.5 KiB. (tls_test.py: and with TLS.)"""

import harness


class Idle(harness.TestCase):
    SESSIONS = 2000
    LIMIT = 1.5 * 1024  # octets for each
    OPTIONS = {}  # of ringmx

    def client(self, n):
        """The n-th client; from one of sixteen addresses, so that every reactor has some."""
        return self.proxy.client(source=f"127.0.0.{n % 16 + 1}")

    def setUp(self):
        if harness.sanitized():
            self.skipTest("a sanitizer's memory is not ringmx's")
        self.sink_ = self.sink()
        self.proxy = self.ringmx([self.sink_], **self.OPTIONS)
        # One client's worth of everything that is allocated once: each receive buffer is used in
        # turn, and each reactor needs its pool.
        for n in range(16):
            with self.client(n) as client:
                client.ehlo()
                for _ in range(100):
                    client.deliver()
                client.quit()
        self.settled(0)
        self.sink_.messages.clear()
        self.before = self.memory()

    def memory(self):
        """Octets of private memory that is not a file's."""
        with open(f"/proc/{self.proxy.pid}/smaps_rollup", encoding="ascii") as rollup:
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup.readlines()[1:]}
        return max(sizes["Anonymous"], sizes["Private_Dirty"])

    def settled(self, sessions):
        harness.eventually(lambda: self.proxy.metrics().total("ringmx_connections_current") == sessions,
                           f"{sessions} sessions")

    def sessions(self):
        for n in range(self.SESSIONS):
            client = self.client(n)
            self.addCleanup(client.close)
            yield client

    def check(self, what):
        self.settled(self.SESSIONS)
        cost = (self.memory() - self.before) / self.SESSIONS
        print(f"{cost:.0f} octets for each of {self.SESSIONS} sessions {what}")
        self.assertLessEqual(cost, self.LIMIT)

    def test_after_the_greeting(self):
        list(self.sessions())
        self.check("after the greeting")

    def test_after_ehlo(self):
        for client in self.sessions():
            client.ehlo()
        self.check("after EHLO")

    def test_after_a_message(self):
        for client in self.sessions():
            client.ehlo()
            client.deliver(b"Subject: x\r\n\r\n" + b"x" * 76 + b"\r\n")
        self.check("after a message")
        self.assertEqual(len(self.sink_.messages), self.SESSIONS)

    def test_after_messages_at_the_same_time(self):
        """What a transaction needs is given back when it is over."""
        clients = list(self.sessions())
        for begin in range(0, self.SESSIONS, 100):
            group = clients[begin:begin + 100]
            for client in group:
                client.ehlo()
                client.begin()
                client.command("DATA", 354)
            for client in group:
                client.send(b"x" * 998 + b"\r\n.\r\n")
            for client in group:
                client.expect(250)
        self.check("after messages, a hundred at a time")


if __name__ == "__main__":
    harness.main()
