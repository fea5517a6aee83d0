// SPDX-License-Identifier: GPL-3.0-or-later
#include "config/notation.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <utility>

#include "policy/answer_cache.h"

namespace ringmx::config {
namespace {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
constexpr bool is_letter(char c) {
  return lower(c) >= 'a' && lower(c) <= 'z';
}
constexpr bool is_printable(char c) {
  return c >= ' ' && c <= '~';
}

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};
// Largest first, as formatting wants them.
constexpr std::array size_units{Unit{"TiB", 1ULL << 40}, Unit{"GiB", 1ULL << 30}, Unit{"MiB", 1ULL << 20},
                                Unit{"KiB", 1ULL << 10}, Unit{"B", 1}};
constexpr std::array duration_units{Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000}, Unit{"ms", 1}};

// A whole number and a unit. Saturates at `max`.
template <std::size_t n>
bool parse_quantity(std::string_view text, const std::array<Unit, n>& units, std::uint64_t max,
                    std::uint64_t& out) {
  const auto digits =
      static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_digit) - text.begin());
  const auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == text.substr(digits); });
  if (digits == 0 || unit == units.end()) return false;
  std::uint64_t number = 0;
  const bool fits = std::from_chars(text.data(), text.data() + digits, number).ec == std::errc();
  out = fits && number <= max / unit->factor ? number * unit->factor : max;
  return true;
}

// The largest unit that leaves a whole number; 0 is written with the smallest but one ("0s").
template <std::size_t n>
std::string format_quantity(std::uint64_t value, const std::array<Unit, n>& units) {
  if (value == 0) return std::string("0").append(units[n - 2].name);
  const auto unit =
      std::find_if(units.begin(), units.end(), [&](const Unit& u) { return value % u.factor == 0; });
  return std::to_string(value / unit->factor).append(unit->name);
}

bool is_numeric(int family, const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  return inet_pton(family, host.c_str(), binary.data()) == 1;
}

std::string canonical(int family, const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_pton(family, host.c_str(), binary.data());
  inet_ntop(family, binary.data(), text.data(), text.size());
  return text.data();
}

std::optional<Fault> parse_port(std::string_view text, std::uint16_t& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error == std::errc() && end == text.data() + text.size() && port != 0) return std::nullopt;
  return Fault{in_quotes(text) + " is not a port", "write a number from 1 to 65535 behind the last colon"};
}

constexpr std::size_t unix_path_limit = sizeof(sockaddr_un::sun_path) - 1;

std::optional<Fault> parse_unix(std::string_view path, Endpoint& out) {
  if (path.empty() || path.front() != '/' || !std::all_of(path.begin(), path.end(), is_printable))
    return Fault{in_quotes(path) + " is not an absolute path", R"(write "unix:/run/mta.sock", for example)"};
  if (path.size() > unix_path_limit) {
    return Fault{"the path of the socket has " + std::to_string(path.size()) + " bytes",
                 "write a path of at most " + std::to_string(unix_path_limit) + " bytes"};
  }
  out = Endpoint{Endpoint::Family::unix_socket, "", 0, std::string(path)};
  return std::nullopt;
}

std::optional<Fault> parse_ipv6(std::string_view text, Endpoint& out) {
  const std::size_t bracket = text.find(']');
  const std::string host(text.substr(1, bracket == text.npos ? bracket : bracket - 1));
  if (bracket == text.npos || !is_numeric(AF_INET6, host))
    return Fault{in_quotes(text) + " is not an IPv6 address with a port", R"(write "[::1]:25", for example)"};
  const std::string_view rest = text.substr(bracket + 1);
  if (rest.empty() || rest.front() != ':')
    return Fault{in_quotes(text) + " has no port",
                 "write " + in_quotes("[" + host + "]:25") + ", for example"};
  std::uint16_t port = 0;
  if (auto fault = parse_port(rest.substr(1), port)) return fault;
  out = Endpoint{Endpoint::Family::ipv6, canonical(AF_INET6, host), port, ""};
  return std::nullopt;
}

