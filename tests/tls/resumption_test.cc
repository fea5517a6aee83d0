// SPDX-License-Identifier: GPL-3.0-or-later
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "pair.h"
#include "tls/aead.h"
#include "tls/records.h"

namespace tls = ringmx::tls;

namespace {

using namespace tls_test;              // NOLINT
using namespace std::string_literals;  // NOLINT
using tls::ClientSettings;
using tls::Group;
using tls::ServerContext;
using tls::ServerSettings;
using tls::TicketKeys;
using tls::Version;

std::int64_t the_time = now;
std::int64_t clock() {
  return the_time;
}

std::shared_ptr<const TicketKeys> keys(std::chrono::seconds lifetime = std::chrono::hours{1},
                                       unsigned char seed = 1) {
  TicketKeys::Secret secret{};
  secret.fill(seed);
  return std::make_shared<const TicketKeys>(secret, lifetime);
}

// A core of its own: another context each time, that shares nothing but the ticket keys.
std::shared_ptr<const ServerContext> core(std::shared_ptr<const TicketKeys> ticket_keys,
                                          const ServerSettings& settings = {},
                                          std::shared_ptr<const tls::Material> certificates = nullptr) {
  if (!certificates) certificates = material("p256");
  return std::make_shared<const ServerContext>(std::move(certificates), settings, std::move(ticket_keys),
                                               clock);
}

class TicketsTo final : public tls::TicketTaker {
 public:
  explicit TicketsTo(tls::Connection& connection) : connection_(connection) {}
  bool take(std::string_view message) override {
    EXPECT_TRUE(connection_.take_ticket(message));
    return true;
  }

 private:
  tls::Connection& connection_;
};

class Resumption : public testing::TestWithParam<Version> {
 protected:
  void SetUp() override {
    the_time = now;
    ClientSettings settings;
    settings.minimum = settings.maximum = GetParam();
    client_ = client_context(settings);
  }
  // A full handshake, and what can be resumed of it; null if the server gave no ticket.
  // The ticket is met by whoever does the records, wherever it comes.
  std::shared_ptr<const tls::Session> session(const std::shared_ptr<const ServerContext>& context,
                                              std::string_view host = "mx.example.org") {
    Pair pair(context, client_, host);
    EXPECT_TRUE(pair.handshake()) << pair.server.failure().text << pair.client.failure().text;
    EXPECT_FALSE(pair.server.facts().resumed);
    if (GetParam() == Version::tls13) {
      EXPECT_EQ(nullptr, pair.client.session());
      std::string wire(pair.server.output());
      tls::Records records(pair.client.keys(), tls::Role::client, std::make_unique<TicketsTo>(pair.client));
      std::span<char> rest(wire);
      EXPECT_EQ(tls::Records::Event::want_input, records.open(rest).event);
      EXPECT_TRUE(rest.empty());
    }
    return pair.client.session();
  }
  // Whether it was resumed; either way the handshake must succeed, and data must pass.
  bool resumes(const std::shared_ptr<const ServerContext>& context, const tls::Session* session,
               std::string_view host = "mx.example.org") {
    Pair pair(context, client_, host, session);
    EXPECT_TRUE(pair.handshake()) << pair.server.failure().text << " / " << pair.client.failure().text;
    EXPECT_EQ(pair.server.facts().resumed, pair.client.facts().resumed);
    tls::Records server(pair.server.keys(), tls::Role::server);
    tls::Records client(pair.client.keys(), tls::Role::client);
    const std::string_view pieces[] = {"EHLO a\r\n"};
    std::string wire(client.sealed_size(8), '\0');
    client.seal(pieces, wire);
    std::span<char> span(wire);
    EXPECT_EQ("EHLO a\r\n", server.open(span).data);
    return pair.server.facts().resumed;
  }

