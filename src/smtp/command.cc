// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/command.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <span>
#include <system_error>

#include "smtp/ascii.h"
#include "smtp/becomes_ascii.h"

// The grammar of RFC 5321 4.1.1 and 4.1.2, as recursive descent: every take_..() takes one production
// off the front of a string_view and says whether it was there. Nothing is copied; what is found is
// a piece of the line.
//
// How strict. What stands between "<" and ">" goes to the upstream as it came, and the upstream may
// read it with other rules than ours; so nothing passes that could mean two things: no control
// character, no NUL, no unquoted space or angle bracket. Within that, ringmx lets pass what Postfix
// does by default (strict_rfc821_envelopes = no), since that is what the world's mail was tested
// against:
//   - dots anywhere in a local part (a..b@x, a.@x); an underscore or a hyphen anywhere in a domain,
//     and one dot behind it;
//   - no angle brackets at all around user@domain, spaces before the path;
//   - <user> without a domain as a sender: whether that is local is for the upstream to know. As a
//     recipient only <Postmaster> (RFC 5321 4.5.1).
// Unlike Postfix, ringmx has no use for RFC 822 comments, phrases and route addresses without
// brackets, nor for a tab except between the verb and its argument.
//
// 8-bit octets are let through where a letter may stand, and judged at the end, when the parameters
// have said whether the path is SMTPUTF8 (RFC 6531 3.3).

