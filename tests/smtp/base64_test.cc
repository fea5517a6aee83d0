// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace ringmx::smtp {
namespace {

std::optional<std::string> decode(std::string_view text) {
  std::string out(decoded_size(text.size()), '?');
  const auto size = decode_base64(text, out.data());
  if (!size) return std::nullopt;
  out.resize(*size);
  return out;
}

std::string encode(std::string_view octets) {
  std::string out;
  append_base64(out, octets);
  return out;
}

TEST(Base64, AsRfc4648Has) {
  const std::pair<std::string_view, std::string_view> vectors[] = {{"", ""},
                                                                   {"f", "Zg=="},
                                                                   {"fo", "Zm8="},
                                                                   {"foo", "Zm9v"},
                                                                   {"foob", "Zm9vYg=="},
                                                                   {"fooba", "Zm9vYmE="},
                                                                   {"foobar", "Zm9vYmFy"},
                                                                   {"\xfb\xff", "+/8="}};
  for (const auto& [octets, text] : vectors) {
    EXPECT_EQ(encode(octets), text);
    EXPECT_EQ(decode(text), octets);
  }
}

// Each octet in each place of a group.
TEST(Base64, ThereAndBack) {
  for (int octet = 0; octet < 256; ++octet) {
    for (std::size_t size = 1; size <= 5; ++size) {
      for (std::size_t at = 0; at < size; ++at) {
        std::string octets(size, 'x');
        octets[at] = static_cast<char>(octet);
        EXPECT_EQ(decode(encode(octets)), octets);
      }
    }
  }
}

// What is base64 is the encoding of what it stands for: every string over an alphabet that has values of all
// kinds (0, all bits, low bits), padding, and what is none.
TEST(Base64, NothingElseIsBase64) {
  constexpr std::string_view alphabet = "A/Bg= -";
  std::size_t good = 0;
  for (std::size_t size = 1, count = alphabet.size(); size <= 8; ++size, count *= alphabet.size()) {
    for (std::size_t n = 0; n < count; ++n) {
      std::string text;
      for (std::size_t i = 0, rest = n; i < size; ++i, rest /= alphabet.size()) {
        text += alphabet[rest % alphabet.size()];
      }
      const auto octets = decode(text);
      if (!octets) {
        // Of four values there is a way back: only padding and bits behind the end can be wrong with them.
        const bool values_only = text.find_first_of("= -") == text.npos;
        ASSERT_FALSE(values_only && size % 4 == 0) << text;
        continue;
      }
      ASSERT_EQ(encode(*octets), text);
      ++good;
    }
  }
  // 4^4 + of the two ends: "xx==" with 4 bits of 0, "xxx=" with 2.
  const std::size_t last = 256 + 4 * 2 + 16 * 1;
  EXPECT_GT(good, last);
}

TEST(Base64, Refuses) {
  for (const std::string_view text :
       {"Z", "Zg", "Zg=", "Zg===", "=", "==", "====", "Zh==", "Zm9=", "Zm8=Zm8=", "Zm9v\n", "Zm9v ", " Zm9v",
        "Zm_v", "Zm-v", "Zm9v=", "Zm9v====", "Z=9v"}) {
    EXPECT_FALSE(decode(text)) << text;
  }
  EXPECT_FALSE(decode(std::string_view("Zg\0=", 4)));
}

}  // namespace
}  // namespace ringmx::smtp
