// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/networks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace ringmx::policy {
namespace {

Address ipv4(std::uint32_t n) {
  Address out{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  for (std::size_t i = 0; i < 4; ++i) out[12 + i] = static_cast<std::uint8_t>(n >> (24 - 8 * i));
  return out;
}
Network network(std::uint32_t n, unsigned bits) {
  return {ipv4(n), static_cast<std::uint8_t>(mapped_bits + bits)};
}

// The model: bit by bit, one network after the other.
bool shares(const Network& network, const Address& address) {
  if (is_ipv4(address) != (is_ipv4(network.address) && network.bits >= mapped_bits)) return false;
  for (std::size_t bit = 0; bit < network.bits; ++bit) {
    const unsigned mask = 0x80U >> bit % 8;
    if ((network.address[bit / 8] & mask) != (address[bit / 8] & mask)) return false;
  }
  return true;
}
bool naive(const std::vector<Network>& networks, const Address& address) {
  for (const Network& n : networks) {
    if (shares(n, address)) return true;
  }
  return false;
}

TEST(Networks, EmptyHoldsNothing) {
  EXPECT_FALSE(Networks().contains(ipv4(0)));
  EXPECT_FALSE(Networks(std::vector<Network>{}).contains(Address{}));
  EXPECT_FALSE(Networks().all_ipv4());
  EXPECT_FALSE(Networks().all_ipv6());
}

// All pairs of networks within 16 addresses, at both ends of IPv4 and in the middle.
TEST(Networks, EveryPairOfSmallOnes) {
  for (const std::uint32_t base : {0U, 0x7ffffff8U, 0xc0000200U, 0xfffffff0U}) {
    std::vector<Network> all;
    for (unsigned bits = 28; bits <= 32; ++bits) {
      for (std::uint32_t at = 0; at < 16; at += 1U << (32 - bits)) all.push_back(network(base + at, bits));
    }
    for (const Network& a : all) {
      for (const Network& b : all) {
        const std::vector<Network> both{a, b};
        const Networks set(both);
        for (std::uint32_t at = 0; at < 48; ++at) {
          const Address address = ipv4(base - 16 + at);
          ASSERT_EQ(set.contains(address), naive(both, address)) << base << " " << at;
        }
      }
    }
  }
}

TEST(Networks, EveryPrefixLength) {
  std::mt19937_64 random(1);
  for (unsigned bits = 0; bits <= 128; ++bits) {
    for (int round = 0; round < 40; ++round) {
      Address address;
      for (auto& octet : address) octet = static_cast<std::uint8_t>(random());
      if (round % 2 == 0 && bits >= mapped_bits) address = ipv4(static_cast<std::uint32_t>(random()));
      const std::vector<Network> one{{address, static_cast<std::uint8_t>(bits)}};
      const Networks set(one);
      EXPECT_EQ(set.contains(address), naive(one, address));
      for (std::size_t bit = 0; bit < 128; ++bit) {  // differs there alone
        Address other = address;
        other[bit / 8] = static_cast<std::uint8_t>(other[bit / 8] ^ (0x80U >> bit % 8));
        ASSERT_EQ(set.contains(other), naive(one, other)) << bits << " " << bit;
      }
    }
  }
}

// Few of the bits vary, so that ranges nest, touch and overlap.
TEST(Networks, ManyAtRandom) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 300; ++round) {
    const bool ipv6 = round % 2 == 1;
    const auto some = [&] {
      Address out = ipv4(0x0a000000U | static_cast<std::uint32_t>(random() & 0x30f03U));
      if (ipv6) {
        out = {0x20, 0x01, 0x0d, 0xb8};
        out[5] = static_cast<std::uint8_t>(random() & 3);
        out[9] = static_cast<std::uint8_t>(random() & 0xc1);
        out[15] = static_cast<std::uint8_t>(random() & 3);
      }
      return out;
    };
    std::vector<Network> networks(random() % 40);
    for (Network& n : networks)
      n = {some(), static_cast<std::uint8_t>(ipv6 ? 32 + random() % 97 : mapped_bits + 8 + random() % 25)};
    const Networks set(networks);
    for (int i = 0; i < 300; ++i) {
      const Address address = some();
      ASSERT_EQ(set.contains(address), naive(networks, address));
    }
  }
}