namespace ringmx::smtp {
namespace {

// RFC 5321 4.5.3.1.2 and .3, in octets. The path counts its angle brackets. The 64 octets of a local
// part (4.5.3.1.1) are not enforced: the senders of mailing lists (VERP) and of forwarders (SRS) are
// often longer, and no mail server in use refuses them.
constexpr std::size_t domain_limit = 255;
constexpr std::size_t path_limit = 256;

// Character classes, a bit each.
using Class = std::uint8_t;
constexpr Class local = 1 << 0;    // atext and ".", 8-bit
constexpr Class quoted = 1 << 1;   // qtextSMTP, 8-bit
constexpr Class domain = 1 << 2;   // letters, digits, "-", "_", ".", 8-bit
constexpr Class literal = 1 << 3;  // dcontent without angle brackets
constexpr Class keyword = 1 << 4;  // esmtp-keyword, Ldh-str
constexpr Class digit = 1 << 5;
constexpr Class hex = 1 << 6;
constexpr Class xtext = 1 << 7;  // xchar (RFC 3461 section 4), "+" aside

constexpr std::array<Class, 256> classes = [] {
  std::array<Class, 256> table{};
  for (unsigned c = 0; c < table.size(); ++c) {
    const bool is_digit = c >= '0' && c <= '9';
    const bool upper = c >= 'A' && c <= 'Z';
    const bool lower = c >= 'a' && c <= 'z';
    const bool alnum = is_digit || upper || lower;
    const bool graphic = c > ' ' && c < 0x7f;
    const bool eight_bit = c >= 0x80;
    const auto one_of = [c](std::string_view set) { return set.find(static_cast<char>(c)) != set.npos; };
    unsigned bits = 0;
    if (alnum || eight_bit || one_of("!#$%&'*+-/=?^_`{|}~.")) bits |= local;
    if (eight_bit || c == ' ' || (graphic && c != '"' && c != '\\')) bits |= quoted;
    if (alnum || eight_bit || one_of("-_.")) bits |= domain;
    if (graphic && !one_of("[\\]<>")) bits |= literal;
    if (alnum || c == '-') bits |= keyword;
    if (is_digit) bits |= digit;
    if (is_digit || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f')) bits |= hex;
    if (graphic && c != '+' && c != '=') bits |= xtext;
    table[c] = static_cast<Class>(bits);
  }
  return table;
}();

bool is(char c, Class wanted) noexcept {
  return (classes[static_cast<unsigned char>(c)] & wanted) != 0;
}
bool is_eight_bit(char c) noexcept {
  return static_cast<unsigned char>(c) >= 0x80;
}
bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}
bool has_eight_bit(std::string_view s) noexcept {
  return std::any_of(s.begin(), s.end(), is_eight_bit);
}
bool has_control(std::string_view s) noexcept {
  return std::any_of(s.begin(), s.end(), is_control);
}

bool take(std::string_view& s, char c) noexcept {
  if (!s.starts_with(c)) return false;
  s.remove_prefix(1);
  return true;
}

std::string_view take_while(std::string_view& s, Class wanted) noexcept {
  std::size_t n = 0;
  while (n < s.size() && is(s[n], wanted)) ++n;
  const std::string_view taken = s.substr(0, n);
  s.remove_prefix(n);
  return taken;
}

bool take_word(std::string_view& s, std::string_view word) noexcept {
  if (!equal_ignoring_case(s.substr(0, word.size()), word)) return false;
  s.remove_prefix(word.size());
  return true;
}

void skip_spaces(std::string_view& s) noexcept {
  s.remove_prefix(std::min(s.find_first_not_of(' '), s.size()));
}

// RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. `use` is called with each code point that
// is not ASCII.
template <class Use>
bool read_utf8(std::string_view s, Use use) noexcept {
  for (std::size_t i = 0; i < s.size(); ++i) {
    const auto lead = static_cast<unsigned char>(s[i]);
    if (lead < 0x80) continue;
    std::size_t more = 0;
    std::uint32_t least = 0;
    if ((lead & 0xe0U) == 0xc0U) {
      more = 1;
      least = 0x80;
    } else if ((lead & 0xf0U) == 0xe0U) {
      more = 2;
      least = 0x800;
    } else if ((lead & 0xf8U) == 0xf0U) {
      more = 3;
      least = 0x10000;
    }
    if (more == 0 || s.size() - i <= more) return false;
    std::uint32_t point = lead & (0x3fU >> more);
    for (; more > 0; --more) {
      const auto next = static_cast<unsigned char>(s[++i]);
      if ((next & 0xc0U) != 0x80U) return false;
      point = point << 6 | (next & 0x3fU);
    }
    if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return false;
    use(point);
  }
  return true;
}

bool valid_utf8(std::string_view s) noexcept {
  return read_utf8(s, [](char32_t) {});
}

bool has_what_becomes_ascii(std::string_view utf8) noexcept {
  bool found = false;
  read_utf8(utf8, [&found](char32_t point) { found = found || becomes_ascii(point); });
  return found;
}

bool valid_ipv4(std::string_view s) noexcept {
  for (int part = 0; part < 4; ++part) {
    if (part > 0 && !take(s, '.')) return false;
    const std::string_view number = take_while(s, digit);
    unsigned value = 0;
    for (const char c : number) value = value * 10 + static_cast<unsigned>(c - '0');
    if (number.empty() || number.size() > 3 || value > 255) return false;
  }
  return s.empty();
}

bool valid_ipv6(std::string_view s) noexcept {
  int groups = 0;
  bool compressed = s.starts_with("::");
  if (compressed) s.remove_prefix(2);
  if (compressed && s.empty()) return true;
  for (;;) {
    if (s.find('.') != s.npos && s.find(':') == s.npos) {
      if (!valid_ipv4(s)) return false;
      groups += 2;
      break;
    }
    const std::string_view group = take_while(s, hex);
    if (group.empty() || group.size() > 4) return false;
    ++groups;
    if (s.empty()) break;
    if (!take(s, ':')) return false;
    if (take(s, ':')) {
      if (compressed) return false;
      compressed = true;
      if (s.empty()) break;
    }
  }
  return compressed ? groups < 8 : groups == 8;
}

// address-literal, RFC 5321 4.1.3.
bool take_literal(std::string_view& s) noexcept {
  if (!take(s, '[')) return false;
  std::string_view content = take_while(s, literal);
  if (!take(s, ']')) return false;
  if (take_word(content, "IPv6:")) return valid_ipv6(content);
  if (content.find(':') == content.npos) return valid_ipv4(content);
  const std::string_view tag = take_while(content, keyword);  // Standardized-tag
  return !tag.empty() && tag.back() != '-' && take(content, ':') && !content.empty();
}

bool take_domain(std::string_view& s) noexcept {
  if (s.starts_with('[')) return take_literal(s);
  const std::string_view name = take_while(s, domain);
  return !name.empty() && name.front() != '.' && name.find("..") == name.npos;
}

bool take_local_part(std::string_view& s) noexcept {
  if (!take(s, '"')) return !take_while(s, local).empty();
  for (;;) {
    take_while(s, quoted);
    if (take(s, '"')) return true;
    if (!take(s, '\\') || s.empty() || is_control(s.front()) || is_eight_bit(s.front())) return false;
    s.remove_prefix(1);
  }
}

// A-d-l ":"
bool take_source_route(std::string_view& s) noexcept {
  do {
    if (!take(s, '@') || !take_domain(s)) return false;
  } while (take(s, ','));
  return take(s, ':');
}

// "user%domain", "domain!user" and "user@domain" that some servers, Postfix among them, make of a local part
// that is not theirs to look up as it is; and the empty one, which alone is the null sender.
bool has_route(std::string_view local_part) noexcept {
  const bool routes = std::any_of(local_part.begin(), local_part.end(),
                                  [](char c) { return c == '%' || c == '!' || c == '@'; });
  return routes || local_part == "\"\"";
}

bool take_path(std::string_view& s, Path& path) noexcept {
  const std::size_t before = s.size();
  const bool bracketed = take(s, '<');
  if (bracketed && take(s, '>')) return true;
  if (bracketed && s.starts_with('@') && !take_source_route(s)) return false;

  const std::string_view mailbox = s;
  if (!take_local_part(s)) return false;
  path.local_part = mailbox.substr(0, mailbox.size() - s.size());
  if (take(s, '@')) {
    const std::string_view from = s;
    if (!take_domain(s)) return false;
    path.domain = from.substr(0, from.size() - s.size());
  }
  path.mailbox = mailbox.substr(0, mailbox.size() - s.size());
  path.ambiguous = has_route(path.local_part);

  if (bracketed) {
    if (!take(s, '>')) return false;
  } else if (path.domain.empty() || !(s.empty() || s.starts_with(' '))) {
    return false;
  }
  const std::size_t size = before - s.size() + (bracketed ? 0 : 2);
  return path.domain.size() <= domain_limit && size <= path_limit;
}

// Character set of the path as `written`, a source route included.
SyntaxFault check_charset(std::string_view written, bool smtputf8, Path& path) noexcept {
  if (!has_eight_bit(written)) return SyntaxFault::none;
  if (!smtputf8) return SyntaxFault::non_ascii_address;
  if (!valid_utf8(written)) return SyntaxFault::bad_utf8;
  if (has_what_becomes_ascii(path.domain)) path.ambiguous = true;
  return SyntaxFault::none;
}

// "FROM:" or "TO:", then the path, which must be followed by a space or nothing. `rest` is left at
// the parameters, `written` is the path as written.
SyntaxFault take_prefixed_path(std::string_view& rest, std::string_view prefix, Path& path,
                               std::string_view& written) noexcept {
  if (has_control(rest) || !take_word(rest, prefix)) return SyntaxFault::syntax;
  skip_spaces(rest);
  if (rest.empty()) return SyntaxFault::syntax;
  written = rest;
  if (!take_path(rest, path)) return SyntaxFault::address;
  written.remove_suffix(rest.size());
  if (!rest.empty() && rest.front() != ' ') return SyntaxFault::syntax;
  skip_spaces(rest);
  while (rest.ends_with(' ')) rest.remove_suffix(1);
  return SyntaxFault::none;
}

struct Parameter {
  std::string_view keyword;
  std::string_view value;
  bool valued = false;  // there is an "="
};

struct KnownParameter {
  std::string_view keyword;
  Extension extension;
};

// Calls accept(index into `known`, parameter) for each parameter, which returns whether the value is
// possible.
template <class Accept>
SyntaxFault read_parameters(std::string_view list, std::span<const KnownParameter> known,
                            ExtensionSet offered, Accept accept) noexcept {
  unsigned seen = 0;
  while (!list.empty()) {
    const std::string_view text = list.substr(0, list.find(' '));
    list.remove_prefix(text.size());
    skip_spaces(list);

    Parameter parameter;
    std::string_view rest = text;
    parameter.keyword = take_while(rest, keyword);
    if (parameter.keyword.empty() || parameter.keyword.front() == '-') return SyntaxFault::syntax;
    parameter.valued = take(rest, '=');
    if (!parameter.valued && !rest.empty()) return SyntaxFault::syntax;
    parameter.value = rest;

    std::size_t i = 0;
    while (i < known.size() && !equal_ignoring_case(known[i].keyword, parameter.keyword)) ++i;
    if (i == known.size() || !offered.has(known[i].extension)) return SyntaxFault::unknown_parameter;
    const bool twice = (seen >> i & 1U) != 0;
    seen |= 1U << i;
    if (twice || !accept(i, parameter)) return SyntaxFault::bad_parameter;
  }
  return SyntaxFault::none;
}

// RFC 1870 section 3: 1 to 20 digits. What does not fit counts as the largest there is: over any limit.
bool read_size(std::string_view value, std::uint64_t& size) noexcept {
  if (value.empty() || value.size() > 20) return false;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, size);
  if (error == std::errc::result_out_of_range) size = std::numeric_limits<std::uint64_t>::max();
  return stop == end && error != std::errc::invalid_argument;
}

// RFC 3461 section 4; the value it stands for is printable (4.2, 4.4), so a control character may not
// hide in a hexchar. `utf8`: RFC 6533 section 3, utf-8-addr-unitext.
bool valid_xtext(std::string_view value, bool utf8) noexcept {
  while (!value.empty()) {
    const char c = value.front();
    value.remove_prefix(1);
    if (c == '+') {
      if (value.size() < 2 || !is(value[0], hex) || !is(value[1], hex)) return false;
      const bool control = value[0] < '2' || equal_ignoring_case(value.substr(0, 2), "7F");
      if (control) return false;
      value.remove_prefix(2);
    } else if (!is(c, xtext) && !(utf8 && is_eight_bit(c))) {
      return false;
    }
  }
  return true;
}

bool valid_notify(std::string_view value) noexcept {
  if (equal_ignoring_case(value, "NEVER")) return true;
  for (;;) {
    const std::string_view condition = value.substr(0, value.find(','));
    if (!equal_ignoring_case(condition, "SUCCESS") && !equal_ignoring_case(condition, "FAILURE") &&
        !equal_ignoring_case(condition, "DELAY")) {
      return false;
    }
    if (condition.size() == value.size()) return true;
    value.remove_prefix(condition.size() + 1);
  }
}

// addr-type ";" xtext, where addr-type is an IANA-registered name.
bool valid_orcpt(std::string_view value, bool smtputf8) noexcept {
  const std::string_view type = take_while(value, keyword);
  if (type.empty() || !take(value, ';')) return false;
  return valid_xtext(value, smtputf8 && equal_ignoring_case(type, "utf-8")) && valid_utf8(value);
}

// Up to eight letters in lower case as a number. Setting 0x20 turns nothing but the two cases of a
// letter into that letter, so equal numbers mean equal words; no octet becomes 0, so lengths differ.
constexpr std::uint64_t pack(std::string_view word) noexcept {
  std::uint64_t packed = 0;
  for (const char c : word) packed = packed << 8 | static_cast<unsigned char>(c) | 0x20U;
  return packed;
}

Verb find_verb(std::string_view word, bool argument) noexcept {
  if (word.size() > 8) return Verb::unknown;
  switch (pack(word)) {
    case pack("helo"):
      return Verb::helo;
    case pack("ehlo"):
      return Verb::ehlo;
    case pack("mail"):
      return Verb::mail;
    case pack("rcpt"):
      return Verb::rcpt;
    case pack("data"):
      return Verb::data;
    case pack("bdat"):
      return Verb::bdat;
    case pack("rset"):
      return Verb::rset;
    case pack("noop"):
      return Verb::noop;
    case pack("quit"):
      return Verb::quit;
    case pack("vrfy"):
      return Verb::vrfy;
    case pack("help"):
      return Verb::help;
    case pack("starttls"):
      return Verb::starttls;
    case pack("expn"):
      return Verb::expn;
    case pack("auth"):
      return Verb::auth;
    case pack("etrn"):
      return Verb::etrn;
    case pack("turn"):
      return Verb::turn;
    case pack("xclient"):
      return Verb::xclient;
    case pack("xforward"):
      return Verb::xforward;
    case pack("get"):
    case pack("post"):
    case pack("head"):
    case pack("put"):
    case pack("delete"):
    case pack("connect"):
    case pack("options"):
    case pack("patch"):
    case pack("trace"):
    case pack("pri"):
      return argument ? Verb::foreign : Verb::unknown;
    default:
      return Verb::unknown;
  }
}

// "Host: example.org". The request line of an HTTP request can be too long to be looked at, its
// header fields follow; and a message whose sender did not wait for 354 starts like that too.
bool header_field(std::string_view line) noexcept {
  const std::string_view name = take_while(line, keyword);
  return !name.empty() && line.starts_with(':');
}

bool tls_record(std::string_view line) noexcept {
  return line.starts_with("\x16\x03");
}

}  // namespace