// Everything that is not in brackets and has no "unix:" in front.
std::optional<Fault> parse_ipv4(std::string_view text, Endpoint& out) {
  const std::string whole(text);
  const std::size_t colon = whole.rfind(':');
  const std::string host = whole.substr(0, colon);
  if (is_numeric(AF_INET6, whole) || is_numeric(AF_INET6, host)) {
    return Fault{in_quotes(text) + " has an IPv6 address without brackets",
                 "write " +
                     (is_numeric(AF_INET6, whole) ? in_quotes("[" + whole + "]:25") + ", with its port"
                                                  : in_quotes("[" + host + "]" + whole.substr(colon))) +
                     ", for example"};
  }
  if (is_numeric(AF_INET, whole))
    return Fault{in_quotes(text) + " has no port", "write " + in_quotes(whole + ":25") + ", for example"};
  if (colon != whole.npos && (host.empty() || host == "*")) {
    return Fault{in_quotes(text) + " names no address",
                 "write " + in_quotes("0.0.0.0" + whole.substr(colon)) + " or " +
                     in_quotes("[::]" + whole.substr(colon)) + " for every address of this host"};
  }
  if (!is_numeric(AF_INET, host)) {
    return Fault{in_quotes(text) + " is not a numeric address (names are not resolved)",
                 R"(write "127.0.0.1:25", "[::1]:25" or "unix:/run/mta.sock", for example)"};
  }
  std::uint16_t port = 0;
  if (auto fault = parse_port(text.substr(colon + 1), port)) return fault;
  out = Endpoint{Endpoint::Family::ipv4, host, port, ""};
  return std::nullopt;
}

// Levenshtein's distance, letters in any case.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (lower(a[i - 1]) == lower(b[j - 1]) ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({replaced, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

}  // namespace

std::optional<Fault> parse_size(std::string_view text, std::uint64_t& octets) {
  if (parse_quantity(text, size_units, std::numeric_limits<std::uint64_t>::max(), octets))
    return std::nullopt;
  return Fault{in_quotes(text) + " is not a size",
               R"(write a number of octets, or one with B, KiB, MiB, GiB or TiB: "64KiB")"};
}

std::optional<Fault> parse_duration(std::string_view text, std::chrono::milliseconds& out) {
  constexpr std::int64_t max = std::chrono::milliseconds::max().count();
  std::uint64_t count = 0;
  if (!parse_quantity(text, duration_units, static_cast<std::uint64_t>(max), count))
    return Fault{in_quotes(text) + " is not a duration", R"(write a number with ms, s, m or h: "30s")"};
  out = std::chrono::milliseconds(count);
  return std::nullopt;
}

std::optional<Fault> parse_endpoint(std::string_view text, Endpoint& out) {
  constexpr std::string_view scheme = "unix:";
  if (text.substr(0, scheme.size()) == scheme) return parse_unix(text.substr(scheme.size()), out);
  // inet_pton() would stop at a NUL and take what stands before it.
  if (text.find('\0') != text.npos)
    return Fault{in_quotes(text) + " is not an address", R"(write "127.0.0.1:25", for example)"};
  return !text.empty() && text.front() == '[' ? parse_ipv6(text, out) : parse_ipv4(text, out);
}

