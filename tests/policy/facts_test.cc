// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/facts.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "policy/tls_names.h"

namespace ringmx::policy {
namespace {

Address address(const char* text) {
  Address a{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool known = inet_pton(AF_INET, text, a.data() + 12) == 1 || inet_pton(AF_INET6, text, a.data()) == 1;
  EXPECT_TRUE(known) << text;
  return a;
}

TEST(TextOfAddress, IsTheOneFormOfRfc5952) {
  for (const char* text :
       {"0.0.0.0", "127.0.0.1", "255.255.255.255", "::", "::1", "1::", "2001:db8::1", "2001:db8:0:1:1:1:1:1",
        "2001:0:0:1::1", "1:2:3:4:5:6:7:8", "fe80::1:0:0:1", "0:1::", "::1:0"})
    EXPECT_EQ(text_of(address(text)), text);
}

TEST(TextOfAddress, IsWhatTheSystemWrites) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    Address a{};
    for (std::size_t n = 0; n < 16; n += 2) {
      // Zeros by the row, and short groups.
      const auto group = random() % 3 == 0 ? random() & 0xffffu : random() % 2 * (random() % 16);
      a[n] = static_cast<std::uint8_t>(group >> 8);
      a[n + 1] = static_cast<std::uint8_t>(group);
    }
    // The system writes these as if IPv4 were in them.
    const bool other = std::all_of(a.begin(), a.begin() + 10, [](auto octet) { return octet == 0; });
    if (other) continue;
    std::array<char, INET6_ADDRSTRLEN> text{};
    inet_ntop(AF_INET6, a.data(), text.data(), text.size());
    EXPECT_EQ(text_of(a), text.data());
  }
}

TEST(TlsNames, AreOpenSsls) {
  EXPECT_EQ(openssl_name("TLS_AES_128_GCM_SHA256"), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(openssl_name("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "ECDHE-RSA-AES256-GCM-SHA384");
  EXPECT_EQ(key_bits("TLS_AES_128_GCM_SHA256"), 128U);
  EXPECT_EQ(key_bits("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"), 256U);
  EXPECT_EQ(key_bits("TLS_NULL"), 0U);
}

TEST(CommonName, IsFoundWhereverItStands) {
  EXPECT_EQ(common_name("CN=a.example"), "a.example");
  EXPECT_EQ(common_name("O=Example\\, Inc.,cn=a.example,C=DE"), "a.example");
  EXPECT_EQ(common_name("O=x+CN=y,CN=z"), "y");
  EXPECT_EQ(common_name("O=x\\,CN=y, CN=z"), "z");
  EXPECT_EQ(common_name("CN=a\\2C b\\+c\\\\"), "a, b+c\\");
  for (const char* none : {"", "O=x", "O=CN=x", "XCN=y", "\\", "O=x\\", ",", "O=x,"})
    EXPECT_EQ(common_name(none), "");
  EXPECT_EQ(common_name("CN=a\\"), "a\\");
  EXPECT_EQ(common_name("CN=\\c3\\bc"), "\xc3\xbc");
}

}  // namespace
}  // namespace ringmx::policy