std::string_view verb_name(Verb v) noexcept {
  switch (v) {
    case Verb::unknown:
      return "unknown";
    case Verb::helo:
      return "helo";
    case Verb::ehlo:
      return "ehlo";
    case Verb::mail:
      return "mail";
    case Verb::rcpt:
      return "rcpt";
    case Verb::data:
      return "data";
    case Verb::bdat:
      return "bdat";
    case Verb::rset:
      return "rset";
    case Verb::noop:
      return "noop";
    case Verb::quit:
      return "quit";
    case Verb::vrfy:
      return "vrfy";
    case Verb::help:
      return "help";
    case Verb::starttls:
      return "starttls";
    case Verb::expn:
      return "expn";
    case Verb::auth:
      return "auth";
    case Verb::etrn:
      return "etrn";
    case Verb::turn:
      return "turn";
    case Verb::xclient:
      return "xclient";
    case Verb::xforward:
      return "xforward";
    case Verb::foreign:
      return "foreign";
  }
  return {};
}

Command parse_command(std::string_view line) noexcept {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!line.empty() && blank(line.back())) line.remove_suffix(1);
  const auto* const end = std::find_if(line.begin(), line.end(), blank);
  const auto* const argument = std::find_if_not(end, line.end(), blank);
  Command command{.verb = find_verb({line.begin(), end}, argument != line.end()),
                  .argument = {argument, line.end()}};
  if (command.verb == Verb::unknown && (header_field(line) || tls_record(line))) {
    command.verb = Verb::foreign;
  }
  return command;
}