std::optional<Fault> parse_service_address(std::string_view text, ServiceAddress& out) {
  constexpr std::string_view http = "http://";
  constexpr std::string_view https = "https://";
  ServiceAddress address;
  address.tls = text.starts_with(https);
  address.http = address.tls || text.starts_with(http);
  if (!address.http) {
    const auto fault = parse_endpoint(text, address.endpoint);
    if (!fault) out = std::move(address);
    return fault;
  }
  std::string_view rest = text.substr(address.tls ? https.size() : http.size());
  const bool is_unix = rest.starts_with("unix:");
  // The path of a socket ends at a colon, all else at a slash.
  const std::size_t end = is_unix ? rest.find(':', 5) : rest.find('/');
  std::string where(rest.substr(0, end));
  std::string_view target = end == rest.npos ? "" : rest.substr(is_unix ? end + 1 : end);
  if (target.empty()) target = "/";
  if (target.front() != '/' || !std::all_of(target.begin(), target.end(),
                                            [](char c) { return is_printable(c) && c != ' ' && c != '#'; })) {
    return Fault{in_quotes(text) + " has no valid path",
                 R"(write "http://127.0.0.1:9000/auth", for example, with %20 for a space)"};
  }
  // The address alone: HTTP has ports of its own.
  if (is_numeric(AF_INET, where) || (where.starts_with('[') && where.ends_with(']')))
    where += address.tls ? ":443" : ":80";
  if (auto fault = parse_endpoint(where, address.endpoint)) {
    fault->mend = R"(write "http://127.0.0.1:9000/auth", for example)";
    return fault;
  }
  address.target = target;
  out = std::move(address);
  return std::nullopt;
}

std::optional<Fault> check_http_header(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const auto in_name = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; };
  if (colon == text.npos || name.empty() || !std::all_of(name.begin(), name.end(), in_name) ||
      !std::all_of(text.begin(), text.end(), is_printable))
    return Fault{in_quotes(text) + " is not a field of HTTP", R"(write "X-Key: value", for example)"};
  std::string lower_name(name);
  std::transform(lower_name.begin(), lower_name.end(), lower_name.begin(), lower);
  for (const std::string_view own : {"host", "connection", "content-length", "transfer-encoding"}) {
    if (lower_name == own) return Fault{in_quotes(name) + " is said by ringmx itself", "remove it"};
  }
  return std::nullopt;
}

std::optional<Fault> check_cache_field(std::string_view text) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < policy::cache_field_count; ++i) {
    names.push_back(policy::name_of(static_cast<policy::CacheField>(i)));
    if (names.back() == text) return std::nullopt;
  }
  std::vector<std::string> shown;
  for (const std::string_view name : names) shown.push_back(in_quotes(name));
  const auto near = nearest(text, names);
  return Fault{in_quotes(text) + " is nothing that an answer can be kept by",
               near.empty() ? "write " + enumerate(shown, "or") : "did you mean " + in_quotes(near) + "?"};
}

std::optional<Fault> check_domain(std::string_view text) {
  const auto fault = [&](std::string_view why) {
    return Fault{in_quotes(text) + " is not a host name: " + std::string(why),
                 R"(write the name that the MX record gives, as "mx.example.com")"};
  };
  if (text.size() > 253) return fault("it has more than 253 characters");
  std::size_t labels = 0;
  for (std::string_view rest = text;;) {
    const std::size_t dot = rest.find('.');
    const std::string_view label = rest.substr(0, dot);
    if (label.empty()) return fault("a label is empty");
    if (label.size() > 63) return fault("a label has more than 63 characters");
    if (!std::all_of(label.begin(), label.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '-'; }))
      return fault("labels are made of letters, digits and hyphens (xn--... for others)");
    if (label.front() == '-' || label.back() == '-') return fault("a label starts or ends with a hyphen");
    ++labels;
    if (dot == rest.npos) {
      if (std::all_of(label.begin(), label.end(), is_digit)) return fault("the last label is a number");
      return std::nullopt;
    }
    rest.remove_prefix(dot + 1);
  }
}

std::optional<Fault> check_server_name(std::string_view text) {
  const std::string_view domain = text.starts_with("*.") ? text.substr(2) : text;
  const auto fault = check_domain(domain);
  if (!fault) return std::nullopt;
  return Fault{fault->message, R"(write a name as "mx.example.com", or "*.example.com")"};
}

std::optional<Fault> check_optional_domain(std::string_view text) {
  if (text.empty()) return std::nullopt;
  auto fault = check_domain(text);
  if (fault) fault->mend = R"(write the name in the certificate, as "mx.example.com")";
  return fault;
}

std::optional<policy::Address> parse_client_address(std::string_view text) {
  const std::string host(text);
  policy::Address address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  // inet_pton() would stop at a NUL and take what stands before it.
  if (host.find('\0') != host.npos) return std::nullopt;
  if (inet_pton(AF_INET, host.c_str(), address.data() + policy::mapped_bits / 8) == 1) return address;
  if (inet_pton(AF_INET6, host.c_str(), address.data()) == 1) return address;
  return std::nullopt;
}

