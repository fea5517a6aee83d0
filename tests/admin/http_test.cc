// SPDX-License-Identifier: GPL-3.0-or-later
#include "admin/http.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>

namespace ringmx::admin {
namespace {

using State = Request::State;

// A request line and nothing else.
Request parse_line(std::string_view line) {
  thread_local std::string bytes;
  bytes = std::string(line) + "\r\n\r\n";
  return parse_request(bytes);
}

TEST(ParseRequest, AtEverySplit) {
  const std::string_view bytes =
      "GET /metrics?name[]=x HTTP/1.1\r\nHost: localhost:9925\r\n"
      "Accept: application/openmetrics-text;version=1.0.0, text/plain;q=0.5\r\nAccept-Encoding: gzip\r\n\r\n";
  for (std::size_t n = 0; n < bytes.size(); ++n)
    EXPECT_EQ(parse_request(bytes.substr(0, n)).state, State::incomplete) << n;
  // What stands behind the head is not looked at.
  for (const std::string_view more : {"", "GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "Accept: x\r\n\r\n"}) {
    const std::string all = std::string(bytes) + std::string(more);
    const Request request = parse_request(all);
    EXPECT_EQ(request.state, State::complete);
    EXPECT_EQ(request.method, "GET");
    EXPECT_EQ(request.path, "/metrics");
    EXPECT_EQ(request.accept, "application/openmetrics-text;version=1.0.0, text/plain;q=0.5");
  }
}

TEST(ParseRequest, RequestLine) {
  const Request get = parse_line("GET / HTTP/1.0");
  EXPECT_EQ(get.state, State::complete);
  EXPECT_EQ(get.path, "/");
  EXPECT_EQ(get.accept, "");
  const Request head = parse_line("HEAD /readyz? HTTP/1.1");
  EXPECT_EQ(head.state, State::complete);
  EXPECT_EQ(head.method, "HEAD");
  EXPECT_EQ(head.path, "/readyz");
  EXPECT_EQ(parse_line("POST /metrics HTTP/1.1").method, "POST");
  EXPECT_EQ(parse_line("get /metrics HTTP/1.1").method, "get");  // methods are case-sensitive
  EXPECT_EQ(parse_line("OPTIONS * HTTP/1.1").path, "*");
  EXPECT_EQ(parse_line("GET /a?b?c HTTP/1.1").path, "/a");
}

TEST(ParseRequest, BadRequests) {
  for (const std::string_view line : {
           "",
           " ",
           "GET",
           "GET ",
           "GET /metrics",
           "GET HTTP/1.1",
           "GET /metrics HTTP/2.0",
           "GET /metrics HTTP/0.9",
           "GET /metrics HTTP/1.",
           "GET /metrics HTTP/1.x",
           "GET /metrics HTTP/1.10",
           "GET /metrics http/1.1",
           "GET /metrics FTP/1.1",
           "GET /metrics HTTP/1.1 ",
           "GET  HTTP/1.1",
           "GET  /metrics HTTP/1.1",
           "GET /metrics  HTTP/1.1",
           "GET /a b HTTP/1.1",
           " GET /metrics HTTP/1.1",
           " /metrics HTTP/1.1",
           "EHLO client.example",
           "\x16\x03\x01",
       }) {
    EXPECT_EQ(parse_line(line).state, State::bad) << '[' << line << ']';
  }
}

TEST(ParseRequest, HeaderNamesInAnyCase) {
  for (const std::string_view header : {"Accept: a/b", "accept:a/b", "ACCEPT:\t a/b \t", "aCCept:   a/b",
                                        "X: y\r\nAccept: a/b\r\nZ: Accept: c/d"}) {
    const std::string bytes = "GET / HTTP/1.1\r\n" + std::string(header) + "\r\n\r\n";
    EXPECT_EQ(parse_request(bytes).accept, "a/b") << header;
  }
  for (const std::string_view header : {"Accept-Language: a/b", "XAccept: a/b", "X: Accept: a/b", "Accept",
                                        "Accept:", "Accept:   ", "Accep: a/b", ":"}) {
    const std::string bytes = "GET / HTTP/1.1\r\n" + std::string(header) + "\r\n\r\n";
    const Request request = parse_request(bytes);
    EXPECT_EQ(request.state, State::complete) << header;
    EXPECT_EQ(request.accept, "") << header;
  }
}

// Nothing that arrives makes it read past the end (the sanitizers look on) or say complete without
// a method and a path.
TEST(ParseRequest, EveryShortHead) {
  constexpr std::array<std::string_view, 7> words = {"GET", " ", "/", "HTTP/1.1", "\r\n", "Accept:", "\r"};
  constexpr unsigned longest = 6;
  unsigned complete = 0;
  std::size_t count = 1;
  for (unsigned length = 0; length <= longest; ++length, count *= words.size()) {
    for (std::size_t n = 0; n < count; ++n) {
      std::string bytes;
      for (std::size_t i = 0, rest = n; i < length; ++i, rest /= words.size())
        bytes += words[rest % words.size()];
      bytes += "\r\n\r\n";
      const Request request = parse_request(bytes);
      ASSERT_NE(request.state, State::incomplete);
      if (request.state == State::bad) continue;
      ++complete;
      ASSERT_FALSE(request.method.empty()) << bytes;
      ASSERT_FALSE(request.path.empty()) << bytes;
      ASSERT_TRUE(
          bytes.starts_with(std::string(request.method) + " " + std::string(request.path) + " HTTP/1.1\r\n"))
          << bytes;
    }
  }
  EXPECT_GT(complete, 0U);
}

TEST(FormatResponse, WholeOrHead) {
  const std::string head =
      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(format_response("200 OK", "text/plain", "ready\n", false), head + "ready\n");
  EXPECT_EQ(format_response("200 OK", "text/plain", "ready\n", true), head);
  EXPECT_EQ(format_response("404 Not Found", "a/b", "", false),
            "HTTP/1.1 404 Not Found\r\nContent-Type: a/b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(format_response("405 Method Not Allowed", "a/b", "", false, "Allow: GET\r\n"),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: a/b\r\nContent-Length: 0\r\n"
            "Connection: close\r\nAllow: GET\r\n\r\n");
  const std::string large(100'000, 'x');
  EXPECT_TRUE(format_response("200 OK", "a/b", large, false)
                  .ends_with("Content-Length: 100000\r\nConnection: close\r\n\r\n" + large));
}

}  // namespace
}  // namespace ringmx::admin