SyntaxFault parse_mail(std::string_view argument, ExtensionSet offered, MailCommand& out) noexcept {
  enum : std::size_t { size, body, smtputf8, requiretls, ret, envid, auth };
  static constexpr KnownParameter known[] = {
      {"SIZE", Extension::size},         {"BODY", Extension::eight_bit_mime},
      {"SMTPUTF8", Extension::smtputf8}, {"REQUIRETLS", Extension::requiretls},
      {"RET", Extension::dsn},           {"ENVID", Extension::dsn},
      {"AUTH", Extension::auth}};
  out = {};
  std::string_view path;
  SyntaxFault fault = take_prefixed_path(argument, "FROM:", out.reverse_path, path);
  if (fault != SyntaxFault::none) return fault;
  if (out.reverse_path.domain.empty() && !out.reverse_path.mailbox.empty()) out.reverse_path.ambiguous = true;
  out.parameters = argument;
  fault = read_parameters(argument, known, offered, [&out](std::size_t i, const Parameter& p) {
    switch (i) {
      case size:
        return read_size(p.value, out.size);
      case body:
        if (equal_ignoring_case(p.value, "8BITMIME")) out.body = BodyType::eight_bit_mime;
        if (equal_ignoring_case(p.value, "7BIT")) out.body = BodyType::seven_bit;
        return out.body != BodyType::unstated;
      case smtputf8:
        return out.smtputf8 = !p.valued;
      case requiretls:
        return out.requiretls = !p.valued;
      case ret:
        return equal_ignoring_case(p.value, "FULL") || equal_ignoring_case(p.value, "HDRS");
      case auth:
        return p.value == "<>" || (!p.value.empty() && valid_xtext(p.value, false));
      default:
        return !p.value.empty() && valid_xtext(p.value, false);
    }
  });
  return fault != SyntaxFault::none ? fault : check_charset(path, out.smtputf8, out.reverse_path);
}

