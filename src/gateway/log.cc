// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/log.h"

#include <poll.h>
#include <unistd.h>

#include <string>
#include <utility>

namespace ringmx::gateway {

namespace {

constexpr policy::Rate rate = policy::Rate::per_second(Log::lines_per_second);
constexpr ring::Duration summary_interval{1000};

// In one call, so that lines of several threads do not mix. A pipe that says it can be written to has room
// for a page; a line is shorter.
bool write_line(std::string_view text) {
  pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (poll(&standard_error, 1, 0) != 1 || (standard_error.revents & POLLOUT) == 0) return false;
  const std::string line = std::string("ringmx: ").append(text.substr(0, 1024)).append("\n");
  return write(STDERR_FILENO, line.data(), line.size()) >= 0;
}

}  // namespace

void Log::line(std::string_view text) {
  if (bucket_.take(rate, reactor_.now().time_since_epoch().count()) && write_line(text)) return;
  if (left_out_++ == 0) reactor_.timers().set(timer_, reactor_.now() + summary_interval);
}

void Log::say_left_out() {
  const std::uint64_t count = std::exchange(left_out_, 0);
  if (write_line(std::to_string(count) + (count == 1 ? " further line was" : " further lines were") +
                 " left out: more than " + std::to_string(lines_per_second) + " a second"))
    return;
  left_out_ = count;
  reactor_.timers().set(timer_, reactor_.now() + summary_interval);
}

}  // namespace ringmx::gateway
