# SPDX-License-Identifier: GPL-3.0-or-later
"""Through ringmx into a real Postfix that delivers to a maildir: every message there once, octet
for octet.

The Postfix is an instance of its own: configuration, queue, data and log below a temporary
directory, a loopback address of this test's own. It needs root, as every Postfix does."""

import collections
import os
import pwd
import re
import smtplib
import subprocess
import unittest

import harness


class Postfix:
    SERVICES = """\
smtp      inet  n  -  n  -  100 smtpd
pickup    unix  n  -  n  60 1   pickup
cleanup   unix  n  -  n  -  0   cleanup
qmgr      unix  n  -  n  300 1  qmgr
rewrite   unix  -  -  n  -  -   trivial-rewrite
bounce    unix  -  -  n  -  0   bounce
defer     unix  -  -  n  -  0   bounce
trace     unix  -  -  n  -  0   bounce
verify    unix  -  -  n  -  1   verify
flush     unix  n  -  n  1000? 0 flush
proxymap  unix  -  -  n  -  -   proxymap
virtual   unix  -  n  n  -  20  virtual
error     unix  -  -  n  -  -   error
retry     unix  -  -  n  -  -   error
showq     unix  n  -  n  -  -   showq
anvil     unix  -  -  n  -  1   anvil
tlsmgr    unix  -  -  n  1000? 1 tlsmgr
postlog   unix-dgram n - n - 1  postlogd
"""

    def __init__(self, **parameters):
        if os.geteuid() != 0:
            raise unittest.SkipTest("Postfix needs root")
        self.command = harness.program("postfix")
        try:
            pwd.getpwnam("postfix")
        except KeyError:
            raise unittest.SkipTest("there is no user postfix") from None
        self.directory = harness.temporary_directory()
        os.chmod(self.directory, 0o755)
        self.address = harness.free_address()
        self.config = self.directory / "config"
        self.maildir = self.directory / "mail" / "box"
        self.log = self.directory / "log"
        for name in ("config", "queue", "data", "mail"):
            (self.directory / name).mkdir()
        # Everybody's, since the delivery agent is nobody.
        os.chmod(self.directory / "mail", 0o777)
        os.chown(self.directory / "data", pwd.getpwnam("postfix").pw_uid, -1)
        nobody = pwd.getpwnam("nobody")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "maillog_file": self.log,
            "maillog_file_prefixes": self.directory,
            "inet_interfaces": "127.0.0.1",  # an interface's; where it listens stands in master.cf
            "inet_protocols": "ipv4",
            "myhostname": "mta.example.test",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": "static:ALL",
            "virtual_mailbox_base": self.directory / "mail",
            "virtual_mailbox_maps": "static:box/",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_peername_lookup": "no",
            "message_size_limit": "0",
            "mailbox_size_limit": "0",
            "virtual_mailbox_limit": "0",
            "in_flow_delay": "0",
            "disable_dns_lookups": "yes",
            **parameters,
        }
        (self.config / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        (self.config / "master.cf").write_text(self.SERVICES.replace("smtp ", f"{self.address} ", 1))
        status, _, errors = harness.run([self.command, "-c", self.config, "check"])
        if status != 0:
            raise AssertionError(f"postfix check: {errors}")
        self.master = harness.Process([self.command, "-c", self.config, "start-fg"])
        try:
            self.master.wait_for_listener(self.address)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text() if self.log.exists() else ''}") from None

    def stop(self):
        """Its children have process groups of their own: Postfix has to end them."""
        subprocess.run([self.command, "-c", str(self.config), "abort"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30 * harness.TIMEOUT_SCALE)
        self.master.kill()

    def delivered(self, count, seconds=60):
        """The messages in the maildir, once there are so many and the queue is empty."""
        def all_there():
            return len(list(self.maildir.glob("new/*"))) >= count and not self.queued()
        try:
            harness.eventually(all_there, f"{count} messages in the maildir", seconds)
        except AssertionError as error:
            log = self.log.read_text().splitlines()[-20:] if self.log.exists() else []
            raise AssertionError("\n".join([f"{error}; {len(list(self.maildir.glob('new/*')))} there", *log])) from None
        return [path.read_bytes() for path in self.maildir.glob("new/*")]

    def queued(self):
        queue = self.directory / "queue"
        return [path for name in ("incoming", "active", "deferred", "maildrop", "corrupt")
                for path in (queue / name).rglob("*") if path.is_file()]


def postfix(test, **parameters):
    instance = Postfix(**parameters)
    test.addCleanup(instance.stop)
    return instance


class OctetForOctet(harness.TestCase):
    # As the maildir has them: LF for CRLF.
    BODIES = [
        b"",
        b"\n",
        b"\n\n\n",
        b".\n",
        b"..\n",
        b"...\n",
        b".\n.\n.\n",
        b".leading\n",
        b"text\n.\ntext\n",
        b"text\n.\n",
        b"text\n..\n",
        b"text.\n",
        b"text\n\n.\n\n",
        b"From here\nFrom there\n",
        b"MAIL FROM:<a@example.test>\nRCPT TO:<b@example.test>\nDATA\n.\nQUIT\n",
        b"x" * 998 + b"\n",
        b"x" * 10_000 + b"\n" + b"." * 10_000 + b"\n",
        bytes(range(0x80, 0x100)) + b"\n" + "ÄÖÜ \u2603\n".encode(),
        b" \n\t\n trailing \t \n",
        b".\n" * 50_000,
        (b"." * 75 + b"\n") * 20_000,
        b"".join(b"%d\n" % n for n in range(100_000)),
    ]

    def check(self, send, **parameters):
        mta = postfix(self, **parameters)
        proxy = self.ringmx([mta.address])
        for n, body in enumerate(self.BODIES):
            with proxy.client() as client:
                client.ehlo()
                client.begin()
                content = b"X-Test: %d\r\nMIME-Version: 1.0\r\n\r\n" % n + body.replace(b"\n", b"\r\n")
                send(client, content)
                client.quit()
        found = collections.defaultdict(list)
        for message in mta.delivered(len(self.BODIES)):
            # What Postfix puts in front ends where our own first header begins.
            number, body = re.search(rb"^X-Test: (\d+)\n(?:.+\n)*\n", message, re.M)[1], message.split(b"\n\n", 1)[1]
            found[int(number)].append(body)
        self.assertEqual(sorted(found), list(range(len(self.BODIES))))
        for n, body in enumerate(self.BODIES):
            with self.subTest(body=body[:100]):
                self.assertEqual(len(found[n]), 1, "delivered more than once")
                self.assertEqual(found[n][0], body)

    def test_data(self):
        def send(client, content):
            client.command("DATA", 354)
            client.send(harness.stuffed(content) + b".\r\n")
            client.expect(250)
        self.check(send)

    def send_in_chunks(self, client, content):
        size = max(1, len(content) // 3)
        for begin in range(0, len(content), size):
            last = b" LAST" if begin + size >= len(content) else b""
            chunk = content[begin:begin + size]
            client.send(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
            client.expect(250)

    def test_chunks(self):
        self.check(self.send_in_chunks)

    def test_smtplib(self):
        mta = postfix(self)
        proxy = self.ringmx([mta.address])
        host, _, port = proxy.address().rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=harness.PATIENCE) as client:
            for n in range(5):
                client.sendmail("sender@example.test", "recipient@example.test", b"Subject: %d\r\n\r\n.dot\r\n" % n)
        messages = mta.delivered(5)
        self.assertEqual(sorted(re.search(rb"^Subject: (\d)", m, re.M)[1] for m in messages),
                         [b"%d" % n for n in range(5)])
        self.assertEqual({message.split(b"\n\n", 1)[1] for message in messages}, {b".dot\n"})


class Load(harness.TestCase):
    def check(self, messages, *options):
        messages = harness.load(messages)
        source = harness.program("smtp-source")
        mta = postfix(self)
        proxy = self.ringmx([mta.address])
        status, _, errors = harness.run([source, *options, "-m", str(messages), "-f", "sender@example.test", "-t",
                                         "recipient@example.test", proxy.address()], seconds=120)
        self.assertEqual((status, errors), (0, ""))
        delivered = mta.delivered(messages)
        self.assertEqual(len(delivered), messages)
        identities = collections.Counter(re.search(rb"^Message-I[Dd]: (.*)$", m, re.M)[1] for m in delivered)
        self.assertEqual(len(identities), messages)
        self.assertEqual(len({m.split(b"\n\n", 1)[1] for m in delivered}), 1, "bodies differ")

    def test_a_session_per_message(self):
        self.check(2000, "-s", "20", "-l", "4096")

    def test_kept_sessions(self):
        self.check(2000, "-d", "-s", "20")


if __name__ == "__main__":
    harness.main()
