// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/probe.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace ringmx::ring {

namespace {

std::string kernel_release() {
  utsname name{};
  return uname(&name) == 0 ? std::string(name.release) : std::string("unknown");
}

std::string why_no_ring(int error) {
  const std::string what = std::string("io_uring can't be used: ") + std::strerror(error) + ". ";
  switch (error) {
    case ENOSYS:
      return what +
             "The kernel was built without io_uring, or a seccomp filter (of a container?) hides "
             "io_uring_setup.";
    case EPERM: {
      int disabled = 0;
      std::ifstream("/proc/sys/kernel/io_uring_disabled") >> disabled;
      if (disabled == 0)
        return what + "A seccomp filter or security module forbids io_uring_setup; allow it for ringmx.";
      return what + "The sysctl kernel.io_uring_disabled is " + std::to_string(disabled) + "; set it to 0" +
             (disabled == 1 ? ", or add ringmx's group to kernel.io_uring_group." : ".");
    }
    case EINVAL:
      return what + "ringmx needs kernel 6.1 or later (this one is " + kernel_release() + ").";
    case ENOMEM:
      return what + "Raise the limit of locked memory (ulimit -l, LimitMEMLOCK=).";
    case EMFILE:
    case ENFILE:
      return what + "Raise the limit of open files (ulimit -n, LimitNOFILE=).";
    default:
      return what;
  }
}

// Submits what was prepared, and waits for a completion that has `flags`. 0 or an errno.
int complete(io_uring& ring, unsigned flags, int& result) {
  io_uring_cqe* cqe = nullptr;
  __kernel_timespec patience{.tv_sec = 5, .tv_nsec = 0};
  const int error = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &patience, nullptr);
  if (error < 0) return -error;
  result = cqe->res;
  const bool as_wanted = (cqe->flags & flags) == flags;
  io_uring_cqe_seen(&ring, cqe);
  if (result < 0) return -result;
  return as_wanted ? 0 : EINVAL;
}

// A multishot accept, once around. 0 or an errno. A unix socket with a name of the kernel's choice: there
// need be no network.
int try_accept(io_uring& ring) {
  const int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{.sun_family = AF_UNIX, .sun_path = {}};
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  socklen_t size = sizeof name;
  int error = 0;
  int accepted = -1;
  if (listening < 0 || client < 0 || bind(listening, address, sizeof name.sun_family) != 0 ||
      listen(listening, 1) != 0 || getsockname(listening, address, &size) != 0 ||
      connect(client, address, size) != 0) {
    error = errno;
  } else {
    io_uring_prep_multishot_accept(io_uring_get_sqe(&ring), listening, nullptr, nullptr, SOCK_CLOEXEC);
    error = complete(ring, IORING_CQE_F_MORE, accepted);
  }
  for (const int fd : {listening, client, accepted})
    if (fd >= 0) close(fd);
  return error;
}

// A multishot receive out of a provided buffer ring in `memory`, once around. 0 or an errno.
int try_receive(io_uring& ring, void* memory) {
  constexpr unsigned entries = 8;
  auto* const buffers = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(buffers);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
  registration.ring_entries = entries;
  if (const int error = -io_uring_register_buf_ring(&ring, &registration, 0); error != 0) return error;
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return errno;
  char* const buffer = static_cast<char*>(memory) + sizeof(io_uring_buf) * entries;
  io_uring_buf_ring_add(buffers, buffer, 16, 0, io_uring_buf_ring_mask(entries), 0);
  io_uring_buf_ring_advance(buffers, 1);
  io_uring_sqe* entry = io_uring_get_sqe(&ring);
  io_uring_prep_recv_multishot(entry, pair[0], nullptr, 0, 0);
  entry->flags |= IOSQE_BUFFER_SELECT;
  int received = 0;
  const int error =
      write(pair[1], "x", 1) == 1 ? complete(ring, IORING_CQE_F_MORE | IORING_CQE_F_BUFFER, received) : EIO;
  close(pair[0]);
  close(pair[1]);
  return error;
}

// All that the reactor needs, on a ring of its own. 0 or an errno.
int try_everything(unsigned& features) {
  constexpr std::size_t page = 4096;
  io_uring ring{};
  io_uring_params params{};
  params.flags = setup_flags;
  if (const int error = -io_uring_queue_init_params(8, &ring, &params); error != 0) return error;
  features = params.features;
  constexpr unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
  int error = (features & needed) == needed ? 0 : EINVAL;
  void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) error = errno;
  if (error == 0) error = try_accept(ring);
  if (error == 0) error = try_receive(ring, memory);
  // The ring goes first: until then the kernel may still look at the buffers.
  io_uring_queue_exit(&ring);
  if (memory != MAP_FAILED) munmap(memory, page);
  return error;
}

}  // namespace

Probe probe() {
  Probe result;
  unsigned features = 0;
  if (const int error = try_everything(features); error != 0) {
    result.summary = why_no_ring(error);
    return result;
  }
  result.usable = true;
  result.summary = "kernel " + kernel_release() +
                   ": io_uring with single issuer, deferred task work, multishot accept and receive, "
                   "provided buffer rings" +
                   ((features & feature_min_wait) != 0 ? ", waits that gather completions" : "");
  return result;
}

}  // namespace ringmx::ring
