// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"

namespace ringmx::config {

// How values are written in a configuration: text in, value or fault out. Knows nothing of TOML.

// What is wrong with a value, and what to write instead.
struct Fault {
  std::string message;
  std::string mend;
};

// "512B", "64KiB", "50MiB", "1GiB", "1TiB". More than 64 bits hold becomes the largest number, so
// that a check of the range says what is wrong.
[[nodiscard]] std::optional<Fault> parse_size(std::string_view text, std::uint64_t& octets);
// "250ms", "30s", "5m", "1h". Too long becomes the longest.
[[nodiscard]] std::optional<Fault> parse_duration(std::string_view text, std::chrono::milliseconds& out);
// See Endpoint. The host is stored in the one form that RFC 5952 recommends, so that equal
// addresses compare equal.
[[nodiscard]] std::optional<Fault> parse_endpoint(std::string_view text, Endpoint& out);

// See ServiceAddress.
[[nodiscard]] std::optional<Fault> parse_service_address(std::string_view text, ServiceAddress& out);

// RFC 5321 Domain: letters, digits and hyphens; not an address literal.
[[nodiscard]] std::optional<Fault> check_domain(std::string_view text);
// The name of a listener or an upstream. It becomes a label of metrics and a word in log lines.
[[nodiscard]] std::optional<Fault> check_name(std::string_view text);
// The text behind the host name in the greeting.
[[nodiscard]] std::optional<Fault> check_banner(std::string_view text);

// What a client may ask for by SNI: a domain, or "*." and one.
[[nodiscard]] std::optional<Fault> check_server_name(std::string_view text);
// A domain, or nothing.
[[nodiscard]] std::optional<Fault> check_optional_domain(std::string_view text);
// "X-Key: value", a field of HTTP that does not say how a message ends or whom it is for.
[[nodiscard]] std::optional<Fault> check_http_header(std::string_view text);
// A name of policy::CacheField.
[[nodiscard]] std::optional<Fault> check_cache_field(std::string_view text);
// The name of a file.
[[nodiscard]] std::optional<Fault> check_path(std::string_view text);

// "192.0.2.0/24", "2001:db8::/32", or an address alone. Bits of the host must be 0.
[[nodiscard]] std::optional<Fault> parse_network(std::string_view text, policy::Network& out);
[[nodiscard]] std::optional<Fault> check_network(std::string_view text);
// An address, as getpeername(2) has it; nothing if it is none.
[[nodiscard]] std::optional<policy::Address> parse_client_address(std::string_view text);
// "192.0.2.1", "2001:db8::1"
[[nodiscard]] std::string format_address(const policy::Address& address);
// 64 hexadecimal digits, with or without colons between the octets.
[[nodiscard]] std::optional<Fault> parse_fingerprint(std::string_view text, policy::Fingerprint& out);
[[nodiscard]] std::optional<Fault> check_fingerprint(std::string_view text);
// What policy::Domains take: a domain, as a client may write it, or its sub-domains.
[[nodiscard]] std::optional<Fault> check_domain_pattern(std::string_view text);
// The same, or "<>".
[[nodiscard]] std::optional<Fault> check_sender_pattern(std::string_view text);
// A code and a text, or nothing.
[[nodiscard]] std::optional<Fault> check_rule_reply(std::string_view text);

// The shortest notation that means the same: "50MiB", "1000"; "5m", "250ms".
[[nodiscard]] std::string format_size(std::uint64_t octets);
[[nodiscard]] std::string format_duration(std::chrono::milliseconds d);

// `text` as a TOML string, on one line whatever it holds; a long one is cut off with "...".
[[nodiscard]] std::string in_quotes(std::string_view text);
// `text` with its control characters as TOML escapes.
[[nodiscard]] std::string on_one_line(std::string_view text);
// "a, b and c"
[[nodiscard]] std::string enumerate(const std::vector<std::string>& words, std::string_view conjunction);
// The one of `known` that somebody who wrote `word` probably meant; "" if none is near.
[[nodiscard]] std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known);

}  // namespace ringmx::config
