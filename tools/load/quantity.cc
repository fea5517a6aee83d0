// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/quantity.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

namespace ringmx::load {

namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
constexpr std::array size_units{Unit{"", 1},          Unit{"B", 1},         Unit{"k", 1 << 10},
                                Unit{"K", 1 << 10},   Unit{"KiB", 1 << 10}, Unit{"M", 1 << 20},
                                Unit{"MiB", 1 << 20}, Unit{"G", 1 << 30},   Unit{"GiB", 1 << 30}};
constexpr std::array time_units{Unit{"", 1'000'000'000},     Unit{"us", 1'000},
                                Unit{"ms", 1'000'000},       Unit{"s", 1'000'000'000},
                                Unit{"m", 60'000'000'000},   Unit{"min", 60'000'000'000},
                                Unit{"h", 3'600'000'000'000}};

template <class Units>
std::optional<std::uint64_t> parse(std::string_view text, const Units& units) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const std::optional<double> number = parse_decimal(text.substr(0, end));
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (text.substr(end) != unit.name) continue;
    const double value = *number * static_cast<double>(unit.factor);
    if (value >= 0x1p62) return std::nullopt;
    return static_cast<std::uint64_t>(std::llround(value));
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_decimal(std::string_view text) {
  double value = 0;
  if (text.find_first_not_of("0123456789.") != text.npos) return std::nullopt;  // no sign, exponent, "inf"
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  return parse(text, size_units);
}

std::optional<Nanoseconds> parse_duration(std::string_view text) {
  const auto value = parse(text, time_units);
  if (!value) return std::nullopt;
  return static_cast<Nanoseconds>(*value);
}

std::string format_size(std::uint64_t octets) {
  std::string_view unit;
  for (const std::string_view larger : {"KiB", "MiB", "GiB"}) {
    if (octets == 0 || octets % 1024 != 0) break;
    octets /= 1024;
    unit = larger;
  }
  return std::to_string(octets).append(unit);
}

std::string format_duration(Nanoseconds duration) {
  if (duration % second != 0) return std::to_string(duration / 1'000'000) + "ms";
  const Nanoseconds seconds = duration / second;
  if (seconds == 0 || seconds % 60 != 0) return std::to_string(seconds) + "s";
  if (seconds % 3600 != 0) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds / 3600) + "h";
}

}  // namespace ringmx::load
