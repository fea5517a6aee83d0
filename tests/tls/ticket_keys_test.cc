// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/ticket_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace tls = ringmx::tls;

namespace {

using std::chrono::seconds;
using tls::TicketKeys;

constexpr std::int64_t now = 1'800'000'000;

TicketKeys::Secret secret(unsigned char seed) {
  TicketKeys::Secret secret;
  secret.fill(seed);
  return secret;
}

struct Ticket {
  std::array<unsigned char, 16> name{};
  std::array<unsigned char, 16> iv{};
  std::array<unsigned char, 32> mac{};
  std::vector<unsigned char> content;

  TicketKeys::Envelope envelope() { return {name, iv, mac}; }
  unsigned char& operator[](std::size_t i) {
    if (i < 16) return name[i];
    if (i < 32) return iv[i - 16];
    if (i < 64) return mac[i - 32];
    return content[i - 64];
  }
  std::size_t size() const { return 64 + content.size(); }
};

const std::vector<unsigned char> content{'m', 'a', 's', 't', 'e', 'r', ' ', 's', 'e', 'c', 'r', 'e', 't'};

Ticket seal(const TicketKeys& keys, std::int64_t at = now, unsigned char salt_seed = 9) {
  Ticket ticket;
  ticket.content = content;
  std::array<unsigned char, 28> salt;
  salt.fill(salt_seed);
  EXPECT_TRUE(keys.seal(ticket.envelope(), ticket.content, salt, at));
  EXPECT_NE(content, ticket.content);
  return ticket;
}

bool opens(const TicketKeys& keys, Ticket ticket, std::int64_t at = now) {
  if (!keys.open(ticket.envelope(), ticket.content, at)) return false;
  EXPECT_EQ(content, ticket.content);
  return true;
}

TEST(TicketKeys, OpenWhatTheyHaveSealed) {
  const TicketKeys keys(secret(1), seconds{3600});
  EXPECT_TRUE(opens(keys, seal(keys)));
  EXPECT_TRUE(opens(TicketKeys(secret(1), seconds{3600}), seal(keys)));
  EXPECT_FALSE(opens(TicketKeys(secret(2), seconds{3600}), seal(keys)));
}

TEST(TicketKeys, NoticeAnyChange) {
  const TicketKeys derived(secret(1), seconds{3600});
  const TicketKeys file({*TicketKeys::parse(std::string(48, 'k'))}, seconds{3600});
  for (const TicketKeys* keys : {&derived, &file}) {
    Ticket ticket = seal(*keys);
    for (std::size_t i = 0; i < ticket.size(); ++i) {
      for (const unsigned bit : {1U, 128U}) {
        Ticket touched = ticket;
        touched[i] = static_cast<unsigned char>(touched[i] ^ bit);
        EXPECT_FALSE(opens(*keys, touched)) << i;
      }
    }
    Ticket shorter = ticket;
    shorter.content.pop_back();
    EXPECT_FALSE(opens(*keys, shorter));
  }
}

TEST(TicketKeys, KeepToTheLifetime) {
  const TicketKeys keys(secret(1), seconds{100});
  for (std::int64_t at = now; at < now + 100; ++at) {
    const Ticket ticket = seal(keys, at);
    EXPECT_TRUE(opens(keys, ticket, at));
    EXPECT_TRUE(opens(keys, ticket, at + 99));
    EXPECT_FALSE(opens(keys, ticket, at + 100));
    EXPECT_FALSE(opens(keys, ticket, at + 100'000));
  }
  const TicketKeys file({*TicketKeys::parse(std::string(80, 'k'))}, seconds{100});
  EXPECT_TRUE(opens(file, seal(file), now + 99));
  EXPECT_FALSE(opens(file, seal(file), now + 100));
  EXPECT_TRUE(opens(file, seal(file), now - 60));  // another host's clock
  EXPECT_FALSE(opens(file, seal(file), now - 61));
}

TEST(TicketKeys, ChangeWithEachEpoch) {
  const TicketKeys keys(secret(1), seconds{100});
  const Ticket one = seal(keys, now / 100 * 100);
  EXPECT_EQ(one.name, seal(keys, now / 100 * 100 + 99).name);
  EXPECT_NE(one.name, seal(keys, now / 100 * 100 + 100).name);
}

TEST(TicketKeys, SealNoTwoAlike) {
  const TicketKeys keys({*TicketKeys::parse(std::string(80, 'k'))}, seconds{100});
  EXPECT_NE(seal(keys, now, 1).content, seal(keys, now, 2).content);
  EXPECT_NE(seal(keys, now, 1).content, seal(keys, now + 1, 1).content);
}

TEST(TicketKeys, OfFilesAllOpenAndTheFirstSeals) {
  const auto a = *TicketKeys::parse(std::string(48, 'a'));
  const auto b = *TicketKeys::parse(std::string(80, 'b'));
  const TicketKeys both({a, b}, seconds{3600});
  const TicketKeys only_a({a}, seconds{3600});
  const TicketKeys only_b({b}, seconds{3600});
  EXPECT_TRUE(opens(only_a, seal(both)));
  EXPECT_FALSE(opens(only_b, seal(both)));
  EXPECT_TRUE(opens(both, seal(only_b)));
}

TEST(TicketKeys, FilesHave48Or80Octets) {
  for (std::size_t size = 0; size < 100; ++size) {
    EXPECT_EQ(size == 48 || size == 80, TicketKeys::parse(std::string(size, 'k')).has_value()) << size;
  }
  // Every octet of a file counts.
  for (const std::size_t size : {48UL, 80UL}) {
    const TicketKeys keys({*TicketKeys::parse(std::string(size, 'k'))}, seconds{3600});
    for (std::size_t i = 0; i < size; ++i) {
      std::string other(size, 'k');
      other[i] = 'l';
      EXPECT_FALSE(opens(TicketKeys({*TicketKeys::parse(other)}, seconds{3600}), seal(keys))) << i;
    }
  }
}

TEST(TicketKeys, SecretsAreRandom) {
  EXPECT_NE(TicketKeys::random_secret(), TicketKeys::random_secret());
}

}  // namespace
