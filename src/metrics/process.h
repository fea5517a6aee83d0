// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>

namespace ringmx::metrics {

// What the kernel says about this process. Empty: it does not say (no /proc).
struct Process {
  std::optional<double> cpu_seconds;  // user and system
  std::optional<std::int64_t> open_fds;
  std::optional<std::int64_t> max_fds;
  std::optional<std::int64_t> resident_bytes;
  std::optional<std::int64_t> virtual_bytes;
  std::optional<double> start_time_seconds;  // since the epoch
};
[[nodiscard]] Process read_process();

}  // namespace ringmx::metrics
