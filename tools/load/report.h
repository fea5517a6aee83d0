// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "load/options.h"
#include "load/statistics.h"

namespace ringmx::load {

// The first few errors of a kind, in words.
struct Sample {
  std::string kind;  // "rcpt 550", "connect refused"
  std::string text;
};

// What all threads have counted.
struct Results {
  Totals totals;
  std::array<Distribution, span_count> spans;
  std::array<std::array<std::uint64_t, code_count>, smtp::stage_count> replies{};
  std::array<std::array<std::uint64_t, place_count>, failure_count> failures{};
  TlsCounts tls;
  Nanoseconds elapsed = 0;  // from the start to the end of the last message; idle: of the run
  bool interrupted = false;
  std::vector<Sample> samples;

  void add(const Statistics& statistics) noexcept;
};

// All that was asked for was done and accepted, as far as --tolerate wants it.
[[nodiscard]] bool satisfied(const Options& options, const Results& results) noexcept;

// `target`: the address that was connected to.
[[nodiscard]] std::string text_report(const Options& options, std::string_view target,
                                      const Results& results);
[[nodiscard]] std::string json_report(const Options& options, std::string_view target,
                                      const Results& results);

// One line per interval of the live display.
class Progress {
 public:
  // What is above the lines.
  [[nodiscard]] static std::string_view head() noexcept;
  // `messages`: Span::message of all threads up to now.
  [[nodiscard]] std::string line(Nanoseconds time, const Totals& totals, const Distribution& messages);

 private:
  Nanoseconds time_ = 0;
  Totals totals_;
  Distribution messages_;
};

// "0.042 ms" and the like are written with so many digits as are known.
[[nodiscard]] std::string milliseconds(std::uint64_t nanoseconds);
// `text` on one line, whatever it holds, and not too long.
[[nodiscard]] std::string on_one_line(std::string_view text);

}  // namespace ringmx::load
