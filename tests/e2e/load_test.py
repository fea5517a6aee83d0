# SPDX-License-Identifier: GPL-3.0-or-later
"""smtp-source through ringmx into smtp-sink: no error, and the sink counts what the source sent."""

import os
import re
import time

import harness

SENDER, RECIPIENT = "sender@example.test", "recipient@example.test"


class SmtpSink(harness.Process):
    """Postfix's test sink. It writes running counters (-c) whenever a message is complete."""

    def __init__(self):
        self.address = harness.free_address()
        self.output = harness.temporary_directory() / "counters"
        drop_privileges = ["-u", "nobody"] if os.geteuid() == 0 else []
        with open(self.output, "wb") as output:
            super().__init__([harness.program("smtp-sink"), "-c", "-m", "1000", *drop_privileges, self.address,
                              "1000"], stdout=output)
        self.wait_for_listener(self.address)

    def _counted(self):
        counters = re.findall(rb"mesg=(\d+)", self.output.read_bytes())
        return int(counters[-1]) if counters else 0

    def count(self, expected):
        """What it counted, once that is at least what is expected."""
        harness.eventually(lambda: self._counted() >= expected, f"smtp-sink to count {expected}")
        return self._counted()


class Load(harness.TestCase):
    def relay(self, messages, *options, **server):
        messages = harness.load(messages)
        source = harness.program("smtp-source")
        sink = SmtpSink()
        self.addCleanup(sink.kill)
        ringmx = self.ringmx([sink.address], **server)
        status, _, errors = harness.run([source, *options, "-m", str(messages), "-f", SENDER, "-t", RECIPIENT,
                                         ringmx.address()], seconds=240)
        self.assertEqual((status, errors), (0, ""))
        self.assertEqual(sink.count(messages), messages)
        metrics = ringmx.metrics()
        self.assertEqual(metrics.total("ringmx_messages_total", result="accepted"), messages)
        self.assertEqual(metrics.total("ringmx_messages_total"), messages)
        return messages, metrics

    def test_a_session_per_message(self):
        messages, metrics = self.relay(20000, "-s", "100", "-l", "4096")
        self.assertEqual(metrics.total("ringmx_connections_accepted_total"), messages)
        # Pooled: never more upstream connections than there were sessions at a time.
        self.assertLessEqual(metrics.total("ringmx_upstream_connections_total", result="ok"),
                             100 * harness.REACTORS)

    def test_kept_sessions(self):
        messages, metrics = self.relay(50000, "-d", "-s", "100")
        self.assertEqual(metrics.total("ringmx_connections_accepted_total"), min(messages, 100))

    def test_mebibyte_messages(self):
        _, metrics = self.relay(300, "-d", "-s", "20", "-l", str(1 << 20))
        self.assertGreaterEqual(metrics.total("ringmx_bytes_sent_total", side="upstream"),
                                metrics.total("ringmx_messages_total", result="accepted") * (1 << 20))

    def test_mebibyte_messages_through_few_buffers(self):
        # Back-pressure all the way: 20 senders share 16 buffers of 16 KiB.
        self.relay(100, "-s", "20", "-l", str(1 << 20),
                   server={"receive_memory": "1MiB", "session_memory": "64KiB"})

    def test_nothing_waits(self):
        """A reply that waited for a delayed acknowledgement would cost 40 ms, each time."""
        started = time.monotonic()
        messages, _ = self.relay(200, "-d", "-s", "1", "-l", "4096")
        self.assertLess((time.monotonic() - started) / messages, 0.02 * harness.TIMEOUT_SCALE)

    def test_several_recipients(self):
        self.relay(2000, "-s", "20", "-r", "20", "-l", "2000")

    def test_an_upstream_connection_per_session(self):
        messages = harness.load(2000)
        sink = SmtpSink()
        self.addCleanup(sink.kill)
        ringmx = self.ringmx([{"address": sink.address, "reuse": False}])
        status, _, errors = harness.run([harness.program("smtp-source"), "-s", "50", "-m", str(messages),
                                         ringmx.address()], seconds=120)
        self.assertEqual((status, errors, sink.count(messages)), (0, "", messages))
        self.assertEqual(ringmx.metrics().total("ringmx_upstream_connections_total", result="ok"), messages)


if __name__ == "__main__":
    harness.main()
