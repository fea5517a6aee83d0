// SPDX-License-Identifier: GPL-3.0-or-later
// RFC 8446 4.1.2, RFC 5246 7.4.1.2. wolfSSL parses the message again, and its word is what counts: this only
// chooses a certificate, and says exactly why a client can't be served.
#include "tls/client_hello.h"

namespace ringmx::tls {
namespace {

enum Extension : unsigned {
  server_name = 0,
  supported_groups = 10,
  signature_algorithms = 13,
  alpn = 16,
  supported_versions = 43,
};

// Takes parts off the front of some octets. After a failure everything is empty, and `good()` false.
class Cursor {
 public:
  explicit Cursor(std::string_view octets) : rest_(octets) {}
  bool good() const { return good_; }
  bool at_end() const { return rest_.empty(); }

  unsigned number(std::size_t octets) {
    unsigned value = 0;
    for (const char c : take(octets)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
  }
  std::string_view take(std::size_t octets) {
    if (octets > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view taken = rest_.substr(0, octets);
    rest_.remove_prefix(octets);
    return taken;
  }
  // A vector with its length in front.
  std::string_view vector(std::size_t length_octets) { return take(number(length_octets)); }
  // A vector of 16-bit numbers; `length_octets` of its length.
  Numbers numbers(std::size_t length_octets) {
    const std::string_view octets = vector(length_octets);
    if (octets.empty() || octets.size() % 2 != 0) good_ = false;
    return Numbers(octets);
  }

 private:
  std::string_view rest_;
  bool good_ = true;
};

bool parse_server_name(Cursor cursor, ClientHello& hello) {
  Cursor list(cursor.vector(2));
  while (list.good() && !list.at_end()) {
    const unsigned type = list.number(1);
    std::string_view name = list.vector(2);
    if (type == 0 && hello.name.empty()) {
      if (name.ends_with('.')) name.remove_suffix(1);
      if (name.size() <= 255) hello.name = name;
    }
  }
  return cursor.good() && list.good();
}

bool parse_protocols(Cursor cursor, ClientHello& hello) {
  hello.has_protocols = true;
  hello.protocols = cursor.vector(2);
  Cursor list(hello.protocols);
  while (list.good() && !list.at_end()) list.vector(1);
  return cursor.good() && list.good();
}

bool parse_extension(unsigned type, Cursor cursor, ClientHello& hello) {
  switch (type) {
    case server_name:
      return parse_server_name(cursor, hello);
    case supported_groups:
      hello.groups = cursor.numbers(2);
      return cursor.good();
    case signature_algorithms:
      hello.signatures = cursor.numbers(2);
      return cursor.good();
    case alpn:
      return parse_protocols(cursor, hello);
    case supported_versions: {
      const Numbers versions = cursor.numbers(1);
      hello.tls12 = versions.contains(static_cast<unsigned>(Version::tls12));
      hello.tls13 = versions.contains(static_cast<unsigned>(Version::tls13));
      return cursor.good();
    }
    default:
      return true;
  }
}

}  // namespace

bool Numbers::contains(unsigned number) const {
  for (std::size_t i = 0; i + 1 < octets_.size(); i += 2) {
    if ((static_cast<unsigned char>(octets_[i]) << 8 | static_cast<unsigned char>(octets_[i + 1])) ==
        static_cast<int>(number)) {
      return true;
    }
  }
  return false;
}

bool ClientHello::offers_protocol(std::string_view protocol) const {
  Cursor list(protocols);
  while (list.good() && !list.at_end()) {
    if (list.vector(1) == protocol) return true;
  }
  return false;
}

std::optional<ClientHello> parse_client_hello(std::string_view body) {
  ClientHello hello;
  Cursor cursor(body);
  // Without supported_versions: the highest one that the client knows.
  hello.tls12 = cursor.number(2) >= static_cast<unsigned>(Version::tls12);
  cursor.take(32);  // random
  if (cursor.vector(1).size() > 32) return std::nullopt;
  hello.suites = cursor.numbers(2);
  if (cursor.vector(1).find('\0') == std::string_view::npos) return std::nullopt;  // compression: none
  if (!cursor.good()) return std::nullopt;
  if (cursor.at_end()) return hello;

  Cursor extensions(cursor.vector(2));
  if (!cursor.good() || !cursor.at_end()) return std::nullopt;
  while (!extensions.at_end()) {
    const unsigned type = extensions.number(2);
    const Cursor content(extensions.vector(2));
    if (!extensions.good() || !parse_extension(type, content, hello)) return std::nullopt;
  }
  return hello;
}

}  // namespace ringmx::tls
