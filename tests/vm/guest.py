#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command on another kernel: in a virtual machine whose files are this machine's own.

    guest.py [--timeout SECONDS] SUITE COMMAND...

SUITE is the Debian suite whose kernel it is to be (tools/kernels fetches it). The root file system is
this machine's, read-only (9p), so whatever is installed or built here is there too, at the same path. The
command gets this environment and working directory; it is root, finds an empty TMPDIR, io_uring and kTLS,
and no network but loopback. Its output and status are passed on.

Status 77, and the reason, where the kernel or QEMU can't be had.

There is no hardware virtualisation in it (TCG), so that it runs wherever the tests run. Computing takes some ten
times as long as on the machine itself, and what switches between processes some fifty times. There is one
processor: a second one would double the work.
"""

import argparse
import ctypes
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import typing

SOURCE_ROOT = pathlib.Path(__file__).resolve().parents[2]
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
SKIP = 77

# In this order. The root file system needs the first three. A TLS socket that is opened before the accelerated
# ciphers are there goes without them. A kernel that lacks one has it built in, or has it no more.
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "aesni-intel", "ghash-clmulni-intel", "chacha20poly1305", "tls"]

# Runs from the initial RAM disk, as process 1.
INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose root /host
mount -t sysfs sys /host/sys
mount -t tmpfs -o mode=1777 tmp /host/run
mount -o move /proc /host/proc
mount -o move /dev /host/dev
cp /bin/busybox /run/* /host/run/
# Process 1 shares its root directory with the kernel, whose own calls of modprobe have to find it.
exec chroot /host /run/busybox sh /run/guest
"""

# Runs on the root file system, as process 1 still. The first serial line is the kernel's, the second the
# command's, the third gets its status. stty waits until all has left that was written before.
GUEST = """
stop() {
  for line in 1 2; do /run/busybox stty -F /dev/ttyS$line raw; done
  /run/busybox poweroff -f
}
set -e
trap stop EXIT
for line in 1 2; do /run/busybox stty -F /dev/ttyS$line raw -echo; done
echo /run/modprobe >/proc/sys/kernel/modprobe
mkdir -p /dev/pts /dev/shm
mount -t devpts dev /dev/pts
mount -t tmpfs shm /dev/shm
ln -sf /proc/self/fd /dev/fd
echo '127.0.0.1 localhost' >/run/hosts
echo '::1 localhost' >>/run/hosts
echo '127.0.0.1 guest.example.test guest' >>/run/hosts
mount --bind /run/hosts /etc/hosts
hostname guest.example.test
ip link set lo up
ulimit -n 20000
set +e
/run/command </dev/null >/dev/ttyS1 2>&1
echo "status $?" >/dev/ttyS2
"""


# There are programs that know of no TMPDIR. Not where the command's own files are in it.
TMP = "mount -t tmpfs -o mode=1777 tmp /tmp\n"


class Unavailable(Exception):
    """Why no guest can be had."""


class Outcome(typing.NamedTuple):
    status: typing.Optional[int]  # the command's; None if the guest did not get that far
    output: str  # the command's standard output and standard error
    console: str  # what the kernel said


def _program(name, package):
    found = shutil.which(name, path=SEARCH_PATH)
    if not found:
        raise Unavailable(f"{name} is not installed (Debian: {package})")
    return found


