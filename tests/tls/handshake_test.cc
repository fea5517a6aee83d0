// SPDX-License-Identifier: GPL-3.0-or-later
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "pair.h"

namespace tls = ringmx::tls;

namespace {

using namespace tls_test;  // NOLINT
using tls::Cipher;
using tls::Group;
using tls::Progress;
using tls::Version;

using Case = std::tuple<Version, Cipher, Group, const char*>;

tls::ClientSettings only(Version version, Cipher cipher, Group group) {
  tls::ClientSettings settings;
  settings.minimum = settings.maximum = version;
  settings.ciphers = {cipher};
  settings.groups = {group};
  return settings;
}

class Handshake : public testing::TestWithParam<Case> {};

TEST_P(Handshake, NegotiatesAndSaysWhat) {
  const auto [version, cipher, group, certificate] = GetParam();
  Pair pair(server_context(material(certificate)), client_context(only(version, cipher, group)));
  ASSERT_TRUE(pair.handshake()) << pair.server.failure().text << " / " << pair.client.failure().text;
  for (const tls::Connection* side : {&pair.server, &pair.client}) {
    const tls::Facts& facts = side->facts();
    EXPECT_EQ(version, facts.version);
    EXPECT_EQ(cipher, facts.cipher);
    EXPECT_EQ(group, facts.group);
    EXPECT_FALSE(facts.resumed);
    EXPECT_EQ("mx.example.org", facts.name);
    EXPECT_EQ("smtp", facts.protocol);
    const bool rsa = std::string(certificate) == "rsa";
    if (version == Version::tls12) {
      EXPECT_EQ(rsa, facts.suite.find("ECDHE_RSA") != std::string_view::npos) << facts.suite;
    }
  }
  ASSERT_TRUE(pair.client.facts().certificate.has_value());
  EXPECT_TRUE(pair.client.facts().certificate->verified);
  EXPECT_EQ("CN=mx.example.org", pair.client.facts().certificate->subject);
}

std::string name_of_case(const testing::TestParamInfo<Case>& info) {
  const auto [version, cipher, group, certificate] = info.param;
  std::string name = std::string(tls::name_of(version)) + '_' + std::to_string(static_cast<int>(cipher)) +
                     '_' + std::string(tls::name_of(group)) + '_' + certificate;
  for (char& c : name) {
    if (c == '.' || c == '-') c = '_';
  }
  return name;
}

constexpr Cipher ciphers[] = {Cipher::aes_128_gcm, Cipher::aes_256_gcm, Cipher::chacha20_poly1305};
INSTANTIATE_TEST_SUITE_P(Tls13, Handshake,
                         testing::Combine(testing::Values(Version::tls13), testing::ValuesIn(ciphers),
                                          testing::Values(Group::x25519_mlkem768, Group::x25519, Group::p256),
                                          testing::Values("p256", "p384", "rsa")),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Tls12, Handshake,
                         testing::Combine(testing::Values(Version::tls12), testing::ValuesIn(ciphers),
                                          testing::Values(Group::x25519, Group::p256),
                                          testing::Values("p256", "p384", "rsa")),
                         name_of_case);

}  // namespace
