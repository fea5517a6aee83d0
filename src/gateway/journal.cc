// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/journal.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <utility>

namespace ringmx::gateway {

namespace {
constexpr ring::Duration interval{1000};
}

void Journal::tell(std::string line, ring::Time now) {
  if (now < next_) {
    ++held_back_;
    return;
  }
  next_ = now + interval;
  if (const std::uint64_t more = std::exchange(held_back_, 0); more > 0)
    line += "; " + std::to_string(more) + " more since the last line";
  line.insert(0, "ringmx: ");
  // Standard error may be a pipe that nobody reads: then the line is lost, and mail goes on. A pipe that can
  // be written to takes PIPE_BUF octets at once.
  line.resize(std::min<std::size_t>(line.size(), PIPE_BUF - 1));
  line += '\n';
  pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  if (::poll(&standard_error, 1, 0) != 1) return;
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace ringmx::gateway