def _busybox():
    found = _program("busybox", "busybox-static")
    if subprocess.run(["ldd", found], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        raise Unavailable(f"{found} is not statically linked (Debian: busybox-static)")
    return found


def kernel(suite):
    """The directory of a kernel: vmlinuz and lib/modules."""
    done = subprocess.run([SOURCE_ROOT / "tools" / "kernels", suite], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == SKIP:
        raise Unavailable(done.stderr.strip())
    if done.returncode != 0:
        raise RuntimeError(f"tools/kernels {suite}: {done.stderr}")
    return pathlib.Path(done.stdout.strip())


def _module_files(directory, release):
    """The files of MODULES and of all that they need, in the order of insmod."""
    modprobe = [_program("modprobe", "kmod"), "-d", directory, "-S", release, "-q", "--show-depends"]
    shown = "".join(subprocess.run([*modprobe, module], stdout=subprocess.PIPE, text=True).stdout for module in MODULES)
    return list(dict.fromkeys(re.findall(r"^insmod (\S+)", shown, re.M)))


def _archive(files):
    """A cpio archive (newc), as the kernel takes it for the initial RAM disk. `files`: path to (mode,
    content); directories stand before what is in them."""
    archive = bytearray()

    def add(name, mode, content):
        header = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        for part in (b"070701" + b"".join(b"%08X" % field for field in header) + name.encode() + b"\0", content):
            archive.extend(part)
            archive.extend(bytes(-len(archive) % 4))

    for name, (mode, content) in files.items():
        add(name, mode, content)
    add("TRAILER!!!", 0, b"")
    return archive


def _initial_ram_disk(directory, command, environment):
    release = next((directory / "lib" / "modules").iterdir()).name

    def script(text):
        return stat.S_IFREG | 0o755, text.encode(errors="surrogateescape")

    def exported(name, value):
        return f"export {name}={shlex.quote(value)}\n"

    files = {name: (stat.S_IFDIR | 0o755, b"")
             for name in ("bin", "dev", "host", "modules", "proc", "run")}
    files["bin/busybox"] = stat.S_IFREG | 0o755, pathlib.Path(_busybox()).read_bytes()
    for n, path in enumerate(_module_files(directory, release)):
        files[f"modules/{n:02}-{pathlib.Path(path).name}"] = stat.S_IFREG | 0o644, pathlib.Path(path).read_bytes()
    files["init"] = script(INIT)
    under_tmp = any("/tmp/" in f"{path}/" for path in [os.getcwd(), *map(str, command), environment.get("RINGMX", "")])
    files["run/guest"] = script(f"export PATH={shlex.quote(SEARCH_PATH)}\n" + ("" if under_tmp else TMP) + GUEST)
    files["run/modprobe"] = script(f'#!/bin/sh\nexec {_program("modprobe", "kmod")} -d {shlex.quote(str(directory))} "$@"\n')
    environment = {**environment, "TMPDIR": "/run", "PATH": SEARCH_PATH}
    files["run/command"] = script(
        "#!/bin/sh\n"
        + "".join(exported(name, value) for name, value in environment.items() if re.fullmatch(r"[A-Za-z_]\w*", name))
        + f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(map(str, command))}\n")
    return _archive(files)


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# TCG copies byte by byte for rep movsb, which erms and fsrm recommend.
CPU = "max,-erms,-fsrm"


def run_in_guest(suite, command, timeout, environment=None, echo=None, cpu=CPU, counting=False):
    """Runs `command` on the kernel of a Debian suite. The guest is gone when this returns, after
    `timeout` seconds at the latest. `echo` gets the output as it comes, too. `counting`: its clock is
    the number of instructions that it has executed, one for a nanosecond. Raises Unavailable."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"no kernel for {platform.machine()} here")
    qemu = _program("qemu-system-x86_64", "qemu-system-x86")
    directory = kernel(suite)
    with tempfile.TemporaryDirectory(prefix="ringmx-vm-") as temporary:
        temporary = pathlib.Path(temporary)
        ram_disk, console, status = (temporary / name for name in ("initrd", "console", "status"))
        ram_disk.write_bytes(_initial_ram_disk(directory, command, os.environ if environment is None else environment))
        guest = subprocess.Popen(
            [qemu, "-accel", "tcg", "-cpu", cpu, "-m", "2048",
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", directory / "vmlinuz", "-initrd", ram_disk,
             # A kernel that fails ends the guest. What watches for lack of progress sees the host's load.
             "-append", "console=ttyS0 quiet panic=-1 oops=panic nowatchdog mitigations=off tsc=reliable"
                        + (" nokaslr norandmaps" if counting else ""),
             *(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm,base=2026-11-24"] if counting else []),
             "-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
             "-serial", f"file:{console}", "-serial", "stdio", "-serial", f"file:{status}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent)
        timer = threading.Timer(timeout, guest.kill)
        timer.start()
        try:
            output = []
            for line in guest.stdout:
                output.append(line.decode(errors="replace"))
                if echo:
                    echo.write(output[-1])
                    echo.flush()
            guest.wait()
        finally:
            timer.cancel()
            guest.kill()
            guest.wait()
        said = re.fullmatch(r"status (\d+)\s*", status.read_text() if status.exists() else "")
        return Outcome(int(said[1]) if said else None, "".join(output), console.read_text(errors="replace"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("suite")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # clears up
    started = time.monotonic()
    try:
        outcome = run_in_guest(arguments.suite, arguments.command, arguments.timeout, echo=sys.stdout)
    except Unavailable as reason:
        print(f"SKIP: {reason}")
        return SKIP
    seconds = time.monotonic() - started
    # A warning of the kernel's counts, whatever the command thinks.
    complaint = "------------[ cut here ]------------" in outcome.console
    if outcome.status is None or complaint:
        print(outcome.console)
        what = "the kernel complains" if complaint else "the guest ended before the command"
        print(f"{what}, after {seconds:.0f} s (at most {arguments.timeout:.0f})")
        return 1
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