std::string format_address(const policy::Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool ipv4 = policy::is_ipv4(address);
  inet_ntop(ipv4 ? AF_INET : AF_INET6, address.data() + (ipv4 ? policy::mapped_bits / 8 : 0), text.data(),
            text.size());
  return text.data();
}

std::optional<Fault> parse_network(std::string_view text, policy::Network& out) {
  const std::size_t slash = text.find('/');
  const auto address = parse_client_address(text.substr(0, slash));
  if (!address) {
    return Fault{in_quotes(text) + " is not a network (names are not resolved)",
                 R"(write "192.0.2.0/24", "2001:db8::/32" or an address, for example)"};
  }
  const bool ipv4 = text.find(':') == text.npos;
  const unsigned base = ipv4 ? policy::mapped_bits : 0;
  unsigned bits = 128 - base;
  if (slash != text.npos) {
    const std::string_view digits = text.substr(slash + 1);
    unsigned given = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), given);
    if (error != std::errc() || end != digits.data() + digits.size() || given > bits) {
      return Fault{in_quotes(text) + " has no prefix length behind the slash",
                   "write a number from 0 to " + std::to_string(bits)};
    }
    bits = given;
  }
  out.bits = static_cast<std::uint8_t>(base + bits);
  out.address = *address;
  for (std::size_t bit = out.bits; bit < 128; ++bit)
    out.address[bit / 8] = static_cast<std::uint8_t>(out.address[bit / 8] & ~(0x80u >> bit % 8));
  if (out.address == *address) return std::nullopt;
  return Fault{in_quotes(text) + " has bits behind its prefix",
               "write " + in_quotes(format_address(out.address) + "/" + std::to_string(bits)) +
                   ", or the address alone"};
}

std::optional<Fault> check_network(std::string_view text) {
  policy::Network network;
  return parse_network(text, network);
}

std::optional<Fault> parse_fingerprint(std::string_view text, policy::Fingerprint& out) {
  const bool colons = text.size() == out.size() * 3 - 1;
  bool good = colons || text.size() == out.size() * 2;
  for (std::size_t i = 0; good && i < out.size(); ++i) {
    const std::string_view octet = text.substr(i * (colons ? 3 : 2), colons ? 3 : 2);
    const auto [end, error] = std::from_chars(octet.data(), octet.data() + 2, out[i], 16);
    good = error == std::errc() && end == octet.data() + 2 && (octet.size() < 3 || octet[2] == ':');
  }
  if (good) return std::nullopt;
  return Fault{in_quotes(text) + " is not a SHA-256 fingerprint",
               "write 64 hexadecimal digits, as openssl x509 -noout -fingerprint -sha256 prints them"};
}

std::optional<Fault> check_fingerprint(std::string_view text) {
  policy::Fingerprint fingerprint;
  return parse_fingerprint(text, fingerprint);
}

// Not as strict as check_domain(): it is compared with what clients say, who have names with underscores,
// and, with SMTPUTF8, such as are not ASCII.
std::optional<Fault> check_domain_pattern(std::string_view text) {
  std::string_view domain = text;
  if (domain.starts_with("*."))
    domain.remove_prefix(2);
  else if (domain.starts_with('.'))
    domain.remove_prefix(1);
  const auto in_label = [](char c) {
    return is_letter(c) || is_digit(c) || c == '-' || c == '_' || static_cast<unsigned char>(c) >= 0x80;
  };
  bool good = domain.size() <= 253 && !domain.empty() && !domain.ends_with('.');
  char before = '.';
  for (const char c : domain) {
    good = good && (c == '.' ? before != '.' : in_label(c));
    before = c;
  }
  if (good) return std::nullopt;
  return Fault{in_quotes(text) + " is not a domain",
               R"(write "example.com", or ".example.com" for its sub-domains)"};
}

std::optional<Fault> check_sender_pattern(std::string_view text) {
  if (text == "<>") return std::nullopt;
  auto fault = check_domain_pattern(text);
  if (fault) fault->mend += R"(, or "<>" for the null sender)";
  return fault;
}

