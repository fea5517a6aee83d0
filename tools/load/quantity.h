// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ringmx::load {

using Nanoseconds = std::int64_t;
inline constexpr Nanoseconds second = 1'000'000'000;

// How numbers are written on the command line; nothing if it is none.
[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view text);
[[nodiscard]] std::optional<double> parse_decimal(std::string_view text);  // >= 0
// "4096", "4KiB", "4k", "1MiB", "1M"; k, M, G are powers of 1024.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
// "30s", "250ms", "5m", "1h", "1.5s"; a bare number means seconds.
[[nodiscard]] std::optional<Nanoseconds> parse_duration(std::string_view text);

// The shortest notation that means the same: "4KiB", "1000"; "10s", "250ms".
[[nodiscard]] std::string format_size(std::uint64_t octets);
[[nodiscard]] std::string format_duration(Nanoseconds duration);

}  // namespace ringmx::load
