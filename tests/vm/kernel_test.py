# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a guest (guest.py): what its kernel has to offer is there, and ringmx finds it."""

import os
import pathlib
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import harness  # noqa: E402

# linux/tls.h, linux/tcp.h
TCP_ULP = 31
SOL_TLS, TLS_TX, TLS_RX = 282, 1, 2
TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128 = 0x0304, 51


def aes_gcm_128(key):
    """struct tls12_crypto_info_aes_gcm_128: version, cipher, IV, key, salt, record number."""
    return struct.pack("=HH8s16s4s8s", TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128, b"iv" * 4, key, b"salt", bytes(8))


class Kernel(harness.TestCase):
    def test_ringmx_finds_all_that_it_needs(self):
        proxy = self.ringmx([self.sink()])
        print(os.uname().release, *proxy.errors, sep="\n  ", flush=True)

    def test_the_ciphers_are_accelerated(self):
        ciphers = pathlib.Path("/proc/crypto").read_text(encoding="ascii").split("\n\n")
        gcm = [cipher.split("driver")[1].split()[1] for cipher in ciphers if "gcm(aes)" in cipher]
        self.assertTrue([driver for driver in gcm if "aesni" in driver or "vaes" in driver], gcm)

    def test_the_kernel_encrypts(self):
        def errors():
            return sum(int(line.split()[1]) for line in pathlib.Path("/proc/net/tls_stat").read_text().splitlines()
                       if "Error" in line or "Violation" in line)

        before = errors()
        with socket.create_server((harness.HOST, 0)) as listener:
            client = socket.create_connection(listener.getsockname(), timeout=harness.PATIENCE)
            server, _ = listener.accept()
        octets = os.urandom(100_000)
        with client, server:
            server.settimeout(harness.PATIENCE)
            client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            client.setsockopt(SOL_TLS, TLS_TX, aes_gcm_128(b"k" * 16))
            client.sendall(octets)
            self.assertEqual(server.recv(3, socket.MSG_PEEK), b"\x17\x03\x03")
            server.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            server.setsockopt(SOL_TLS, TLS_RX, aes_gcm_128(b"k" * 16))
            received = b""
            while len(received) < len(octets):
                received += server.recv(len(octets))
        self.assertEqual(received, octets)
        self.assertEqual(errors(), before)


if __name__ == "__main__":
    harness.main()