std::optional<Fault> check_rule_reply(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const bool code = text.size() > 4 && (text[0] == '4' || text[0] == '5') && text[1] >= '0' &&
                    text[1] <= '5' && is_digit(text[2]) && text[3] == ' ';
  // With CRLF within the 512 octets of RFC 5321 4.5.3.1.5.
  if (!code || text.size() > 510 || !std::all_of(text.begin(), text.end(), is_printable)) {
    return Fault{
        in_quotes(text) + " is not a refusal",
        R"(write a code and a text, at most 510 printable ASCII characters: "550 5.7.10 Encryption is required")"};
  }
  if (text.starts_with("421") || text.starts_with("521")) {
    return Fault{in_quotes(text) + " would end the session", "write another code: the session goes on"};
  }
  // RFC 3463: the class of the status code is that of the reply.
  if (is_digit(text[4]) && text.substr(5).starts_with('.') && text[4] != text[0]) {
    return Fault{
        in_quotes(text) + " says two things: its status code is of another class",
        "write " + in_quotes(std::string(text.substr(0, 4)) + text[0] + std::string(text.substr(5)))};
  }
  return std::nullopt;
}

std::optional<Fault> check_path(std::string_view text) {
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; };
  if (!text.empty() && std::none_of(text.begin(), text.end(), is_control)) return std::nullopt;
  return Fault{in_quotes(text) + " is not the name of a file", R"(write a path, as "mx.pem")"};
}

std::optional<Fault> check_name(std::string_view text) {
  if (!text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
        return is_letter(c) || is_digit(c) || c == '-' || c == '_' || c == '.';
      }))
    return std::nullopt;
  return Fault{in_quotes(text) + " is not a name",
               "write 1 to 64 letters, digits, hyphens, underscores and dots"};
}

std::optional<Fault> check_banner(std::string_view text) {
  // "220 " host name (253) SP banner CRLF stays within the 512 octets of RFC 5321 4.5.3.1.5.
  if (text.size() <= 250 && std::all_of(text.begin(), text.end(), is_printable)) return std::nullopt;
  return Fault{in_quotes(text) + " does not fit into the greeting",
               "write at most 250 printable ASCII characters"};
}

std::string format_size(std::uint64_t octets) {
  const std::string text = format_quantity(octets, size_units);
  return octets < 1024 || octets % 1024 != 0 ? std::to_string(octets) : text;
}

std::string format_duration(std::chrono::milliseconds d) {
  return format_quantity(static_cast<std::uint64_t>(d.count()), duration_units);
}

std::string in_quotes(std::string_view text) {
  std::size_t end = std::min<std::size_t>(text.size(), 80);
  while (end > 0 && end < text.size() && (text[end] & 0xc0) == 0x80) --end;  // not inside a character
  std::string out = "\"";
  for (const char c : text.substr(0, end)) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return on_one_line(out) + (text.size() > end ? "...\"" : "\"");
}

std::string on_one_line(std::string_view text) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < ' ' || byte == 0x7f)
      out.append("\\u00").append(1, hex[byte >> 4]).append(1, hex[byte & 15]);
    else
      out += c;
  }
  return out;
}

std::string enumerate(const std::vector<std::string>& words, std::string_view conjunction) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0 && i + 1 == words.size())
      out.append(" ").append(conjunction).append(" ");
    else if (i > 0)
      out += ", ";
    out += words[i];
  }
  return out;
}

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& known) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, (word.size() + 1) / 3) + 1;
  if (word.size() > 64) return best;
  for (const std::string_view candidate : known) {
    // Postfix's smtpd_recipient_limit is our recipient_limit, and a size_limit our message_size_limit.
    const bool part = word.size() >= 4 && candidate.size() >= 4 &&
                      (candidate.find(word) != candidate.npos || word.find(candidate) != word.npos);
    const std::size_t d =
        part ? std::min<std::size_t>(2, distance(word, candidate)) : distance(word, candidate);
    if (d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace ringmx::config
