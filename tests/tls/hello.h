// SPDX-License-Identifier: GPL-3.0-or-later
// ClientHellos by hand.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tls_test {

inline std::string number(std::size_t octets, std::size_t value) {
  std::string text;
  for (std::size_t i = octets; i-- > 0;) text += static_cast<char>(value >> (8 * i));
  return text;
}
inline std::string vector(std::size_t length_octets, std::string_view content) {
  return number(length_octets, content.size()) + std::string(content);
}
inline std::string numbers(std::initializer_list<unsigned> values) {
  std::string text;
  for (const unsigned value : values) text += number(2, value);
  return text;
}

struct Hello {
  unsigned version = 0x0303;
  std::string suites = numbers({0x1301, 0xc02b, 0xc02f});
  std::string compressions = std::string(1, '\0');
  std::optional<std::string> versions = numbers({0x0304, 0x0303});
  std::optional<std::string> groups = numbers({0x001d, 0x0017});
  std::optional<std::string> signatures = numbers({0x0403, 0x0804, 0x0401});
  std::optional<std::string> name;
  std::vector<std::string> protocols;
  std::string key_share = number(2, 0x001d) + vector(2, std::string(31, '\1') + std::string(1, '\2'));
  std::string more;  // extensions as they are

  std::string body() const {
    const auto extension = [](unsigned type, std::string_view content) {
      return number(2, type) + vector(2, content);
    };
    std::string extensions;
    if (name) extensions += extension(0, vector(2, number(1, 0) + vector(2, *name)));
    if (groups) extensions += extension(10, vector(2, *groups));
    if (signatures) extensions += extension(13, vector(2, *signatures));
    if (!protocols.empty()) {
      std::string list;
      for (const std::string& protocol : protocols) list += vector(1, protocol);
      extensions += extension(16, vector(2, list));
    }
    if (versions) extensions += extension(43, vector(1, *versions));
    if (versions) extensions += extension(51, vector(2, key_share));
    extensions += more;
    return number(2, version) + std::string(32, 'r') + vector(1, "") + vector(2, suites) +
           vector(1, compressions) + vector(2, extensions);
  }
  std::string message() const { return number(1, 1) + vector(3, body()); }
  // In records of at most so many octets.
  std::string records(std::size_t most = 16384) const {
    const std::string all = message();
    std::string text;
    for (std::size_t at = 0; at < all.size(); at += most)
      text += "\x16\3\1" + vector(2, all.substr(at, most));
    return text;
  }
};

}  // namespace tls_test
