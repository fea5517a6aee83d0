// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>

#include "ring/reactor.h"

namespace ringmx::ring {

// A reactor that a test runs turn by turn, so that it can play the peer in between.
class Loop {
 public:
  explicit Loop(const ReactorOptions& options = {}) : reactor(statistics, options) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_.data()), 0);
  }
  ~Loop() {
    for (const int fd : pair_) ::close(fd);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  ReactorStatistics statistics;
  Reactor reactor;

  // One turn, with everything that is ready by now, that does not wait.
  void turn() {
    char c = 0;
    reactor.send(send_, pair_[0], &c, 1);  // done as soon as it is submitted
    while (send_.pending()) reactor.run();
    EXPECT_EQ(recv(pair_[1], &c, 1, MSG_DONTWAIT), 1);
  }
  // Turns until nothing happens any more but what takes time: a turn submits nothing of others.
  void settle() {
    std::uint64_t before = 0;
    do {
      do turn();
      while (something_is_ready(0));
      before = statistics.submissions.value();
      turn();
    } while (statistics.submissions.value() - before > 1 || something_is_ready(0));
  }
  // Turns until `done`; false if that takes too long.
  template <class Predicate>
  [[nodiscard]] bool run_until(Predicate done) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    // The predicate may play the peer: as long as that gives the reactor something to do, don't wait.
    for (int idle = 0; !done(); ++idle) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      settle();
      if (something_is_ready(idle > 20 ? 1 : 0)) idle = 0;
    }
    return true;
  }

 private:
  static constexpr std::chrono::seconds patience{10};

  bool something_is_ready(int milliseconds) {
    pollfd ready{.fd = reactor.ring_fd(), .events = POLLIN, .revents = 0};
    return poll(&ready, 1, milliseconds) > 0;
  }
  void on_send(int result, unsigned) {
    EXPECT_EQ(result, 1);
    reactor.stop();
  }

  std::array<int, 2> pair_{};
  OperationOf<&Loop::on_send> send_{*this};
};

}  // namespace ringmx::ring
