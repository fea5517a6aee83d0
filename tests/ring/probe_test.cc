// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/probe.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <functional>
#include <string>

namespace ringmx::ring {
namespace {

// What probe() says in a process of its own after `prepare`; "usable" in front if it is.
std::string probe_after(const std::function<bool()>& prepare) {
  std::array<int, 2> pipe_fds{};
  EXPECT_EQ(pipe(pipe_fds.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    std::string said = "can't prepare";
    if (prepare()) {
      const Probe result = probe();
      said = (result.usable ? "usable " : "") + result.summary;
    }
    const ssize_t n = write(pipe_fds[1], said.data(), said.size());
    _exit(n == static_cast<ssize_t>(said.size()) ? 0 : 1);
  }
  close(pipe_fds[1]);
  std::string said(4096, '\0');
  const ssize_t n = read(pipe_fds[0], said.data(), said.size());
  close(pipe_fds[0]);
  said.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  return said;
}

// What a container's seccomp filter does: `call` fails with `error`.
bool forbid(long call, int error) {
  auto instructions = std::to_array<sock_filter>({
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  });
  const sock_fprog program{.len = instructions.size(), .filter = instructions.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(Probe, SaysWhatItChoseOrWhatToDo) {
  const Probe result = probe();
  EXPECT_FALSE(result.summary.empty());
  EXPECT_FALSE(contains(result.summary, "\n"));
  EXPECT_EQ(contains(result.summary, "multishot accept and receive"), result.usable) << result.summary;
  EXPECT_EQ(contains(result.summary, "io_uring can't be used"), !result.usable) << result.summary;
}

TEST(Probe, NamesTheMendWhereTheRingIsForbidden) {
  if (probe_after([] { return forbid(SYS_io_uring_setup, ENOSYS); }) == "can't prepare") {
    GTEST_SKIP() << "no seccomp filter can be set here";
  }
  const auto with = [](int error) { return probe_after([=] { return forbid(SYS_io_uring_setup, error); }); };
  EXPECT_TRUE(contains(with(ENOSYS), "seccomp")) << with(ENOSYS);
  EXPECT_TRUE(contains(with(EINVAL), "kernel 6.1")) << with(EINVAL);
  EXPECT_TRUE(contains(with(ENOMEM), "ulimit -l")) << with(ENOMEM);
  int disabled = 0;
  std::ifstream("/proc/sys/kernel/io_uring_disabled") >> disabled;
  EXPECT_TRUE(contains(with(EPERM), disabled == 0 ? "seccomp" : "kernel.io_uring_disabled")) << with(EPERM);
}

TEST(Probe, TriesMoreThanTheSetUp) {
  if (!probe().usable) GTEST_SKIP() << probe().summary;
  // A kernel before 5.19 has no provided buffer rings.
  const std::string said = probe_after([] { return forbid(SYS_io_uring_register, EINVAL); });
  if (said == "can't prepare") GTEST_SKIP() << "no seccomp filter can be set here";
  EXPECT_TRUE(said.starts_with("io_uring can't be used")) << said;
  EXPECT_TRUE(contains(said, "kernel 6.1")) << said;
}

// What it says where a process may open `descriptors` more files.
std::string probe_with(rlim_t descriptors) {
  return probe_after([=] {
    const int next = dup(0);
    close(next);
    const rlim_t most = static_cast<rlim_t>(next) + descriptors;
    const rlimit limit{.rlim_cur = most, .rlim_max = most};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
  });
}

TEST(Probe, NamesTheLimitOfOpenFiles) {
  if (!probe().usable) GTEST_SKIP() << probe().summary;
  EXPECT_TRUE(contains(probe_with(0), "ulimit -n")) << probe_with(0);
}

// A ring, a listening socket and a client are enough for all but the connection that the ring accepts, and
// the descriptor that it takes before it sees that nobody else waits.
TEST(Probe, AcceptsAConnection) {
  if (!probe().usable) GTEST_SKIP() << probe().summary;
  EXPECT_TRUE(contains(probe_with(3), "ulimit -n")) << probe_with(3);
  EXPECT_TRUE(contains(probe_with(5), "usable")) << probe_with(5);
}

}  // namespace
}  // namespace ringmx::ring