  std::shared_ptr<const tls::ClientContext> client_;
};

TEST_P(Resumption, WorksOnAnotherCore) {
  const auto session = this->session(core(keys()));
  ASSERT_NE(nullptr, session);
  EXPECT_TRUE(resumes(core(keys()), session.get()));
  EXPECT_TRUE(resumes(core(keys()), session.get()));
}

TEST_P(Resumption, SaysSo) {
  const auto session = this->session(core(keys()));
  Pair pair(core(keys()), client_, "mx.example.org", session.get());
  ASSERT_TRUE(pair.handshake());
  EXPECT_TRUE(pair.server.facts().resumed);
  EXPECT_EQ("mx.example.org", pair.server.facts().name);
  EXPECT_EQ("smtp", pair.server.facts().protocol);
  EXPECT_EQ(GetParam() == Version::tls13 ? Group::x25519_mlkem768 : Group::none, pair.server.facts().group);
}

TEST_P(Resumption, EndsWithTheLifetime) {
  const auto session = this->session(core(keys()));
  the_time = now + 3599;
  EXPECT_TRUE(resumes(core(keys()), session.get()));
  the_time = now + 3600;
  EXPECT_FALSE(resumes(core(keys()), session.get()));
}

TEST_P(Resumption, OutlivesTheKeysEpoch) {
  // The last second of an epoch.
  the_time = now / 3600 * 3600 + 3599;
  const auto session = this->session(core(keys()));
  ++the_time;
  EXPECT_TRUE(resumes(core(keys()), session.get()));
}

// One session serves many connections, some of them at once and some of them in vain.
TEST_P(Resumption, IsNotUsedUp) {
  const auto session = this->session(core(keys()));
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(resumes(core(keys(std::chrono::hours{1}, 2)), session.get()));
    EXPECT_TRUE(resumes(core(keys()), session.get()));
  }
  Pair one(core(keys()), client_, "mx.example.org", session.get());
  Pair other(core(keys()), client_, "mx.example.org", session.get());
  EXPECT_TRUE(one.handshake());
  EXPECT_TRUE(other.handshake());
  EXPECT_TRUE(one.server.facts().resumed && other.server.facts().resumed);
}

TEST_P(Resumption, NeedsTheSameKeys) {
  const auto session = this->session(core(keys()));
  EXPECT_FALSE(resumes(core(keys(std::chrono::hours{1}, 2)), session.get()));
}

TEST_P(Resumption, WorksWithKeyFiles) {
  const auto key = [](std::size_t size, char seed) { return *TicketKeys::parse(std::string(size, seed)); };
  const auto with = [](std::vector<TicketKeys::Key> list) {
    return core(std::make_shared<const TicketKeys>(std::move(list), std::chrono::hours{1}));
  };
  for (const std::size_t size : {48UL, 80UL}) {
    const auto session = this->session(with({key(size, 'a')}));
    ASSERT_NE(nullptr, session);
    EXPECT_TRUE(resumes(with({key(size, 'a')}), session.get()));
    EXPECT_TRUE(resumes(with({key(80, 'b'), key(size, 'a')}), session.get()));  // rotated
    EXPECT_FALSE(resumes(with({key(80, 'b')}), session.get()));
  }
}

TEST_P(Resumption, IsOffWithoutKeys) {
  const auto session = this->session(core(nullptr));
  if (session != nullptr) {
    EXPECT_FALSE(resumes(core(nullptr), session.get()));
    EXPECT_FALSE(resumes(core(keys()), session.get()));
  }
}

TEST_P(Resumption, IsOffWhereClientCertificatesAreAskedFor) {
  const auto session = this->session(core(keys()));
  ServerSettings settings;
  settings.client_certificates = tls::ClientCertificates::request;
  EXPECT_FALSE(resumes(core(keys(), settings, material({source("p256")}, "root.pem")), session.get()));
}

TEST_P(Resumption, IsForTheSameName) {
  const auto session = this->session(core(keys()), "mx.example.org");
  EXPECT_FALSE(resumes(core(keys()), session.get(), "a.mail.example.org"));
}

TEST_P(Resumption, SurvivesAnotherCertificate) {
  const auto session = this->session(core(keys()));
  EXPECT_TRUE(resumes(core(keys(), {}, material("rsa")), session.get()));
}

// Octet by octet: a ticket that was touched is none of ours, and the handshake is a full one.
TEST_P(Resumption, RefusesATouchedTicket) {
  const auto session = this->session(core(keys()));
  std::string hello;
  {
    tls::Connection client(client_, "mx.example.org", session.get());
    hello = client.output();
  }
  // The name of our keys stands in front of the ticket.
  TicketKeys::Secret secret{};
  secret.fill(1);
  std::array<unsigned char, 16> name;
  std::array<unsigned char, 16> iv;
  std::array<unsigned char, 32> mac;
  const std::array<unsigned char, 28> salt{};
  ASSERT_TRUE(keys()->seal({name, iv, mac}, {}, salt, the_time));
  const std::size_t ticket = hello.find(std::string(name.begin(), name.end()));
  ASSERT_NE(std::string::npos, ticket);
  const auto resumed = [&](const std::string& wire) {
    tls::Connection server(core(keys()));
    std::string_view rest = wire;
    server.feed(rest);
    // A resumption answers with no certificate: its flight is short.
    return server.output().size() < 500 ||
           (GetParam() == Version::tls13 && server.output().size() < 1088 + 500);
  };
  EXPECT_TRUE(resumed(hello));
  for (std::size_t i = 0; i < 64 + 2 + 100; ++i) {
    std::string touched = hello;
    touched[ticket + i] = static_cast<char>(touched[ticket + i] ^ 1);
    EXPECT_FALSE(resumed(touched)) << i;
  }
}

