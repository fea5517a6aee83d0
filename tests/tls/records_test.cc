// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/records.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "by_hand.h"
#include "pair.h"
#include "tls/control.h"

namespace tls = ringmx::tls;

namespace {

using namespace tls_test;  // NOLINT
using tls::Alert;
using tls::Cipher;
using tls::Direction;
using tls::Records;
using tls::RecordType;
using tls::Role;
using tls::SessionKeys;
using tls::Version;
using Event = Records::Event;

constexpr int application_data = static_cast<int>(RecordType::application_data);
constexpr int handshake = static_cast<int>(RecordType::handshake);
constexpr int alert = static_cast<int>(RecordType::alert);

std::string octets_of(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// Both ends after a handshake, and what the server sent behind it.
struct Ends {
  SessionKeys server;
  SessionKeys client;
  std::string tickets;
};

Ends shake_hands(Version version, Cipher cipher) {
  tls::ClientSettings settings;
  settings.minimum = settings.maximum = version;
  settings.ciphers = {cipher};
  Pair pair(server_context(material("p256")), client_context(settings));
  EXPECT_TRUE(pair.handshake()) << pair.server.failure().text;
  return {pair.server.keys(), pair.client.keys(), std::string(pair.server.output())};
}

std::string seal(Records& records, std::vector<std::string_view> pieces) {
  std::size_t size = 0;
  for (const auto piece : pieces) size += piece.size();
  std::string out(records.sealed_size(size), '\0');
  const Records::Sealed sealed = records.seal(pieces, out);
  EXPECT_EQ(size, sealed.taken);
  EXPECT_EQ(out.size(), sealed.written);
  return out;
}

std::string seal_alert(Records& records, Alert which) {
  std::string out(Records::alert_size, '\0');
  out.resize(records.seal_alert(which, out));
  return out;
}

struct Got {
  std::string data;
  Records::Opened last{Event::want_input, {}, Alert::none, false};
};

// Opens all of `wire`, `most` octets at a time.
Got open(Records& records, std::string wire, std::size_t most = 1 << 20) {
  Got got;
  for (std::size_t at = 0; at < wire.size(); at += most) {
    std::span<char> portion(wire.data() + at, std::min(most, wire.size() - at));
    do {
      got.last = records.open(portion);
      got.data += got.last.data;
      if (got.last.event == Event::failed || got.last.event == Event::closed) return got;
    } while (got.last.event != Event::want_input);
    EXPECT_TRUE(portion.empty());
  }
  return got;
}

class RecordsOf : public testing::TestWithParam<std::tuple<Version, Cipher>> {
 protected:
  Ends ends_ = shake_hands(std::get<0>(GetParam()), std::get<1>(GetParam()));
  bool tls13() const { return std::get<0>(GetParam()) == Version::tls13; }
};

// The kernel's parameters, tried by hand in both directions: sequence numbers, salts and ivs included.
TEST_P(RecordsOf, AreOpenedByTheKernelsParameters) {
  ByHand server_transmit(ends_.server.transmit);
  ByHand server_receive(ends_.server.receive);
  ByHand client_transmit(ends_.client.transmit);
  ByHand client_receive(ends_.client.receive);
  EXPECT_EQ(1U, server_transmit.sequence());  // a ticket in 1.3, the Finished in 1.2
  EXPECT_EQ(tls13() ? 0U : 1U, server_receive.sequence());
  if (tls13()) {
    const auto ticket = client_receive.open(ends_.tickets);
    ASSERT_TRUE(ticket.has_value());
    EXPECT_EQ(handshake, ticket->type);
    EXPECT_EQ(4, ticket->text[0]);
  } else {
    EXPECT_EQ("", ends_.tickets);
  }
  for (const std::size_t size : {1UL, 100UL, 16384UL}) {
    const std::string text = octets_of(size);
    const auto down = client_receive.open(server_transmit.seal(application_data, text));
    ASSERT_TRUE(down.has_value());
    EXPECT_EQ(text, down->text);
    const auto up = server_receive.open(client_transmit.seal(application_data, text));
    ASSERT_TRUE(up.has_value());
    EXPECT_EQ(text, up->text);
  }
}

TEST_P(RecordsOf, AreTheSameByHand) {
  Records server(ends_.server, Role::server);
  ByHand client_transmit(ends_.client.transmit);
  ByHand server_transmit(ends_.server.transmit);
  ByHand client_receive(ends_.server.transmit);
  for (const std::size_t size : {1UL, 2UL, 15UL, 16UL, 17UL, 1000UL, 16383UL, 16384UL}) {
    const std::string text = octets_of(size);
    EXPECT_EQ(text, open(server, client_transmit.seal(application_data, text)).data);
    const auto down = client_receive.open(seal(server, {text}));
    ASSERT_TRUE(down.has_value());
    EXPECT_EQ(text, down->text);
    EXPECT_EQ(application_data, down->type);
  }
}

TEST_P(RecordsOf, CarryEverySizeInAnyPieces) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  EXPECT_EQ(Event::want_input, open(client, ends_.tickets).last.event);
  for (const std::size_t size : {1UL, 2UL, 31UL, 255UL, 256UL, 4095UL, 4096UL, 16383UL, 16384UL, 16385UL,
                                 32768UL, 32769UL, 100000UL}) {
    const std::string text = octets_of(size);
    const std::string_view all = text;
    for (const std::size_t first : {std::size_t{0}, size / 3, size}) {
      const std::string wire = seal(client, {all.substr(0, first), "", all.substr(first)});
      EXPECT_EQ(client.sealed_size(size), wire.size());
      EXPECT_EQ(text, open(server, wire, size % 7 == 0 ? 1000 : 1 << 20).data) << size << ' ' << first;
    }
    EXPECT_EQ(text, open(client, seal(server, {all}), 1 + size / 5).data);
  }
}

TEST_P(RecordsOf, MayBeSplitAnywhere) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  const std::string text = octets_of(50);
  for (std::size_t most = 1; most < 200; ++most) {
    std::string wire;
    for (const std::string_view piece :
         {std::string_view(text), std::string_view("QUIT\r\n"), std::string_view(text)}) {
      wire += seal(client, {piece});
    }
    EXPECT_EQ(text + "QUIT\r\n" + text, open(server, wire, most).data) << most;
  }
}

