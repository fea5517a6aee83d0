// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/capabilities.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <system_error>

#include "smtp/ascii.h"

namespace ringmx::smtp {
namespace {

struct Keyword {
  Extension extension;
  std::string_view name;
};

// In the order in which they are offered.
constexpr std::array<Keyword, 9> keywords{{
    {Extension::pipelining, "PIPELINING"},
    {Extension::size, "SIZE"},
    {Extension::starttls, "STARTTLS"},
    {Extension::enhanced_status_codes, "ENHANCEDSTATUSCODES"},
    {Extension::eight_bit_mime, "8BITMIME"},
    {Extension::dsn, "DSN"},
    {Extension::smtputf8, "SMTPUTF8"},
    {Extension::chunking, "CHUNKING"},
    {Extension::requiretls, "REQUIRETLS"},
}};

// The number behind SIZE. One that is not stated, or not a number, sets no limit; one that does not
// fit is as good as none, but stays a limit.
std::uint64_t parse_size_limit(std::string_view text) noexcept {
  std::uint64_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error == std::errc::result_out_of_range) return std::numeric_limits<std::uint64_t>::max();
  return limit;
}

// Calls take(word) for each word of `text`.
template <class Take>
void each_word(std::string_view text, Take take) {
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (!word.empty()) take(word);
  }
}

}  // namespace

std::string_view extension_keyword(Extension e) noexcept {
  for (const Keyword& k : keywords) {
    if (k.extension == e) return k.name;
  }
  return {};
}

bool parse_extension(std::string_view keyword, Extension& e) noexcept {
  for (const Keyword& k : keywords) {
    if (equal_ignoring_case(k.name, keyword)) {
      e = k.extension;
      return true;
    }
  }
  return false;
}

Capabilities parse_ehlo_reply(std::string_view reply) noexcept {
  constexpr std::size_t prefix = 4;  // "250-"
  Capabilities result;
  std::size_t begin = reply.find('\n');  // the first line is the server's name and a greeting
  while (begin != std::string_view::npos) {
    ++begin;
    const std::size_t end = reply.find('\n', begin);
    std::string_view line = reply.substr(begin, end == std::string_view::npos ? end : end - begin);
    begin = end;
    line.remove_prefix(line.size() < prefix ? line.size() : prefix);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string_view keyword = line.substr(0, line.find(' '));
    line.remove_prefix(keyword.size());
    if (equal_ignoring_case(keyword, "AUTH")) {
      each_word(line, [&](std::string_view name) {
        if (const auto mechanism = parse_mechanism(name)) result.auth.add(*mechanism);
      });
    } else if (equal_ignoring_case(keyword, "XCLIENT")) {
      each_word(line, [&](std::string_view attribute) {
        if (equal_ignoring_case(attribute, "LOGIN")) result.xclient_login = true;
      });
    }
    Extension extension{};
    if (!parse_extension(keyword, extension)) continue;
    result.extensions.add(extension);
    if (extension != Extension::size) continue;
    const std::size_t number = line.find_first_not_of(' ');
    result.size_limit = number == std::string_view::npos ? 0 : parse_size_limit(line.substr(number));
  }
  return result;
}

std::string format_ehlo_reply(std::string_view hostname, const Capabilities& offered) {
  std::string reply;
  std::size_t last_line = 0;
  const auto add_line = [&](std::string_view text, const std::string& argument) {
    last_line = reply.size();
    reply.append("250-").append(text).append(argument).append("\r\n");
  };
  add_line(hostname, "");
  for (const Keyword& k : keywords) {
    if (!offered.extensions.has(k.extension)) continue;
    const bool limited = k.extension == Extension::size && offered.size_limit != 0;
    add_line(k.name, limited ? std::string(1, ' ').append(std::to_string(offered.size_limit)) : "");
  }
  if (!offered.auth.empty()) {
    std::string mechanisms;
    for (std::size_t i = 0; i < mechanism_count; ++i) {
      const auto mechanism = static_cast<Mechanism>(i);
      if (offered.auth.has(mechanism)) mechanisms.append(" ").append(mechanism_name(mechanism));
    }
    add_line("AUTH", mechanisms);
  }
  reply[last_line + 3] = ' ';
  return reply;
}

}  // namespace ringmx::smtp
