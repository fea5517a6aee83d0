// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/control.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace tls = ringmx::tls;

namespace {

using namespace std::string_literals;  // NOLINT
using tls::Alert;
using tls::Control;
using tls::ControlReader;
using tls::RecordType;
using tls::Role;
using tls::Version;
using Kind = Control::Kind;

Control read(RecordType type, const std::string& content, Version version = Version::tls13,
             Role role = Role::server) {
  return ControlReader(version, role).read(type, content);
}

void expect(Kind kind, Alert alert, const Control& got) {
  EXPECT_EQ(kind, got.kind);
  EXPECT_EQ(alert, got.alert) << tls::name_of(got.alert);
}

const std::string update = "\x18\0\0\1\0"s;
const std::string request = "\x18\0\0\1\1"s;
const std::string ticket = "\4\0\0\5abcde"s;

TEST(Control, Alerts) {
  for (const Version version : {Version::tls12, Version::tls13}) {
    expect(Kind::close_notify, Alert::close_notify, read(RecordType::alert, "\1\0"s, version));
    expect(Kind::close_notify, Alert::close_notify, read(RecordType::alert, "\2\0"s, version));
    expect(Kind::nothing, Alert::none, read(RecordType::alert, "\1\x5a"s, version));
    expect(Kind::alert, Alert::internal_error, read(RecordType::alert, "\2\x50"s, version));
    expect(Kind::alert, Alert::no_renegotiation, read(RecordType::alert, "\1\x64"s, version));
    expect(Kind::alert, Alert{255}, read(RecordType::alert, "\2\xff"s, version));
    for (const std::string& content : {""s, "\2"s, "\2\x50\0"s, "\1\0\1\0"s}) {
      expect(Kind::error, Alert::decode_error, read(RecordType::alert, content, version));
    }
  }
}

TEST(Control, KeyUpdates) {
  for (const Role role : {Role::server, Role::client}) {
    expect(Kind::key_update, Alert::none, read(RecordType::handshake, update, Version::tls13, role));
    expect(Kind::key_update_requested, Alert::none,
           read(RecordType::handshake, request, Version::tls13, role));
  }
  expect(Kind::error, Alert::illegal_parameter, read(RecordType::handshake, "\x18\0\0\1\2"s));
  expect(Kind::error, Alert::decode_error, read(RecordType::handshake, "\x18\0\0\2\0\0"s));
  expect(Kind::error, Alert::decode_error, read(RecordType::handshake, "\x18\0\0\0"s));
  // Under the next keys nothing can stand in the same record.
  expect(Kind::error, Alert::unexpected_message, read(RecordType::handshake, update + update));
  expect(Kind::error, Alert::unexpected_message, read(RecordType::handshake, update + "\0"s));
}

TEST(Control, TicketsAreForClients) {
  expect(Kind::nothing, Alert::none, read(RecordType::handshake, ticket, Version::tls13, Role::client));
  expect(Kind::nothing, Alert::none,
         read(RecordType::handshake, ticket + ticket, Version::tls13, Role::client));
  expect(Kind::key_update, Alert::none,
         read(RecordType::handshake, ticket + update, Version::tls13, Role::client));
  expect(Kind::error, Alert::unexpected_message, read(RecordType::handshake, ticket));
}

TEST(Control, MessagesMayBeSplitAnywhere) {
  const std::string all = ticket + ticket + request;
  for (std::size_t i = 1; i < all.size(); ++i) {
    for (std::size_t j = i + 1; j < all.size(); ++j) {
      ControlReader reader(Version::tls13, Role::client);
      expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, all.substr(0, i)));
      expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, all.substr(i, j - i)));
      expect(Kind::key_update_requested, Alert::none, reader.read(RecordType::handshake, all.substr(j)));
    }
  }
}

class Wanted final : public tls::TicketTaker {
 public:
  Wanted(std::vector<std::string>& taken, std::size_t most) : taken_(taken), most_(most) {}
  bool take(std::string_view message) override {
    taken_.emplace_back(message);
    return taken_.size() >= most_;
  }

 private:
  std::vector<std::string>& taken_;
  std::size_t most_;
};

