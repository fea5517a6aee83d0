// SPDX-License-Identifier: GPL-3.0-or-later
// RFC 5280, as much of it as is needed.
#include "tls/x509.h"

#include <utility>
#include <vector>

namespace ringmx::tls {
namespace {

enum Tag : unsigned char {
  integer = 0x02,
  object_identifier = 0x06,
  utf8_string = 0x0c,
  printable_string = 0x13,
  t61_string = 0x14,
  ia5_string = 0x16,
  utc_time = 0x17,
  generalized_time = 0x18,
  sequence = 0x30,
  set = 0x31,
  version = 0xa0,  // [0] in a TBSCertificate
};

struct Element {
  unsigned char tag = 0;
  std::string_view content;
  std::string_view whole;
};

// Takes elements off the front of some DER; an element of tag 0 where there is none.
class Der {
 public:
  explicit Der(std::string_view der) : rest_(der) {}
  bool at_end() const { return rest_.empty(); }
  Element next() {
    const std::string_view all = std::exchange(rest_, {});
    if (all.size() < 2) return {};
    std::size_t length = octet(all, 1);
    std::size_t head = 2;
    if (length >= 0x80) {
      const std::size_t octets = length & 0x7f;
      if (octets == 0 || octets > 3 || all.size() < 2 + octets) return {};
      head += octets;
      length = 0;
      for (std::size_t i = 2; i < head; ++i) length = length << 8 | octet(all, i);
    }
    if (all.size() - head < length) return {};
    rest_ = all.substr(head + length);
    return {static_cast<unsigned char>(all[0]), all.substr(head, length), all.substr(0, head + length)};
  }
  Element next(unsigned char tag) {
    const Element element = next();
    if (element.tag == tag) return element;
    rest_ = {};
    return {};
  }

 private:
  std::string_view rest_;
  static unsigned char octet(std::string_view s, std::size_t i) { return static_cast<unsigned char>(s[i]); }
};

// Days since 1970-01-01 in the proleptic Gregorian calendar.
std::int64_t days(std::int64_t year, std::int64_t month, std::int64_t day) {
  if (month <= 2) --year;
  const std::int64_t era_year = year % 400;
  const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return year / 400 * 146097 + era_year * 365 + era_year / 4 - era_year / 100 + day_of_year - 719468;
}

std::optional<std::int64_t> parse_time(const Element& element) {
  std::string text(element.content);
  if (element.tag == utc_time) {
    if (text.size() != 13) return std::nullopt;
    text.insert(0, text < "50" ? "20" : "19");
  } else if (element.tag != generalized_time) {
    return std::nullopt;
  }
  if (text.size() != 15 || text.back() != 'Z' || text.find_first_not_of("0123456789") != 14)
    return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t size) {
    std::int64_t value = 0;
    for (const char c : text.substr(at, size)) value = value * 10 + (c - '0');
    return value;
  };
  return days(number(0, 4), number(4, 2), number(6, 2)) * 86400 + number(8, 2) * 3600 + number(10, 2) * 60 +
         number(12, 2);
}

KeyKind parse_key(std::string_view public_key_info) {
  using namespace std::string_view_literals;
  Der algorithm(Der(public_key_info).next(sequence).content);
  const std::string_view name = algorithm.next(object_identifier).content;
  if (name == "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"sv) return KeyKind::rsa;
  if (name == "\x2a\x86\x48\xce\x3d\x02\x01"sv) {
    const std::string_view curve = algorithm.next(object_identifier).content;
    if (curve == "\x2a\x86\x48\xce\x3d\x03\x01\x07"sv) return KeyKind::ecdsa_p256;
    if (curve == "\x2b\x81\x04\x00\x22"sv) return KeyKind::ecdsa_p384;
  }
  return KeyKind::other;
}

std::string attribute_name(std::string_view oid) {
  using namespace std::string_view_literals;
  static constexpr std::pair<std::string_view, std::string_view> names[] = {
      {"\x55\x04\x03"sv, "CN"},
      {"\x55\x04\x05"sv, "serialNumber"},
      {"\x55\x04\x06"sv, "C"},
      {"\x55\x04\x07"sv, "L"},
      {"\x55\x04\x08"sv, "ST"},
      {"\x55\x04\x09"sv, "street"},
      {"\x55\x04\x0a"sv, "O"},
      {"\x55\x04\x0b"sv, "OU"},
      {"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01"sv, "UID"},
      {"\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x19"sv, "DC"},
      {"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"sv, "emailAddress"},
  };
  for (const auto& [known, name] : names) {
    if (oid == known) return std::string(name);
  }
  // The dotted form.
  std::string text;
  std::uint64_t arc = 0;
  for (const char c : oid) {
    arc = arc << 7 | (static_cast<unsigned char>(c) & 0x7f);
    if ((static_cast<unsigned char>(c) & 0x80) != 0) continue;
    if (text.empty()) {
      const std::uint64_t first = arc < 80 ? arc / 40 : 2;
      text = std::to_string(first) + '.' + std::to_string(arc - first * 40);
    } else {
      text += '.' + std::to_string(arc);
    }
    arc = 0;
  }
  return text;
}

// Characters with a meaning are escaped, and so are those that would break a line or a header.
void append_value(std::string& to, const Element& value) {
  switch (value.tag) {
    case utf8_string:
    case printable_string:
    case t61_string:
    case ia5_string:
      break;
    default:
      to += '#' + hexadecimal(value.whole);
      return;
  }
  const std::string_view text = value.content;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto octet = static_cast<unsigned char>(c);
    const bool edge = (i == 0 && (c == ' ' || c == '#')) || (i + 1 == text.size() && c == ' ');
    if (octet < 0x20 || octet == 0x7f || octet >= 0x80) {
      to += '\\' + hexadecimal(text.substr(i, 1));
    } else {
      if (edge || std::string_view("\"+,;<>\\").find(c) != std::string_view::npos) to += '\\';
      to += c;
    }
  }
}

}  // namespace

