// SPDX-License-Identifier: GPL-3.0-or-later
// Who gets what, and who is refused, with which word.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "hello.h"
#include "pair.h"
#include "tls/control.h"

namespace tls = ringmx::tls;

namespace {

using namespace tls_test;  // NOLINT
using tls::Alert;
using tls::ClientCertificates;
using tls::ClientSettings;
using tls::Connection;
using tls::Group;
using tls::Progress;
using tls::Reason;
using tls::ServerSettings;
using tls::Version;

std::string alert_record(Alert alert, std::string_view level = "\2") {
  return std::string("\x15\3\3\0\2", 5) + std::string(level) + static_cast<char>(alert);
}

// What a server answers to some octets, that come at once or one by one.
struct Answer {
  Progress progress;
  Reason reason;
  Alert alert;
  std::string output;
  bool operator==(const Answer&) const = default;
};

Answer answer(const std::shared_ptr<const tls::ServerContext>& context, std::string_view wire,
              std::size_t most = 1 << 20) {
  Connection server(context);
  while (!wire.empty() && server.progress() == Progress::want_input) {
    EXPECT_GT(server.wanted(), 0U);
    std::string_view portion = wire.substr(0, most);
    const std::size_t offered = portion.size();
    server.feed(portion);
    wire.remove_prefix(offered - portion.size());
  }
  if (server.progress() == Progress::failed) {
    EXPECT_FALSE(server.failure().text.empty());
    EXPECT_EQ(std::string::npos, server.failure().text.find('\n'));
  }
  return {server.progress(), server.failure().reason, server.failure().alert, std::string(server.output())};
}

class Refused : public testing::Test {
 protected:
  std::shared_ptr<const tls::ServerContext> context_ =
      server_context(material({source("p256"), source("rsa")}));

