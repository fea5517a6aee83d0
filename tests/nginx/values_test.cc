// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/values.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

namespace ringmx::nginx {
namespace {

TEST(Values, Times) {
  EXPECT_EQ(parse_time("30"), 30'000u);
  EXPECT_EQ(parse_time("0"), 0u);
  EXPECT_EQ(parse_time("500ms"), 500u);
  EXPECT_EQ(parse_time("1m"), 60'000u);
  EXPECT_EQ(parse_time("1m30s"), 90'000u);
  EXPECT_EQ(parse_time("1m30"), 90'000u);
  EXPECT_EQ(parse_time("1h 30m"), 5'400'000u);
  EXPECT_EQ(parse_time("1M"), 30u * 24 * 3'600'000);
  EXPECT_EQ(parse_time("1y2w3d"), (365u + 14 + 3) * 24ull * 3'600'000);
  for (const std::string_view bad :
       {"", "s", "-1", "1x", "30s1m", "1m1m", "1.5s", "1s ms", "999999999999999999999"})
    EXPECT_EQ(parse_time(bad), std::nullopt) << bad;
}

TEST(Values, SizesAndNumbers) {
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("8k"), 8192u);
  EXPECT_EQ(parse_size("8K"), 8192u);
  EXPECT_EQ(parse_size("2m"), 2u * 1024 * 1024);
  for (const std::string_view bad : {"", "k", "-1", "1g", "1kb", "1 k"})
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
  EXPECT_EQ(parse_number("20"), 20u);
  EXPECT_EQ(parse_number("20k"), std::nullopt);
  EXPECT_EQ(parse_flag("on"), true);
  EXPECT_EQ(parse_flag("off"), false);
  EXPECT_EQ(parse_flag("yes"), std::nullopt);
}

std::string listen(std::string_view text) {
  const auto address = parse_listen(text);
  if (!address) return "none";
  if (address->kind == ListenAddress::Kind::unix_socket) return "unix " + address->host;
  return (address->kind == ListenAddress::Kind::name ? "name " : "") + address->host + " " +
         std::to_string(address->first) + "-" + std::to_string(address->last);
}

TEST(Values, Listen) {
  EXPECT_EQ(listen("25"), "0.0.0.0 25-25");
  EXPECT_EQ(listen("*:25"), "0.0.0.0 25-25");
  EXPECT_EQ(listen("127.0.0.1:587"), "127.0.0.1 587-587");
  EXPECT_EQ(listen("[::]:25"), "[::] 25-25");
  EXPECT_EQ(listen("[2001:db8::1]:25-27"), "[2001:db8::1] 25-27");
  EXPECT_EQ(listen("2500-2509"), "0.0.0.0 2500-2509");
  EXPECT_EQ(listen("mx.example.com:25"), "name mx.example.com 25-25");
  EXPECT_EQ(listen("unix:/run/x.sock"), "unix /run/x.sock");
  for (const std::string_view bad :
       {"", "mx", "127.0.0.1", "127.0.0.1:", "[::1]", ":25", "0", "65536", "25x", "30-20", "25-", "25-26-27"})
    EXPECT_EQ(listen(bad), "none") << bad;
}

std::string http(std::string_view text) {
  const auto address = parse_http(text);
  if (!address) return "none";
  return (address->numeric ? "" : "name ") + address->address + " " + address->host + " " + address->target;
}

TEST(Values, AuthHttp) {
  EXPECT_EQ(http("http://127.0.0.1:9000/auth?a=b"), "127.0.0.1:9000 127.0.0.1 /auth?a=b");
  EXPECT_EQ(http("127.0.0.1/auth"), "127.0.0.1:80 127.0.0.1 /auth");
  EXPECT_EQ(http("127.0.0.1"), "127.0.0.1:80 127.0.0.1 /");
  EXPECT_EQ(http("http://[::1]:81/"), "[::1]:81 [::1] /");
  EXPECT_EQ(http("[::1]"), "[::1]:80 [::1] /");
  EXPECT_EQ(http("auth.example.com:8080/x"), "name auth.example.com:8080 auth.example.com /x");
  EXPECT_EQ(http("unix:/run/a.sock:/x"), "unix:/run/a.sock localhost /x");
  EXPECT_EQ(http("http://unix:/run/a.sock"), "unix:/run/a.sock localhost /");
  for (const std::string_view bad :
       {"", "http://", "/x", ":80", "127.0.0.1:x/", "127.0.0.1:0", "unix:", "unix:x"})
    EXPECT_EQ(http(bad), "none") << bad;
}

}  // namespace
}  // namespace ringmx::nginx
