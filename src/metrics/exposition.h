// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/counters.h"

namespace ringmx::metrics {

enum class Format : std::uint8_t {
  prometheus_text,  // text format 0.0.4
  openmetrics,      // OpenMetrics 1.0, with its # EOF
};
// By the Accept header of a scrape ("" if there was none).
[[nodiscard]] Format negotiate(std::string_view accept) noexcept;
[[nodiscard]] std::string_view content_type(Format f) noexcept;

// A certificate that a listener shows its clients.
struct Certificate {
  std::string listener;
  std::string file;
  std::int64_t not_after;  // seconds since 1970
};

// What the exposition reads.
struct Sources {
  std::string version;  // build_info
  std::vector<std::string> listener_names;
  std::vector<std::string> upstream_names;
  // Label values by smtp::Verb and smtp::Stage; at most verb_slots and stage_slots of them.
  std::vector<std::string> verb_names;
  std::vector<std::string> stage_names;
  std::vector<const ReactorCounters*> reactors;  // one per reactor
  std::vector<std::string> rule_names = {};
  std::vector<std::string> service_names = {};
  std::function<std::vector<Certificate>()> certificates = nullptr;  // asked for each page, from any thread
};

// The whole page: ringmx_* summed over reactors (uring_* per reactor), and the process_* set.
[[nodiscard]] std::string expose(const Sources& sources, Format format);

}  // namespace ringmx::metrics