std::string hexadecimal(std::string_view octets) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string text;
  for (const char c : octets) {
    text += digits[static_cast<unsigned char>(c) >> 4];
    text += digits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

std::optional<CertificateView> parse_certificate(std::string_view der) {
  Der body(Der(Der(der).next(sequence).content).next(sequence).content);
  CertificateView certificate;
  Element element = body.next();
  if (element.tag == version) element = body.next();
  if (element.tag != integer) return std::nullopt;
  certificate.serial = element.content;
  while (certificate.serial.size() > 1 && certificate.serial.front() == '\0')
    certificate.serial.remove_prefix(1);
  body.next(sequence);  // signature algorithm
  certificate.issuer = body.next(sequence).whole;
  Der validity(body.next(sequence).content);
  const auto not_before = parse_time(validity.next());
  const auto not_after = parse_time(validity.next());
  const Element subject = body.next(sequence);
  const Element key = body.next(sequence);
  if (!not_before || !not_after || subject.tag == 0 || key.tag == 0) return std::nullopt;
  certificate.not_before = *not_before;
  certificate.not_after = *not_after;
  certificate.subject = subject.whole;
  certificate.key = parse_key(key.content);
  return certificate;
}

std::string distinguished_name(std::string_view der) {
  std::vector<std::string> parts;
  for (Der names(Der(der).next(sequence).content); !names.at_end();) {
    std::string part;
    for (Der attributes(names.next(set).content); !attributes.at_end();) {
      Der attribute(attributes.next(sequence).content);
      const std::string_view oid = attribute.next(object_identifier).content;
      if (!part.empty()) part += '+';
      part += attribute_name(oid) + '=';
      append_value(part, attribute.next());
    }
    if (!part.empty()) parts.push_back(std::move(part));
  }
  std::string text;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (!text.empty()) text += ',';
    text += *part;
  }
  return text;
}

}  // namespace ringmx::tls
