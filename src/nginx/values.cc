// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/values.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "config/notation.h"

namespace ringmx::nginx {
namespace {

// Takes a number off the front.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

constexpr std::uint64_t second = 1000, minute = 60 * second, hour = 60 * minute, day = 24 * hour;
struct Unit {
  std::string_view name;
  std::uint64_t milliseconds;
};
// In the order in which they may follow each other; "ms" before "m", of which it is no part.
constexpr Unit units[] = {{"y", 365 * day}, {"M", 30 * day}, {"w", 7 * day}, {"d", day},
                          {"h", hour},      {"ms", 1},       {"m", minute},  {"s", second}};

bool is_numeric(const std::string& host) {
  config::Endpoint endpoint;
  return !config::parse_endpoint(host + ":1", endpoint);
}

std::optional<std::uint16_t> take_port(std::string_view& text) {
  const auto number = take_number(text);
  if (!number || *number == 0 || *number > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

}  // namespace

std::optional<std::uint64_t> parse_time(std::string_view text) {
  std::uint64_t total = 0;
  std::uint64_t previous = std::numeric_limits<std::uint64_t>::max();
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const auto number = take_number(text);
    if (!number) return std::nullopt;
    const auto* unit = std::find_if(std::begin(units), std::end(units),
                                    [&](const Unit& u) { return text.starts_with(u.name); });
    std::uint64_t factor = second;
    if (unit != std::end(units)) {
      factor = unit->milliseconds;
      text.remove_prefix(unit->name.size());
    } else if (!text.empty() && text.front() != ' ') {
      return std::nullopt;
    }
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    if (factor >= previous || *number > 100'000'000) return std::nullopt;
    previous = factor;
    total += *number * factor;
  }
  return total;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto number = take_number(text);
  if (!number || *number > std::numeric_limits<std::uint32_t>::max() || text.size() > 1) return std::nullopt;
  if (text.empty()) return number;
  switch (text.front()) {
    case 'k':
    case 'K':
      return *number * 1024;
    case 'm':
    case 'M':
      return *number * 1024 * 1024;
    default:
      return std::nullopt;
  }
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  const auto number = take_number(text);
  return text.empty() ? number : std::nullopt;
}

std::optional<bool> parse_flag(std::string_view text) {
  if (text == "on") return true;
  if (text == "off") return false;
  return std::nullopt;
}

std::optional<ListenAddress> parse_listen(std::string_view text) {
  ListenAddress out;
  if (text.starts_with("unix:")) {
    out.kind = ListenAddress::Kind::unix_socket;
    out.host = text.substr(5);
    return out;
  }
  const std::size_t bracket = text.rfind(']');
  const std::size_t colon = text.find(':', bracket == text.npos ? 0 : bracket);
  std::string_view ports = colon == text.npos ? text : text.substr(colon + 1);
  out.host = colon == text.npos ? "*" : std::string(text.substr(0, colon));
  if (out.host == "*") out.host = "0.0.0.0";
  const auto first = take_port(ports);
  if (!first) return std::nullopt;
  out.first = out.last = *first;
  if (ports.starts_with('-')) {
    ports.remove_prefix(1);
    const auto last = take_port(ports);
    if (!last || *last < *first) return std::nullopt;
    out.last = *last;
  }
  if (!ports.empty() || out.host.empty()) return std::nullopt;
  if (!is_numeric(out.host)) out.kind = ListenAddress::Kind::name;
  return out;
}

std::optional<HttpAddress> parse_http(std::string_view text) {
  constexpr std::string_view scheme = "http://";
  if (text.starts_with(scheme)) text.remove_prefix(scheme.size());
  HttpAddress out;
  out.target = "/";
  if (text.starts_with("unix:")) {
    const std::size_t colon = text.find(':', 5);
    out.address = text.substr(0, colon);
    out.host = "localhost";
    out.numeric = out.address.size() > 6 && out.address[5] == '/';
    if (colon != text.npos && colon + 1 < text.size()) out.target = text.substr(colon + 1);
    return out.numeric ? std::optional(std::move(out)) : std::nullopt;
  }
  const std::size_t slash = text.find_first_of("/?");
  if (slash != text.npos) out.target = text.substr(slash);
  const std::string_view authority = text.substr(0, slash);
  const std::size_t bracket = authority.rfind(']');
  const std::size_t colon = authority.find(':', bracket == authority.npos ? 0 : bracket);
  std::string host(authority.substr(0, colon));
  std::uint16_t port = 80;
  if (colon != authority.npos) {
    std::string_view digits = authority.substr(colon + 1);
    const auto number = take_port(digits);
    if (!number || !digits.empty()) return std::nullopt;
    port = *number;
  }
  if (host.empty()) return std::nullopt;
  out.host = host;
  out.numeric = is_numeric(host);
  out.address = host + ":" + std::to_string(port);
  return out;
}

}  // namespace ringmx::nginx