TEST(Control, TicketsAreHandedOver) {
  const std::string other = "\4\0\0\3xyz"s;
  const std::string empty = "\4\0\0\0"s;
  const std::string all = ticket + other + empty + ticket;
  for (std::size_t most = 1; most <= 5; ++most) {
    for (std::size_t i = 1; i < all.size(); ++i) {
      std::vector<std::string> taken;
      ControlReader reader(Version::tls13, Role::client, std::make_unique<Wanted>(taken, most));
      expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, all.substr(0, i)));
      expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, all.substr(i) + update[0]));
      expect(Kind::key_update, Alert::none, reader.read(RecordType::handshake, update.substr(1)));
      std::vector<std::string> expected{ticket, other, empty, ticket};
      expected.resize(std::min<std::size_t>(most, 4));
      EXPECT_EQ(expected, taken);
    }
  }
}

TEST(Control, TicketsTooLongAreLeftOut) {
  for (const std::size_t size : {16000UL, 16001UL, 40000UL, 0xffffffUL}) {
    std::vector<std::string> taken;
    ControlReader reader(Version::tls13, Role::client, std::make_unique<Wanted>(taken, 9));
    const std::string header{'\4', static_cast<char>(size >> 16), static_cast<char>(size >> 8),
                             static_cast<char>(size)};
    const std::string body(size, 'x');
    expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, header + body.substr(0, 100)));
    EXPECT_TRUE(taken.empty());
    expect(Kind::nothing, Alert::none, reader.read(RecordType::handshake, body.substr(100) + ticket));
    std::vector<std::string> expected{ticket};
    if (size == 16000) expected.insert(expected.begin(), header + body);
    EXPECT_EQ(expected, taken);
  }
}

TEST(Control, NothingElse) {
  for (int type = 0; type < 256; ++type) {
    if (type == 4 || type == 24) continue;
    const std::string message = static_cast<char>(type) + "\0\0\0"s;
    for (const Role role : {Role::server, Role::client}) {
      expect(Kind::error, Alert::unexpected_message,
             read(RecordType::handshake, message, Version::tls13, role));
    }
  }
  expect(Kind::error, Alert::unexpected_message, read(RecordType::handshake, ""));
  for (const RecordType type :
       {RecordType::change_cipher_spec, RecordType::application_data, RecordType{24}}) {
    expect(Kind::error, Alert::unexpected_message, read(type, "\1"));
    expect(Kind::error, Alert::unexpected_message, read(type, "\1", Version::tls12));
  }
}

TEST(Control, NoRenegotiation) {
  expect(Kind::error, Alert::no_renegotiation, read(RecordType::handshake, "\1\0\0\1\0"s, Version::tls12));
  expect(Kind::error, Alert::no_renegotiation,
         read(RecordType::handshake, "\0\0\0\0"s, Version::tls12, Role::client));
}

TEST(Control, NotByTheThousand) {
  for (const auto& [type, content] :
       {std::pair(RecordType::handshake, update), {RecordType::alert, "\1\x5a"s}}) {
    ControlReader reader(Version::tls13, Role::server);
    int taken = 0;
    while (reader.read(type, content).kind != Kind::error) ASSERT_LT(++taken, 1000);
    EXPECT_EQ(64, taken);
  }
}

TEST(Control, WhatWeSay) {
  using Content = std::array<char, 2>;
  EXPECT_EQ((Content{1, 0}), tls::alert_content(Alert::close_notify));
  EXPECT_EQ((Content{1, 100}), tls::alert_content(Alert::no_renegotiation));
  EXPECT_EQ((Content{2, 20}), tls::alert_content(Alert::bad_record_mac));
  expect(Kind::key_update, Alert::none, read(RecordType::handshake, std::string(tls::key_update_content)));
}

TEST(Alert, Names) {
  EXPECT_EQ("no_application_protocol", tls::name_of(Alert{120}));
  EXPECT_EQ("certificate_required", tls::name_of(Alert::certificate_required));
  EXPECT_EQ("unknown", tls::name_of(Alert{77}));
  EXPECT_EQ("", tls::name_of(Alert::none));
}

}  // namespace
