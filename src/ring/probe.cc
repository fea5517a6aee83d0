// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/probe.h"

#include <sys/mman.h>
#include <sys/socket.h>
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

// A multishot receive out of a provided buffer ring, once around. 0 or an errno.
int try_receive(io_uring& ring) {
  constexpr unsigned entries = 8;
  constexpr std::size_t ring_size = 4096;
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return errno;
  void* memory = mmap(nullptr, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int error = memory == MAP_FAILED ? errno : 0;
  if (error == 0) {
    auto* buffers = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_ring_init(buffers);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
    registration.ring_entries = entries;
    error = -io_uring_register_buf_ring(&ring, &registration, 0);
    std::array<char, 16> buffer{};
    if (error == 0) {
      io_uring_buf_ring_add(buffers, buffer.data(), buffer.size(), 0, io_uring_buf_ring_mask(entries), 0);
      io_uring_buf_ring_advance(buffers, 1);
      io_uring_sqe* entry = io_uring_get_sqe(&ring);
      io_uring_prep_recv_multishot(entry, pair[0], nullptr, 0, 0);
      entry->flags |= IOSQE_BUFFER_SELECT;
      if (write(pair[1], "x", 1) != 1) error = EIO;
      io_uring_cqe* cqe = nullptr;
      __kernel_timespec patience{.tv_sec = 5, .tv_nsec = 0};
      const int result = io_uring_submit_and_wait_timeout(&ring, &cqe, 1, &patience, nullptr);
      if (error == 0 && result < 0) error = -result;
      if (error == 0 && cqe->res < 0) error = -cqe->res;
      if (error == 0 && (cqe->flags & (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER)) !=
                            (IORING_CQE_F_MORE | IORING_CQE_F_BUFFER)) {
        error = EINVAL;
      }
    }
  }
  close(pair[0]);
  close(pair[1]);
  // The ring goes first: until then the kernel may still look at the buffers. See the caller.
  io_uring_queue_exit(&ring);
  if (memory != MAP_FAILED) munmap(memory, ring_size);
  return error;
}

}  // namespace

Probe probe() {
  Probe result;
  io_uring ring{};
  io_uring_params params{};
  params.flags = setup_flags;
  int error = -io_uring_queue_init_params(8, &ring, &params);
  const unsigned features = params.features;
  if (error == 0) {
    error = (features & IORING_FEAT_EXT_ARG) == 0 || (features & IORING_FEAT_NODROP) == 0 ? EINVAL : 0;
    if (error == 0) {
      error = try_receive(ring);
    } else {
      io_uring_queue_exit(&ring);
    }
  }
  if (error != 0) {
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
