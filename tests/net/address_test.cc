// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string>

namespace ringmx::net {
namespace {

TEST(Address, Ipv4) {
  const auto address = Address::ip("127.0.0.1", 2525);
  ASSERT_TRUE(address);
  EXPECT_EQ(address->family(), AF_INET);
  EXPECT_FALSE(address->is_unix());
  EXPECT_EQ(address->text(), "127.0.0.1:2525");
  ASSERT_EQ(address->size(), sizeof(sockaddr_in));
  sockaddr_in v4{};
  std::memcpy(&v4, address->data(), sizeof v4);
  EXPECT_EQ(ntohs(v4.sin_port), 2525);
  EXPECT_EQ(ntohl(v4.sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(Address::ip("0.0.0.0", 65535)->text(), "0.0.0.0:65535");
  EXPECT_EQ(Address::ip("255.255.255.255", 0)->text(), "255.255.255.255:0");
}

TEST(Address, Ipv6) {
  const auto address = Address::ip("::1", 25);
  ASSERT_TRUE(address);
  EXPECT_EQ(address->family(), AF_INET6);
  EXPECT_EQ(address->text(), "[::1]:25");
  ASSERT_EQ(address->size(), sizeof(sockaddr_in6));
  sockaddr_in6 v6{};
  std::memcpy(&v6, address->data(), sizeof v6);
  EXPECT_EQ(ntohs(v6.sin6_port), 25);
  EXPECT_EQ(std::memcmp(&v6.sin6_addr, &in6addr_loopback, sizeof v6.sin6_addr), 0);
  // Nothing is left of the attempt to read it as IPv4.
  EXPECT_EQ(v6.sin6_flowinfo, 0U);
  EXPECT_EQ(v6.sin6_scope_id, 0U);
  EXPECT_EQ(Address::ip("2001:DB8:0:0::00ff", 25)->text(), "[2001:db8::ff]:25");
  EXPECT_EQ(Address::ip("::ffff:192.0.2.1", 25)->text(), "[::ffff:192.0.2.1]:25");
}

TEST(Address, WhatIsNoIpAddress) {
  for (const char* host :
       {"", "localhost", "127.0.0", "127.0.0.1.", "127.0.0.256", "127.0.0.1:25", "1270.0.0.1", "[::1]",
        ":::1", "::1%lo", "::g", " 127.0.0.1", "127.0.0.1 ", "0x7f.0.0.1", "*"}) {
    EXPECT_FALSE(Address::ip(host, 25)) << host;
  }
}

TEST(Address, UnixPath) {
  const auto address = Address::unix_path("/run/mta.sock");
  ASSERT_TRUE(address);
  EXPECT_TRUE(address->is_unix());
  EXPECT_EQ(address->text(), "unix:/run/mta.sock");
  EXPECT_EQ(address->size(), offsetof(sockaddr_un, sun_path) + sizeof "/run/mta.sock");
  EXPECT_FALSE(Address::unix_path(""));
}

TEST(Address, LongestUnixPath) {
  constexpr std::size_t room = sizeof(sockaddr_un::sun_path);
  const std::string longest(room - 1, 'x');
  const auto address = Address::unix_path(longest);
  ASSERT_TRUE(address);
  EXPECT_EQ(address->text(), "unix:" + longest);
  EXPECT_LE(address->size(), sizeof(sockaddr_un));
  EXPECT_FALSE(Address::unix_path(longest + "x"));
}

TEST(Address, Hosts) {
  EXPECT_THAT(Address::ip("192.0.2.1", 25)->host(), testing::ElementsAre(192, 0, 2, 1));
  EXPECT_THAT(Address::ip("2001:db8::1", 25)->host(),
              testing::ElementsAre(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
  EXPECT_TRUE(Address::unix_path("/run/mta.sock")->host().empty());
}

TEST(Address, Peers) {
  std::array<int, 2> pair{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
  EXPECT_TRUE(Address::peer_of(pair[0])->is_unix());
  for (const int fd : pair) close(fd);
  EXPECT_FALSE(Address::peer_of(pair[0]));
}

// Upstreams and listeners keep copies.
TEST(Address, Copies) {
  auto address = *Address::ip("::1", 25);
  const Address copy = address;
  address = *Address::ip("127.0.0.1", 26);
  EXPECT_EQ(copy.text(), "[::1]:25");
  EXPECT_EQ(address.text(), "127.0.0.1:26");
}

}  // namespace
}  // namespace ringmx::net