TEST_P(RecordsOf, FillTheRoomThatThereIs) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  open(client, ends_.tickets);
  const std::string text = octets_of(50'000);
  const std::vector<std::string_view> pieces{text};
  std::string out(server.sealed_size(2 * Records::max_plain) + 100, '\0');
  const Records::Sealed sealed = server.seal(pieces, out);
  EXPECT_EQ(2 * Records::max_plain, sealed.taken);  // and no little one behind
  std::string small(60, '\0');
  const Records::Sealed one =
      server.seal(std::vector<std::string_view>{std::string_view(text).substr(sealed.taken)}, small);
  EXPECT_GT(one.taken, 20U);
  EXPECT_EQ(small.size(), one.written);
  out.resize(sealed.written);
  EXPECT_EQ(text.substr(0, sealed.taken + one.taken), open(client, out + small).data);
  std::string none(10, '\0');
  EXPECT_EQ(0U, server.seal(pieces, none).written);
}

TEST_P(RecordsOf, AreRefusedWhenTouched) {
  Records client(ends_.client, Role::client);
  const std::string wire = seal(client, {"MAIL FROM:<a@example.org>\r\n"});
  for (std::size_t i = 0; i < wire.size(); ++i) {
    if (i == 3 || i == 4) continue;  // the length: it waits for more
    Records server(ends_.server, Role::server);
    std::string touched = wire;
    touched[i] = static_cast<char>(touched[i] ^ 0x10);
    // In TLS 1.2 the second octet of the version is authenticated too, but as we know it, not as it came.
    const Got got = open(server, touched);
    EXPECT_EQ(Event::failed, got.last.event) << i;
    EXPECT_EQ("", got.data);
    EXPECT_FALSE(got.last.from_peer);
  }
  Records server(ends_.server, Role::server);
  EXPECT_EQ(Event::data, [&] {
    std::string copy = wire;
    std::span<char> span(copy);
    return server.open(span).event;
  }());
  EXPECT_EQ(Alert::bad_record_mac, open(server, wire).last.failure);  // played again
}