SyntaxFault parse_rcpt(std::string_view argument, ExtensionSet offered, bool smtputf8,
                       RcptCommand& out) noexcept {
  enum : std::size_t { notify, orcpt };
  static constexpr KnownParameter known[] = {{"NOTIFY", Extension::dsn}, {"ORCPT", Extension::dsn}};
  out = {};
  std::string_view path;
  SyntaxFault fault = take_prefixed_path(argument, "TO:", out.forward_path, path);
  if (fault != SyntaxFault::none) return fault;
  if (out.forward_path.domain.empty() && !equal_ignoring_case(out.forward_path.mailbox, "Postmaster")) {
    return SyntaxFault::address;
  }
  out.parameters = argument;
  fault = read_parameters(argument, known, offered, [smtputf8](std::size_t i, const Parameter& p) {
    return i == notify ? valid_notify(p.value) : valid_orcpt(p.value, smtputf8);
  });
  return fault != SyntaxFault::none ? fault : check_charset(path, smtputf8, out.forward_path);
}

SyntaxFault parse_bdat(std::string_view argument, BdatCommand& out) noexcept {
  out = {};
  const std::string_view number = take_while(argument, digit);
  const bool ended = argument.empty() || argument.front() == ' ' || argument.front() == '\t';
  std::uint64_t size = 0;
  if (!ended || !read_size(number, size) || size > std::numeric_limits<std::int64_t>::max()) {
    return SyntaxFault::syntax;
  }
  out.size = size;
  skip_spaces(argument);
  out.last = equal_ignoring_case(argument, "LAST");
  return out.last || argument.empty() ? SyntaxFault::none : SyntaxFault::bad_parameter;
}

SyntaxFault parse_auth(std::string_view argument, AuthCommand& out) noexcept {
  out = {.mechanism = argument.substr(0, argument.find(' ')), .initial_response = {}};
  argument.remove_prefix(out.mechanism.size());
  if (!argument.empty()) {
    skip_spaces(argument);
    out.initial_response = argument;
  }
  const bool one_word = argument.find_first_of(" \t") == argument.npos;
  return out.mechanism.empty() || !one_word ? SyntaxFault::syntax : SyntaxFault::none;
}

bool valid_helo_argument(std::string_view argument) noexcept {
  return !argument.empty() && std::none_of(argument.begin(), argument.end(), [](char c) {
    return is_control(c) || is_eight_bit(c) || c == ' ';
  });
}

}  // namespace ringmx::smtp