auto client_of_tls13() {
  ClientSettings settings;
  settings.minimum = settings.maximum = Version::tls13;
  return client_context(settings);
}

// The message that the server has sealed.
std::string ticket_of(const Pair& pair) {
  std::string record(pair.server.output());
  std::string_view message;
  tls::Aead aead(pair.client.keys().receive);
  EXPECT_TRUE(aead.open(record.data(), record.size(), message));
  return std::string(message.substr(0, message.find_last_not_of('\0')));  // without its type
}

// A server's KeyUpdates do not matter, nor what it has said before.
TEST(Ticket, ComesWhenItLikes) {
  const auto client = client_of_tls13();
  Pair pair(core(keys()), client);
  ASSERT_TRUE(pair.handshake());
  const tls::SessionKeys server_keys = pair.server.keys();
  // The ticket that wolfSSL has sealed, by hand under the keys that follow.
  const std::string message = ticket_of(pair);
  const auto sealed = [](tls::Aead& aead, tls::RecordType type, std::string_view plain) {
    std::string record(aead.head() + plain.size() + aead.tail(), '\0');
    EXPECT_TRUE(aead.seal(type, plain, record.data()));
    return record;
  };
  tls::TrafficSecrets secrets = *server_keys.secrets;
  tls::Aead aead(secrets.keys(tls::Direction::transmit));
  std::string wire = sealed(aead, tls::RecordType::handshake, tls::key_update_content);
  tls::Aead next(secrets.next(tls::Direction::transmit));
  wire += sealed(next, tls::RecordType::application_data, "220 a\r\n");
  wire += sealed(next, tls::RecordType::handshake, message.substr(0, 7));
  wire += sealed(next, tls::RecordType::handshake, message.substr(7));
  wire += sealed(next, tls::RecordType::application_data, "250 b\r\n");
  tls::Records records(pair.client.keys(), tls::Role::client, std::make_unique<TicketsTo>(pair.client));
  std::span<char> rest(wire);
  EXPECT_EQ("220 a\r\n", records.open(rest).data);
  EXPECT_EQ(nullptr, pair.client.session());
  EXPECT_EQ("250 b\r\n", records.open(rest).data);
  ASSERT_NE(nullptr, pair.client.session());
  Pair again(core(keys()), client, "mx.example.org", pair.client.session().get());
  EXPECT_TRUE(again.handshake());
  EXPECT_TRUE(again.server.facts().resumed);
}

// What is over is not offered: the handshake is a full one.
TEST(Ticket, MayBeOver) {
  const auto client = client_of_tls13();
  Pair pair(core(keys()), client);
  ASSERT_TRUE(pair.handshake());
  std::string over = ticket_of(pair);
  over.replace(4, 4, 4, '\0');  // its lifetime
  ASSERT_TRUE(pair.client.take_ticket(over));
  const auto session = pair.client.session();
  ASSERT_NE(nullptr, session);
  for (int i = 0; i < 2; ++i) {
    Pair again(core(keys()), client, "mx.example.org", session.get());
    EXPECT_TRUE(again.handshake()) << again.server.failure().text << again.client.failure().text;
    EXPECT_FALSE(again.server.facts().resumed);
  }
}

TEST(Ticket, MayBeOfNoUse) {
  for (const std::string& message : {"\4\0\0\0"s, "\4\0\0\5abcde"s, "\4\0\0\1"s}) {
    Pair pair(core(keys()), client_of_tls13());
    ASSERT_TRUE(pair.handshake());
    EXPECT_FALSE(pair.client.take_ticket(message));
    EXPECT_EQ(nullptr, pair.client.session());
  }
}

INSTANTIATE_TEST_SUITE_P(All, Resumption, testing::Values(Version::tls12, Version::tls13));

}  // namespace