TEST_P(RecordsOf, SayWhetherTheEndWasMeant) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  std::string wire = seal(client, {"QUIT\r\n"});
  wire += seal_alert(client, Alert::close_notify);
  const Got cut = open(server, wire.substr(0, wire.size() - 1));
  EXPECT_EQ(Event::want_input, cut.last.event);
  EXPECT_EQ("QUIT\r\n", cut.data);
  EXPECT_EQ(Event::closed, open(server, wire.substr(wire.size() - 1)).last.event);
}

TEST_P(RecordsOf, BringThePeersAlert) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  const Got got = open(server, seal_alert(client, Alert::internal_error));
  EXPECT_EQ(Event::failed, got.last.event);
  EXPECT_EQ(Alert::internal_error, got.last.failure);
  EXPECT_TRUE(got.last.from_peer);
}

TEST_P(RecordsOf, DoNotComeTooLong) {
  Records server(ends_.server, Role::server);
  ByHand client(ends_.client.transmit);
  EXPECT_EQ(Alert::record_overflow,
            open(server, client.seal(application_data, octets_of(16385))).last.failure);
  Records another(ends_.server, Role::server);
  EXPECT_EQ(Alert::record_overflow, open(another, std::string("\x17\3\3\xff\xff", 5)).last.failure);
}

TEST_P(RecordsOf, DoNotComeEmptyByTheThousand) {
  Records server(ends_.server, Role::server);
  ByHand client(ends_.client.transmit);
  std::string wire;
  for (int i = 0; i < 32; ++i) wire += client.seal(application_data, "");
  EXPECT_EQ(Event::want_input, open(server, wire).last.event);
  EXPECT_EQ("x", open(server, client.seal(application_data, "x")).data);
  EXPECT_EQ(Event::want_input, open(server,
                                    [&] {
                                      std::string again;
                                      for (int i = 0; i < 32; ++i) again += client.seal(application_data, "");
                                      return again;
                                    }())
                                   .last.event);
  EXPECT_EQ(Alert::unexpected_message, open(server, client.seal(application_data, "")).last.failure);
}

std::string parameter_name(const testing::TestParamInfo<std::tuple<Version, Cipher>>& info) {
  return std::string(std::get<0>(info.param) == Version::tls13 ? "Tls13" : "Tls12") +
         std::to_string(static_cast<int>(std::get<1>(info.param)));
}
constexpr Cipher ciphers[] = {Cipher::aes_128_gcm, Cipher::aes_256_gcm, Cipher::chacha20_poly1305};
INSTANTIATE_TEST_SUITE_P(All, RecordsOf,
                         testing::Combine(testing::Values(Version::tls12, Version::tls13),
                                          testing::ValuesIn(ciphers)),
                         parameter_name);

class KeyUpdate : public testing::TestWithParam<Cipher> {
 protected:
  Ends ends_ = shake_hands(Version::tls13, GetParam());
};

