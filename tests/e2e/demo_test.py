# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/demo, on a tree that is built: it starts quickly, says where everything is, shows what
arrives and ends cleanly, without a terminal and on ports that are free."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import harness


class Demo(harness.TestCase):
    def setUp(self):
        if os.path.realpath(harness.RINGMX) != str(harness.SOURCE_ROOT / "build" / "ringmx"):
            self.skipTest("tools/demo runs build/ringmx, and that is not what is tested")
        # The usual port is taken, whoever else may hold it.
        self.taken = socket.socket()
        self.addCleanup(self.taken.close)
        with contextlib.suppress(OSError):
            self.taken.bind(("127.0.0.1", 2525))
            self.taken.listen()
        self.mail = harness.temporary_directory() / "mail"

    def start(self):
        started = time.monotonic()
        demo = subprocess.Popen([harness.SOURCE_ROOT / "tools" / "demo", self.mail], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True)
        self.addCleanup(demo.stdout.close)
        self.addCleanup(demo.wait)
        self.addCleanup(self.kill, demo)
        screen = []
        for line in demo.stdout:
            screen.append(line)
            if line.startswith("Messages, as they arrive"):
                break
        else:
            self.fail("".join(screen))
        self.assertLess(time.monotonic() - started, 2 * harness.TIMEOUT_SCALE)
        self.assertIn("ringmx", self.group(demo.pid))
        return demo, "".join(screen)

    @staticmethod
    def kill(demo):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)

    @staticmethod
    def group(leader):
        """The names of the processes in the group of `leader` that run."""
        names = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, fields = stat.read_text().split("(", 1)[1].rsplit(") ", 1)
                state, _, group = fields.split()[:3]
                if int(group) == leader and state != "Z":
                    names.append(name)
        return names

    def check_end(self, demo):
        """No child stayed behind; zombies are the init system's."""
        self.assertEqual(demo.wait(harness.PATIENCE), 0)
        self.assertNotIn("by itself", demo.stdout.read())
        self.assertEqual(self.group(demo.pid), [])

    def test_a_message_and_ctrl_c(self):
        demo, screen = self.start()
        self.assertLessEqual(len(screen.splitlines()), 24)
        address = re.search(r"mail goes to +(\S+)", screen)[1]
        self.assertNotEqual(address, "127.0.0.1:2525")
        with harness.Client(address) as client:
            client.ehlo()
            client.deliver(b"Subject: x\r\n\r\n.\r\n", recipient="somebody@example.test")
            client.quit()
        line = demo.stdout.readline()
        self.assertIn("<somebody@example.test>", line)
        self.assertEqual((self.mail / "000001.eml").read_bytes(), b"Subject: x\r\n\r\n.\r\n")
        metrics = re.search(r"http://(127\.0\.0\.1:\d+)/metrics", screen)[1]
        self.assertEqual(harness.Metrics.scrape(metrics).total("ringmx_messages_total", result="accepted"), 1)
        os.killpg(demo.pid, signal.SIGINT)  # what Ctrl-C does
        self.check_end(demo)

    def test_the_line_to_copy(self):
        demo, screen = self.start()
        line, = re.findall(r"^  (swaks|curl|python3|echo)(.*)$", screen, re.M)
        status, output, errors = harness.run(["sh", "-c", "".join(line)])
        self.assertEqual(status, 0, output + errors)
        self.assertIn("octets", demo.stdout.readline())
        demo.send_signal(signal.SIGTERM)
        self.check_end(demo)


if __name__ == "__main__":
    harness.main()
