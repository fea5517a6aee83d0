// SPDX-License-Identifier: GPL-3.0-or-later
// How nginx writes values. Nothing means that nginx would refuse it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ringmx::nginx {

// Milliseconds: "30", "30s", "1m30s", "1h 30m", "500ms".
[[nodiscard]] std::optional<std::uint64_t> parse_time(std::string_view text);
// Octets: "4096", "4k", "1M".
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view text);
// "on", "off"
[[nodiscard]] std::optional<bool> parse_flag(std::string_view text);

// The first argument of listen.
struct ListenAddress {
  enum class Kind : std::uint8_t { numeric, name, unix_socket };
  Kind kind = Kind::numeric;
  std::string host;                   // "0.0.0.0", "[::1]", "mx.example.com"; of a unix socket the path
  std::uint16_t first = 0, last = 0;  // ports
};
[[nodiscard]] std::optional<ListenAddress> parse_listen(std::string_view text);

// What auth_http names: where it is, and what is asked there.
struct HttpAddress {
  std::string address;  // "127.0.0.1:80", "[::1]:9000", "auth.example.com:80", "unix:/run/auth.sock"
  std::string host;     // as the field Host has it
  std::string target;   // "/auth"
  bool numeric = false;
};
[[nodiscard]] std::optional<HttpAddress> parse_http(std::string_view text);

}  // namespace ringmx::nginx