  void expect(Reason reason, Alert alert, const std::string& wire) {
    const Answer expected{Progress::failed, reason, alert, alert_record(alert)};
    EXPECT_EQ(expected, answer(context_, wire))
        << tls::label(answer(context_, wire).reason) << ' ' << tls::name_of(answer(context_, wire).alert);
    EXPECT_EQ(expected, answer(context_, wire, 1));
  }
};

TEST_F(Refused, WhatIsNotTls) {
  for (const char* text :
       {"GET / HTTP/1.1\r\n", "EHLO example.org\r\n", "\r\n\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"}) {
    expect(Reason::not_tls, Alert::unexpected_message, text);
  }
  expect(Reason::not_tls, Alert::unexpected_message, std::string("\x17\3\3\0\5hello", 10));
  expect(Reason::not_tls, Alert::unexpected_message, std::string("\x16\3\1\0\0", 5));
  expect(Reason::not_tls, Alert::unexpected_message, std::string("\x16\3\1\x40\1", 5));
  expect(Reason::not_tls, Alert::unexpected_message, std::string("\x16\2\0\0\5", 5));
}

TEST_F(Refused, WhatIsNotTlsAtItsFirstOctet) {
  for (int octet = 0; octet < 256; ++octet) {
    const std::string first(1, static_cast<char>(octet));
    const bool possible = octet == 0x15 || octet == 0x16;
    EXPECT_EQ(possible ? Progress::want_input : Progress::failed, answer(context_, first).progress) << octet;
    EXPECT_EQ(octet == 3 ? Progress::want_input : Progress::failed, answer(context_, "\x16" + first).progress)
        << octet;
  }
  expect(Reason::not_tls, Alert::unexpected_message, "\n");
  expect(Reason::not_tls, Alert::unexpected_message, "\x16\x16");
  // Between the parts of a ClientHello too.
  expect(Reason::decode, Alert::unexpected_message, Hello().records(40).substr(0, 45) + "\x15");
}

TEST_F(Refused, OldVersions) {
  EXPECT_EQ((Answer{Progress::failed, Reason::no_shared_version, Alert::protocol_version,
                    alert_record(Alert::protocol_version)}),
            answer(context_, std::string("\x80\x2e\1\0\2", 5)));  // SSL 2.0
  Hello hello;
  for (const unsigned version : {0x0300U, 0x0301U, 0x0302U}) {
    hello.version = version;
    hello.versions.reset();
    expect(Reason::no_shared_version, Alert::protocol_version, hello.records());
    hello.version = 0x0303;
    hello.versions = number(2, version) + number(2, 0x7a7a);
    expect(Reason::no_shared_version, Alert::protocol_version, hello.records());
  }
  ServerSettings settings;
  settings.minimum = Version::tls13;
  context_ = server_context(material("p256"), settings);
  hello.versions = numbers({0x0303});
  expect(Reason::no_shared_version, Alert::protocol_version, hello.records());
  hello.versions.reset();
  expect(Reason::no_shared_version, Alert::protocol_version, hello.records());
}

TEST_F(Refused, Compression) {
  for (const bool tls13 : {true, false}) {
    Hello hello;
    if (!tls13) hello.versions = numbers({0x0303});
    hello.compressions = "\1";
    expect(Reason::decode, Alert::decode_error, hello.records());
  }
  // Offered beside none: in TLS 1.3 a fault, in TLS 1.2 not taken.
  Hello hello;
  hello.compressions = std::string("\1\0", 2);
  EXPECT_EQ(Progress::failed, answer(context_, hello.records()).progress);
  hello.versions = numbers({0x0303});
  const Answer taken = answer(context_, hello.records());
  ASSERT_EQ(Progress::want_input, taken.progress);
  const std::size_t compression = 5 + 4 + 2 + 32 + 1 + static_cast<unsigned char>(taken.output[43]) + 2;
  EXPECT_EQ('\0', taken.output.at(compression));
}

TEST_F(Refused, OtherProtocols) {
  Hello hello;
  for (const std::vector<std::string>& protocols : {std::vector<std::string>{"h2"},
                                                    {"http/1.1", "h2"},
                                                    {"smt"},
                                                    {"smtps"},
                                                    {"SMTP"},
                                                    {std::string("smtp\0x", 6)}}) {
    hello.protocols = protocols;
    expect(Reason::alpn, Alert::no_application_protocol, hello.records());
  }
  hello.protocols = {"h2", "smtp"};
  EXPECT_EQ(Progress::want_input, answer(context_, hello.records()).progress);
  hello.protocols = {};
  EXPECT_EQ(Progress::want_input, answer(context_, hello.records()).progress);
}

TEST_F(Refused, WhoHasNothingInCommon) {
  Hello hello;
  hello.suites = numbers({0x1304, 0xc02b});  // CCM
  expect(Reason::no_shared_cipher, Alert::handshake_failure, hello.records());
  Hello old;
  old.versions = numbers({0x0303});
  old.suites = numbers({0x002f, 0x009c, 0xc013, 0xc009, 0x1301});  // RSA key exchange, CBC
  expect(Reason::no_shared_cipher, Alert::handshake_failure, old.records());
  hello = {};
  hello.groups = numbers({0x0018, 0x0100});  // P-384, ffdhe2048
  expect(Reason::no_shared_group, Alert::handshake_failure, hello.records());
  hello = {};
  hello.signatures = numbers({0x0807, 0x0401});  // Ed25519, and PKCS #1, which TLS 1.3 does not take
  expect(Reason::no_shared_signature, Alert::handshake_failure, hello.records());
}

TEST_F(Refused, WhatIsMalformed) {
  Hello hello;
  hello.groups = "\0";
  expect(Reason::decode, Alert::decode_error, hello.records());
  expect(Reason::decode, Alert::unexpected_message,
         "\x16\3\1" + vector(2, number(1, 2) + vector(3, "ServerHello")));
  expect(Reason::decode, Alert::decode_error, "\x16\3\1" + vector(2, number(1, 1) + number(3, 20000)));
  // Something else between the parts of a ClientHello.
  const std::string parts = Hello().records(40);
  expect(Reason::decode, Alert::unexpected_message, parts.substr(0, 45) + alert_record(Alert::close_notify));
  for (std::size_t cut = 1; cut < 40; ++cut) {
    const std::string body = Hello().body();
    expect(Reason::decode, Alert::decode_error,
           "\x16\3\1" + vector(2, number(1, 1) + vector(3, body.substr(0, body.size() - cut))));
  }
}

TEST_F(Refused, WhoBeginsWithAnAlert) {
  const Answer expected{Progress::failed, Reason::alert_from_peer, Alert::internal_error, ""};
  for (const std::size_t most : {1U, 5U, 7U})
    EXPECT_EQ(expected, answer(context_, alert_record(Alert::internal_error), most));
  expect(Reason::not_tls, Alert::unexpected_message, std::string("\x15\3\3\0\3\2\50\0", 8));
}

TEST(Hello, MayComeInManyRecords) {
  const auto context = server_context(material("p256"));
  for (std::size_t most = 1; most < 300; ++most) {
    for (const std::size_t portion : {std::size_t{1}, std::size_t{1} << 20}) {
      EXPECT_EQ(Progress::want_input, answer(context, Hello().records(most), portion).progress) << most;
    }
  }
}

TEST(EarlyData, IsNotTaken) {
  const auto context = server_context(material("p256"));
  // Without a ticket of ours it is a stranger's, and skipped or refused; never read.
  Hello hello;
  hello.more = number(2, 42) + number(2, 0) + number(2, 45) + vector(2, "\1\1");
  Connection server(context);
  const std::string wire = hello.records() + std::string("\x17\3\3\0\x20", 5) + std::string(32, 'e');
  std::string_view rest = wire;
  server.feed(rest);
  EXPECT_NE(Progress::done, server.progress());
  // No early_data in EncryptedExtensions can't be seen from here; but no ticket ever allows it: see
  // resumption_test.
}

TEST(Wanted, IsJustTheRestOfTheRecord) {
  const auto context = server_context(material("p256"));
  Connection server(context);
  const std::string wire = Hello().records();
  EXPECT_EQ(5U, server.wanted());
  for (std::size_t i = 0; i < wire.size(); ++i) {
    const std::size_t expected = i < 5 ? 5 - i : wire.size() - i;
    ASSERT_EQ(expected, server.wanted()) << i;
    std::string_view octet(wire.data() + i, 1);
    server.feed(octet);
    ASSERT_TRUE(octet.empty());
  }
  EXPECT_EQ(5U, server.wanted());
}

class Flights : public testing::TestWithParam<std::tuple<Version, const char*>> {};

// Every portion from one octet up; deliver() gives no more than wanted(), and all of it must be used.
TEST_P(Flights, MayBeSplitAnywhere) {
  const auto [version, certificate] = GetParam();
  ClientSettings settings;
  settings.minimum = settings.maximum = version;
  const auto server = server_context(material(certificate));
  const auto client = client_context(settings);
  for (const std::size_t most :
       {1UL, 2UL, 3UL, 4UL, 5UL, 6UL, 7UL, 11UL, 16UL, 64UL, 100UL, 1000UL, 1500UL}) {
    Pair pair(server, client);
    EXPECT_TRUE(pair.handshake(most)) << most;
  }
}

// What follows the handshake in the same flight stays with the caller: the kernel reads it.
TEST_P(Flights, LeaveWhatFollows) {
  const auto [version, certificate] = GetParam();
  ClientSettings settings;
  settings.minimum = settings.maximum = version;
  Pair pair(server_context(material(certificate)), client_context(settings));
  while (pair.client.progress() == Progress::want_input) {
    ASSERT_TRUE(deliver(pair.client, pair.server));
    if (version == Version::tls12 && pair.server.progress() == Progress::done) break;
    deliver(pair.server, pair.client);
  }
  if (pair.server.progress() == Progress::want_input) {
    const std::string wire = std::string(pair.client.output()) + "and more";
    std::string_view rest = wire;
    EXPECT_EQ(Progress::done, pair.server.feed(rest));
    EXPECT_EQ("and more", rest);
  } else {
    const std::string wire = std::string(pair.server.output()) + "and more";
    std::string_view rest = wire;
    EXPECT_EQ(Progress::done, pair.client.feed(rest));
    EXPECT_EQ("and more", rest);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Flights,
                         testing::Combine(testing::Values(Version::tls12, Version::tls13),
                                          testing::Values("p256", "rsa")));

TEST(Versions, TheClientMayInsist) {
  ServerSettings server;
  ClientSettings client;
  client.maximum = Version::tls12;
  server.minimum = Version::tls13;
  Pair pair(server_context(material("p256"), server), client_context(client));
  EXPECT_FALSE(pair.handshake());
  EXPECT_EQ(Reason::no_shared_version, pair.server.failure().reason);
  EXPECT_EQ(Reason::alert_from_peer, pair.client.failure().reason);
  EXPECT_EQ(Alert::protocol_version, pair.client.failure().alert);
  EXPECT_EQ("the peer gave up", pair.client.failure().text);
}

TEST(Versions, TheBestOneIsTaken) {
  Pair pair(server_context(material("p256")), client_context());
  ASSERT_TRUE(pair.handshake());
  EXPECT_EQ(Version::tls13, pair.server.facts().version);
  EXPECT_EQ(Group::x25519_mlkem768, pair.server.facts().group);
  EXPECT_EQ("TLS_AES_128_GCM_SHA256", pair.server.facts().suite);
}

// A server that is asked for a group without a share of it asks again, and goes on.
TEST(Groups, MayTakeASecondHello) {
  ClientSettings settings;
  settings.groups = {Group::p256, Group::x25519};
  Hello hello;
  hello.key_share = "";
  Connection server(server_context(material("p256")));
  const std::string wire = hello.records();
  std::string_view rest = wire;
  EXPECT_EQ(Progress::want_input, server.feed(rest));
  ASSERT_GT(server.output().size(), 43U);
  EXPECT_EQ('\2', server.output()[5]);
  EXPECT_EQ('\xcf', server.output()[11]);  // the random of a HelloRetryRequest
}

// The serial number of the certificate that a client is shown: 3 is p256, 4 p384, 5 rsa, 6 expired.
std::string shown(const std::shared_ptr<const tls::ServerContext>& context, std::string_view host,
                  ClientSettings settings = {}) {
  settings.verify = ClientSettings::Verify::none;
  Pair pair(context, client_context(settings), host);
  EXPECT_TRUE(pair.handshake()) << pair.server.failure().text << " / " << pair.client.failure().text;
  EXPECT_EQ(host, pair.server.facts().name);
  return pair.client.facts().certificate ? pair.client.facts().certificate->serial : "";
}

TEST(Certificates, AreChosenByName) {
  const auto context =
      server_context(material({source("p256"), source("p384", {"b.example.org", "*.c.example.org"}),
                               source("expired", {"*.example.org", "MX.Example.NET."})}));
  EXPECT_EQ("03", shown(context, ""));
  EXPECT_EQ("03", shown(context, "other.example.com"));
  EXPECT_EQ("03", shown(context, "example.org"));
  EXPECT_EQ("04", shown(context, "b.example.org"));
  EXPECT_EQ("04", shown(context, "B.EXAMPLE.org"));
  EXPECT_EQ("04", shown(context, "x.c.example.org"));
  EXPECT_EQ("06", shown(context, "c.example.org"));
  EXPECT_EQ("06", shown(context, "a.example.org"));
  EXPECT_EQ("03", shown(context, "a.b.example.org"));  // a wildcard is one label
  EXPECT_EQ("03", shown(context, "x.y.c.example.org"));
  EXPECT_EQ("06", shown(context, "mx.example.net"));
}

TEST(Certificates, OfTwoKindsGoToWhoCanVerifyThem) {
  for (const bool rsa_first : {true, false}) {
    const auto context = rsa_first ? server_context(material({source("rsa"), source("p256")}))
                                   : server_context(material({source("p256"), source("rsa")}));
    EXPECT_EQ("03", shown(context, "mx.example.org"));
    ClientSettings old;
    old.maximum = Version::tls12;
    EXPECT_EQ("03", shown(context, "mx.example.org", old));
    old.groups = {Group::x25519};  // no P-256, so no certificate with it
    EXPECT_EQ("05", shown(context, "mx.example.org", old));

    // By hand, since wolfSSL always offers both. The certificate is in clear in TLS 1.2.
    Hello hello;
    hello.versions = numbers({0x0303});
    const auto certificate_of = [&] {
      const Answer got = answer(context, hello.records());
      EXPECT_EQ(Progress::want_input, got.progress);
      const bool rsa = got.output.find("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01") != std::string::npos;
      return rsa ? "rsa" : "p256";
    };
    EXPECT_STREQ("p256", certificate_of());
    hello.suites = numbers({0xc02f, 0xc030});
    EXPECT_STREQ("rsa", certificate_of());
    hello.suites = numbers({0xc02f, 0xc02b});
    hello.signatures = numbers({0x0401, 0x0804});
    EXPECT_STREQ("rsa", certificate_of());
    hello.signatures = numbers({0x0403});
    EXPECT_STREQ("p256", certificate_of());
  }
}

// TLS 1.3 hides the certificate: here it is the client's choice of signatures that tells.
TEST(Certificates, InTls13GoBySignatureAlgorithms) {
  const auto both = material({source("p256"), source("rsa")});
  tls::ServerContext context(both, {}, nullptr);
  const auto choice = [&](std::initializer_list<unsigned> signatures) {
    Hello hello;
    hello.signatures = numbers(signatures);
    const std::string body = hello.body();
    return context.choose(*tls::parse_client_hello(body)).context;
  };
  WOLFSSL_CTX* const ecdsa = choice({0x0403, 0x0804});
  EXPECT_NE(nullptr, ecdsa);
  EXPECT_EQ(ecdsa, choice({0x0804, 0x0403}));
  EXPECT_EQ(ecdsa, choice({0x0403}));
  WOLFSSL_CTX* const rsa = choice({0x0804});
  EXPECT_NE(nullptr, rsa);
  EXPECT_NE(ecdsa, rsa);
  EXPECT_EQ(rsa, choice({0x0503, 0x0805}));
  EXPECT_EQ(nullptr, choice({0x0503}));
}

TEST(Certificates, OfAnotherNameAreBetterThanNone) {
  const auto context = server_context(material({source("rsa"), source("p256", {"mx.example.org"})}));
  Hello hello;
  hello.versions = numbers({0x0303});
  hello.suites = numbers({0xc02f});
  hello.name = "mx.example.org";
  EXPECT_EQ(Progress::want_input, answer(context, hello.records()).progress);
}

TEST(Upstream, IsVerified) {
  Pair good(server_context(material("p256")), client_context(), "mx.example.org");
  ASSERT_TRUE(good.handshake());
  EXPECT_TRUE(good.client.facts().certificate->verified);
  Pair wildcard(server_context(material("p256")), client_context(), "a.mail.example.org");
  EXPECT_TRUE(wildcard.handshake());
}

void expect_client_refuses(const char* certificate, const char* ca, std::string_view host, Reason reason,
                           Alert alert, Version version) {
  ClientSettings settings;
  settings.minimum = settings.maximum = version;
  Pair pair(server_context(material(certificate)), client_context(settings, ca), host);
  EXPECT_FALSE(pair.handshake());
  EXPECT_EQ(Progress::failed, pair.client.progress());
  EXPECT_EQ(reason, pair.client.failure().reason) << pair.client.failure().text;
  EXPECT_EQ(Reason::alert_from_peer, pair.server.failure().reason) << pair.server.failure().text;
  EXPECT_EQ(alert, pair.server.failure().alert) << tls::name_of(pair.server.failure().alert);
  EXPECT_EQ(alert, pair.client.failure().alert);
}

TEST(Upstream, IsRefusedUnlessItIsWhoItShouldBe) {
  for (const Version version : {Version::tls12, Version::tls13}) {
    expect_client_refuses("p256", "other.pem", "mx.example.org", Reason::unknown_ca, Alert::unknown_ca,
                          version);
    expect_client_refuses("p256", "root.pem", "mx.example.net", Reason::wrong_name, Alert::bad_certificate,
                          version);
    expect_client_refuses("p256", "root.pem", "a.b.mail.example.org", Reason::wrong_name,
                          Alert::bad_certificate, version);
    expect_client_refuses("expired", "root.pem", "mx.example.org", Reason::expired_certificate,
                          Alert::certificate_expired, version);
    expect_client_refuses("stranger", "root.pem", "mx.example.org", Reason::unknown_ca, Alert::unknown_ca,
                          version);
  }
}

TEST(Upstream, MayBeCalledOtherwise) {
  ClientSettings settings;
  settings.name = "mx.example.org";
  Pair pair(server_context(material("p256")), client_context(settings), "192.0.2.1");
  ASSERT_TRUE(pair.handshake());
  EXPECT_EQ("mx.example.org", pair.server.facts().name);
}

// Without the intermediate CA that comes with it.
std::shared_ptr<const tls::Material> leaf_alone(const char* name) {
  tls::CertificateSource alone = source(name);
  alone.certificate.text = tls::pem_blocks(source(name).certificate.text, "CERTIFICATE").at(0);
  return material({std::move(alone)});
}

TEST(Upstream, IsNotVerifiedByWhatAnotherHasShown) {
  const auto client = client_context();
  const auto server = server_context(leaf_alone("p256"));
  EXPECT_TRUE(Pair(server_context(material("p256")), client).handshake());
  Pair pair(server, client);
  EXPECT_FALSE(pair.handshake());
  EXPECT_EQ(Reason::unknown_ca, pair.client.failure().reason) << pair.client.failure().text;
}

TEST(Upstream, IsAFactEvenIfNobodyVerifies) {
  ClientSettings settings;
  settings.verify = ClientSettings::Verify::none;
  for (const char* name : {"p256", "expired", "stranger"}) {
    Pair pair(server_context(material(name)), client_context(settings), "nobody.example.net");
    ASSERT_TRUE(pair.handshake()) << name << pair.client.failure().text;
    ASSERT_TRUE(pair.client.facts().certificate.has_value());
    EXPECT_FALSE(pair.client.facts().certificate->verified);
  }
}

class ClientCertificate : public testing::TestWithParam<Version> {
 protected:
  static std::shared_ptr<const tls::ServerContext> server(ClientCertificates mode) {
    ServerSettings settings;
    settings.client_certificates = mode;
    return server_context(material({source("p256")}, mode == ClientCertificates::none ? "" : "root.pem"),
                          settings);
  }
  static std::unique_ptr<Pair> pair(std::shared_ptr<const tls::ServerContext> server,
                                    const tls::Material* own) {
    ClientSettings client;
    client.minimum = client.maximum = GetParam();
    return std::make_unique<Pair>(std::move(server), client_context(client, "root.pem", own));
  }
  static std::unique_ptr<Pair> pair(ClientCertificates mode, const char* own) {
    return pair(server(mode), own != nullptr ? material(own).get() : nullptr);
  }
  static bool verified(const std::unique_ptr<Pair>& pair) {
    EXPECT_TRUE(pair->handshake()) << pair->server.failure().text << pair->client.failure().text;
    return pair->server.facts().certificate && pair->server.facts().certificate->verified;
  }
};

TEST_P(ClientCertificate, IsAFact) {
  for (const ClientCertificates mode : {ClientCertificates::request, ClientCertificates::require}) {
    const auto pair = this->pair(mode, "client");
    ASSERT_TRUE(pair->handshake()) << pair->server.failure().text << pair->client.failure().text;
    const auto& certificate = pair->server.facts().certificate;
    ASSERT_TRUE(certificate.has_value());
    EXPECT_TRUE(certificate->verified);
    EXPECT_EQ("CN=relay 7,O=Example\\, Inc.,C=DE", certificate->subject);
    EXPECT_EQ("CN=Example Intermediate,O=Example Trust,C=DE", certificate->issuer);
    EXPECT_EQ("F1E2D3", certificate->serial);
    EXPECT_EQ(40U, certificate->sha1.size());
    EXPECT_EQ(64U, certificate->sha256.size());
    EXPECT_EQ("", pair->server.output());  // no ticket: a resumed session would not show it again
  }
}

TEST_P(ClientCertificate, MayLackIfItIsOnlyRequested) {
  const auto pair = this->pair(ClientCertificates::request, nullptr);
  ASSERT_TRUE(pair->handshake()) << pair->server.failure().text;
  EXPECT_FALSE(pair->server.facts().certificate.has_value());
}

TEST_P(ClientCertificate, MayBeAnybodysIfItIsOnlyRequested) {
  for (const char* name : {"stranger", "expired"}) {
    const auto pair = this->pair(ClientCertificates::request, name);
    ASSERT_TRUE(pair->handshake()) << pair->server.failure().text;
    ASSERT_TRUE(pair->server.facts().certificate.has_value());
    EXPECT_FALSE(pair->server.facts().certificate->verified);
  }
}

// One has the client's key, and has made a CA that names the root as its issuer.
TEST_P(ClientCertificate, OfAForgedCaIsNeverVerified) {
  const auto context = server(ClientCertificates::request);
  EXPECT_FALSE(verified(pair(context, leaf_alone("forged").get())));
  EXPECT_FALSE(verified(pair(context, material("forged").get())));
  EXPECT_FALSE(verified(pair(context, leaf_alone("forged").get())));
  EXPECT_FALSE(verified(pair(context, material("forged").get())));

  // Nor while the one that has shown the CA is not through.
  const auto slow = pair(context, material("forged").get());
  deliver(slow->client, slow->server);
  deliver(slow->server, slow->client);
  std::string_view flight = slow->client.output();
  flight.remove_suffix(1);
  ASSERT_EQ(Progress::want_input, slow->server.feed(flight));
  ASSERT_TRUE(slow->server.facts().certificate.has_value());
  EXPECT_FALSE(verified(pair(context, leaf_alone("forged").get())));

  EXPECT_TRUE(verified(pair(context, material("client").get())));
  const auto strict = pair(server(ClientCertificates::require), material("forged").get());
  EXPECT_FALSE(strict->handshake());
  EXPECT_EQ(Reason::bad_certificate, strict->server.failure().reason) << strict->server.failure().text;
}

// Whether a client is verified hangs on what it shows itself.
TEST_P(ClientCertificate, IsNotVerifiedByWhatAnotherHasShown) {
  for (const ClientCertificates mode : {ClientCertificates::request, ClientCertificates::require}) {
    const auto context = server(mode);
    EXPECT_TRUE(verified(pair(context, material("client").get())));
    const auto alone = pair(context, leaf_alone("client").get());
    EXPECT_EQ(mode == ClientCertificates::request, alone->handshake());
    ASSERT_TRUE(alone->server.facts().certificate.has_value());
    EXPECT_FALSE(alone->server.facts().certificate->verified);
    EXPECT_TRUE(verified(pair(context, material("client").get())));
  }
}

// What was let pass is not why a handshake failed.
TEST_P(ClientCertificate, IsNotBlamedIfItIsOnlyRequested) {
  for (const char* name : {"client", "stranger", "expired"}) {
    const auto pair = this->pair(ClientCertificates::request, name);
    deliver(pair->client, pair->server);
    deliver(pair->server, pair->client);
    std::string flight(pair->client.output());
    flight.back() = static_cast<char>(flight.back() ^ 1);
    std::string_view rest = flight;
    ASSERT_EQ(Progress::failed, pair->server.feed(rest));
    EXPECT_EQ(Reason::bad_record, pair->server.failure().reason) << name << pair->server.failure().text;
    ASSERT_TRUE(pair->server.facts().certificate.has_value());
    EXPECT_FALSE(pair->server.facts().certificate->verified);
  }
}

TEST_P(ClientCertificate, MustBeThereIfRequired) {
  const auto pair = this->pair(ClientCertificates::require, nullptr);
  EXPECT_FALSE(pair->handshake());
  EXPECT_EQ(Progress::failed, pair->server.progress());
  EXPECT_EQ(Reason::no_certificate, pair->server.failure().reason) << pair->server.failure().text;
  EXPECT_EQ(GetParam() == Version::tls13 ? Alert::certificate_required : Alert::handshake_failure,
            pair->server.failure().alert)
      << tls::name_of(pair->server.failure().alert);
}

TEST_P(ClientCertificate, MustBeVerifiedIfRequired) {
  const auto unknown = pair(ClientCertificates::require, "stranger");
  EXPECT_FALSE(unknown->handshake());
  EXPECT_EQ(Reason::unknown_ca, unknown->server.failure().reason) << unknown->server.failure().text;
  EXPECT_EQ(Alert::unknown_ca, unknown->server.failure().alert)
      << tls::name_of(unknown->server.failure().alert);
  const auto expired = pair(ClientCertificates::require, "expired");
  EXPECT_FALSE(expired->handshake());
  EXPECT_EQ(Reason::expired_certificate, expired->server.failure().reason) << expired->server.failure().text;
  ASSERT_TRUE(expired->server.facts().certificate.has_value());
}

TEST_P(ClientCertificate, IsNotAskedForByDefault) {
  const auto pair = this->pair(ClientCertificates::none, "client");
  ASSERT_TRUE(pair->handshake());
  EXPECT_FALSE(pair->server.facts().certificate.has_value());
}

INSTANTIATE_TEST_SUITE_P(All, ClientCertificate, testing::Values(Version::tls12, Version::tls13));

// Every octet of a flight, touched: no crash, no handshake that both believe in with a changed transcript.
TEST(Flights, AreRefusedWhenTouched) {
  for (const Version version : {Version::tls12, Version::tls13}) {
    ClientSettings settings;
    settings.minimum = settings.maximum = version;
    settings.groups = {Group::x25519};
    const auto server = server_context(material("p256"));
    const auto client = client_context(settings);
    for (std::size_t at = 0; at < 2000; at += 3) {
      Pair pair(server, client);
      std::string wire(pair.client.output());
      pair.client.clear_output();
      const bool touches = at < wire.size();
      if (touches) wire[at] = static_cast<char>(wire[at] ^ 4);
      std::string_view rest = wire;
      pair.server.feed(rest);
      wire = pair.server.output();
      pair.server.clear_output();
      const std::size_t here = at - std::min<std::size_t>(at, 200);
      if (at >= 200 && here < wire.size()) wire[here] = static_cast<char>(wire[here] ^ 4);
      rest = wire;
      pair.client.feed(rest);
      const bool both = pair.handshake();
      // Of a record's header nobody is sure.
      if (both && touches) {
        EXPECT_LT(at, 5U);
      }
    }
  }
}

}  // namespace