TEST(Networks, Ipv4AndIpv6AreApart) {
  const Networks six({{Address{}, 0}});
  EXPECT_TRUE(six.all_ipv6());
  EXPECT_FALSE(six.all_ipv4());
  EXPECT_FALSE(six.contains(ipv4(0xc0000201U)));
  EXPECT_TRUE(six.contains(Address{0x20, 0x01}));
  const Networks four({network(0, 0)});
  EXPECT_TRUE(four.all_ipv4());
  EXPECT_FALSE(four.all_ipv6());
  EXPECT_TRUE(four.contains(ipv4(0xffffffffU)));
  EXPECT_FALSE(four.contains(Address{}));
  EXPECT_FALSE(Networks({network(0, 1)}).all_ipv4());
  EXPECT_FALSE(Networks({network(0x80000000U, 1)}).all_ipv4());
}

// All addresses in pieces that share no address: 0/1, 128/2, 192/3 and so on, and the last one alone; and
// likewise with one of them missing.
TEST(Networks, NeighboursAreOne) {
  EXPECT_TRUE(Networks({network(0, 1), network(0x80000000U, 1)}).all_ipv4());
  EXPECT_TRUE(Networks({{Address{0x80}, 1}, {Address{}, 1}}).all_ipv6());
  for (const bool ipv6 : {false, true}) {
    const std::size_t least = ipv6 ? 0 : mapped_bits;
    std::vector<Network> pieces;
    Network piece{ipv6 ? Address{} : ipv4(0), 0};
    for (std::size_t bits = least; bits < 128; ++bits) {
      piece.bits = static_cast<std::uint8_t>(bits + 1);
      pieces.push_back(piece);
      piece.address[bits / 8] = static_cast<std::uint8_t>(piece.address[bits / 8] | 0x80U >> bits % 8);
    }
    pieces.push_back(piece);
    const auto all = [&](const std::vector<Network>& networks) {
      const Networks set(networks);
      EXPECT_FALSE(ipv6 ? set.all_ipv4() : set.all_ipv6());
      return ipv6 ? set.all_ipv6() : set.all_ipv4();
    };
    EXPECT_TRUE(all(pieces));
    EXPECT_TRUE(all({pieces.rbegin(), pieces.rend()}));
    EXPECT_LE(Networks(pieces).memory(), 2 * sizeof(Address));
    for (std::size_t missing = 0; missing < pieces.size(); ++missing) {
      std::vector<Network> rest = pieces;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(missing));
      EXPECT_FALSE(all(rest)) << missing;
    }
  }
  // The end of the lower 64 bits is none of the next ones.
  const Network low{Address{0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 128};
  const Network other{Address{0, 0, 0, 0, 0, 0, 0, 1}, 128};
  EXPECT_FALSE(Networks({low, other}).contains(Address{0, 0, 0, 0, 0, 0, 0, 1, 1}));
}

TEST(Networks, AHundredThousandAreCompact) {
  std::mt19937_64 random(3);
  std::vector<Network> networks;
  for (int i = 0; i < 100'000; ++i)
    networks.push_back(network(static_cast<std::uint32_t>(random()) & ~255U, 24));
  const Networks set(networks);
  EXPECT_LE(set.memory(), 8U * 100'000U + 300'000U);
  // By an index, which few have no need of: the ends of each, and the addresses beside them.
  std::vector<bool> in(1U << 24);
  for (const Network& n : networks) {
    const Address& a = n.address;
    in[std::size_t{a[12]} << 16 | std::size_t{a[13]} << 8 | a[14]] = true;
  }
  for (std::uint32_t n = 0; n < in.size(); ++n) {
    ASSERT_EQ(set.contains(ipv4(n << 8)), in[n]);
    ASSERT_EQ(set.contains(ipv4(n << 8 | 255U)), in[n]);
  }
}

TEST(Networks, ManyWideOnes) {
  std::mt19937_64 random(4);
  std::vector<Network> networks;
  for (int i = 0; i < 20'000; ++i) {
    const unsigned bits = 12 + static_cast<unsigned>(random() % 21);
    networks.push_back(network(static_cast<std::uint32_t>(random()), std::max(bits, i % 50 == 0 ? 0U : 20U)));
  }
  const Networks set(networks);
  for (int i = 0; i < 2000; ++i) {
    Address address = ipv4(static_cast<std::uint32_t>(random()));
    if (i % 2 == 0) address = networks[random() % networks.size()].address;
    ASSERT_EQ(set.contains(address), naive(networks, address));
  }
}

}  // namespace
}  // namespace ringmx::policy