TEST_P(KeyUpdate, ChangesBothDirections) {
  Records server(ends_.server, Role::server);
  // The client by hand, with the keys that the kernel would be given next.
  tls::TrafficSecrets secrets = *ends_.client.secrets;
  ByHand transmit(ends_.client.transmit);
  ByHand receive(ends_.server.transmit);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ("before", open(server, transmit.seal(application_data, "before")).data);
    EXPECT_EQ(Event::want_input,
              open(server, transmit.seal(handshake, std::string("\x18\0\0\1\1", 5))).last.event);
    transmit = ByHand(secrets.next(Direction::transmit));
    EXPECT_EQ("after", open(server, transmit.seal(application_data, "after")).data);

    // The answer comes before the next data, under the old key.
    const std::string wire = seal(server, {"250 2.0.0 Ok\r\n"});
    const std::size_t first = 5 + static_cast<unsigned char>(wire[4]);
    const auto update = receive.open(std::string_view(wire).substr(0, first));
    ASSERT_TRUE(update.has_value());
    EXPECT_EQ(handshake, update->type);
    EXPECT_EQ(tls::key_update_content, update->text);
    receive = ByHand(secrets.next(Direction::receive));
    const auto data = receive.open(std::string_view(wire).substr(first));
    ASSERT_TRUE(data.has_value());
    EXPECT_EQ("250 2.0.0 Ok\r\n", data->text);
  }
  // Not requested: ours stay.
  EXPECT_EQ(Event::want_input,
            open(server, transmit.seal(handshake, std::string("\x18\0\0\1\0", 5))).last.event);
  transmit = ByHand(secrets.next(Direction::transmit));
  EXPECT_EQ("more", open(server, transmit.seal(application_data, "more")).data);
  const auto data = receive.open(seal(server, {"221 bye\r\n"}));
  ASSERT_TRUE(data.has_value());
  EXPECT_EQ("221 bye\r\n", data->text);
}

TEST_P(KeyUpdate, MayBeDueBeforeAnAlert) {
  Records server(ends_.server, Role::server);
  Records client(ends_.client, Role::client);
  open(client, ends_.tickets);
  ByHand transmit(ends_.client.transmit);
  open(server, transmit.seal(handshake, std::string("\x18\0\0\1\1", 5)));
  EXPECT_EQ(Event::closed, open(client, seal_alert(server, Alert::close_notify)).last.event);
}

TEST_P(KeyUpdate, DoesNotComeByTheThousand) {
  Records server(ends_.server, Role::server);
  tls::TrafficSecrets secrets = *ends_.client.secrets;
  ByHand transmit(ends_.client.transmit);
  int taken = 0;
  for (;; ++taken) {
    ASSERT_LT(taken, 1000);
    const Got got = open(server, transmit.seal(handshake, std::string("\x18\0\0\1\0", 5)));
    if (got.last.event == Event::failed) break;
    transmit = ByHand(secrets.next(Direction::transmit));
  }
  EXPECT_GE(taken, 16);
}

TEST_P(KeyUpdate, PaddingIsTakenOff) {
  Records server(ends_.server, Role::server);
  ByHand transmit(ends_.client.transmit);
  EXPECT_EQ(std::string("a\0b\0", 4), open(server, transmit.seal(application_data, {"a\0b\0", 4}, 200)).data);
  EXPECT_EQ(std::string(), open(server, transmit.seal(application_data, "", 16384)).data);
  // Nothing but padding: there is no type in it.
  EXPECT_EQ(Alert::unexpected_message, open(server, transmit.seal(0, "", 10)).last.failure);
}

TEST_P(KeyUpdate, OfAnOldKindOfRecordIsRefused) {
  for (const char type : {'\x14', '\x15', '\x16'}) {
    Records server(ends_.server, Role::server);
    EXPECT_EQ(Alert::unexpected_message, open(server, std::string{type, 3, 3, 0, 1, 1}).last.failure);
  }
}

INSTANTIATE_TEST_SUITE_P(All, KeyUpdate, testing::ValuesIn(ciphers));

TEST(Renegotiation, IsRefused) {
  Ends ends = shake_hands(Version::tls12, Cipher::aes_128_gcm);
  Records server(ends.server, Role::server);
  ByHand transmit(ends.client.transmit);
  const Got got = open(server, transmit.seal(handshake, std::string("\1\0\0\1\0", 5)));
  EXPECT_EQ(Event::failed, got.last.event);
  EXPECT_EQ(Alert::no_renegotiation, got.last.failure);
  const auto answer = ByHand(ends.client.receive).open(seal_alert(server, got.last.failure));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(alert, answer->type);
  EXPECT_EQ("\1\x64", answer->text);
  Records client(ends.client, Role::client);
  ByHand down(ends.server.transmit);
  EXPECT_EQ(Alert::no_renegotiation,
            open(client, down.seal(handshake, std::string("\0\0\0\0", 4))).last.failure);
}

}  // namespace
