// SPDX-License-Identifier: GPL-3.0-or-later
#include "admin/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../net/free_address.h"
#include "../ring/loop.h"
#include "net/listen.h"

namespace ringmx::admin {
namespace {

using namespace std::literals;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::uint32_t max_connections = 8;
constexpr std::string_view metrics_request = "GET /metrics HTTP/1.1\r\nHost: localhost:9925\r\n\r\n";

// Much more than the buffers of a connection hold.
const std::string large_page(30'000'000, 'p');

// A client that never waits.
class Peer {
 public:
  explicit Peer(const net::Address& address) : socket_(net::stream_socket(address)) {
    EXPECT_EQ(connect(socket_.fd(), address.data(), address.size()), 0);
  }
  bool write(std::string_view bytes) const {
    return ::send(socket_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  void end() const { ::shutdown(socket_.fd(), SHUT_WR); }
  void close() { socket_ = net::Socket(); }
  void read() {
    std::string bytes(65536, '\0');
    for (;;) {
      const ssize_t n = recv(socket_.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      closed = closed || n == 0;
      if (n < 0 && errno != EAGAIN) error = errno;
      if (n <= 0) return;
      received.append(bytes, 0, static_cast<std::size_t>(n));
    }
  }
  // The server has closed, one way or the other.
  bool over() {
    read();
    return closed || error != 0;
  }

  std::string received;
  bool closed = false;
  int error = 0;

 private:
  net::Socket socket_;
};

std::string_view body(std::string_view response) {
  const std::size_t end = response.find("\r\n\r\n");
  return end == std::string_view::npos ? std::string_view() : response.substr(end + 4);
}

class ServerTest : public testing::Test {
 protected:
  ServerTest() { start(10s); }
  ~ServerTest() override { stop(); }

  void start(ring::Duration patience) {
    address_ = net::free_address();
    server_.emplace(loop_.reactor, std::move(net::listen(address_, 1, 100).front()), max_connections,
                    Pages{.metrics =
                              [this](std::string_view accept, std::string& content_type) {
                                accepts_.emplace_back(accept);
                                content_type = "text/x-metrics";
                                return page_;
                              },
                          .ready = [this] { return ready_; }},
                    patience);
    server_->start();
    loop_.settle();
  }
  void stop() {
    if (!server_) return;
    bool closed = false;
    server_->close([&] { closed = true; });
    EXPECT_TRUE(run_until([&] { return closed; }));
    server_.reset();
    loop_.settle();
  }

  Peer connect() const { return Peer(address_); }
  template <class Predicate>
  bool run_until(Predicate done) {
    return loop_.run_until(done);
  }
  // The whole response to a request. The server ends its side; the peer is the first to close.
  std::string response_to(std::string_view request) {
    Peer peer = connect();
    EXPECT_TRUE(peer.write(request));
    EXPECT_TRUE(run_until([&] { return peer.over(); })) << request;
    EXPECT_EQ(peer.error, 0) << request;
    return peer.received;
  }

  ring::Loop loop_;
  net::Address address_ = net::free_address();
  std::optional<Server> server_;
  std::string page_ = "ringmx_x 1\n";
  std::vector<std::string> accepts_;
  bool ready_ = true;
};

TEST_F(ServerTest, Pages) {
  EXPECT_EQ(
      response_to("GET /metrics HTTP/1.1\r\nAccept: text/plain\r\n\r\n"),
      "HTTP/1.1 200 OK\r\nContent-Type: text/x-metrics\r\nContent-Length: 11\r\nConnection: close\r\n\r\n"
      "ringmx_x 1\n");
  EXPECT_EQ(accepts_, std::vector{"text/plain"s});
  EXPECT_THAT(response_to("GET /metrics?a=b HTTP/1.0\r\n\r\n"), EndsWith("\r\n\r\nringmx_x 1\n"));
  EXPECT_THAT(response_to("GET /healthz HTTP/1.1\r\n\r\n"), EndsWith("\r\n\r\nok\n"));
  EXPECT_THAT(response_to("GET /readyz HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  ready_ = false;
  EXPECT_THAT(response_to("GET /readyz HTTP/1.1\r\n\r\n"),
              StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(response_to("GET /healthz HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ServerTest, HeadIsGetWithoutTheBody) {
  for (const std::string path : {"/metrics", "/healthz", "/readyz", "/"}) {
    const std::string get = response_to("GET " + path + " HTTP/1.1\r\n\r\n");
    const std::string head = response_to("HEAD " + path + " HTTP/1.1\r\n\r\n");
    EXPECT_FALSE(body(get).empty());
    EXPECT_EQ(head, get.substr(0, get.size() - body(get).size()));
  }
}

TEST_F(ServerTest, Refusals) {
  for (const std::string path : {"/", "/metrics/", "/Metrics", "//metrics", "/%6detrics", "*", "metrics"}) {
    EXPECT_THAT(response_to("GET " + path + " HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  }
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "CONNECT"}) {
    const std::string response = response_to(method + " /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(response, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
    EXPECT_THAT(response, HasSubstr("\r\nAllow: GET, HEAD\r\n"));
  }
  for (const std::string_view request : {"EHLO x\r\n\r\n", "\r\n\r\n", "GET /metrics\r\n\r\n",
                                         "GET /metrics HTTP/2.0\r\n\r\n", "\x16\x03\x01\r\n\r\n"}) {
    EXPECT_THAT(response_to(request), StartsWith("HTTP/1.1 400 Bad Request\r\n"));
  }
  EXPECT_TRUE(accepts_.empty()) << "nobody was shown the page";
}

TEST_F(ServerTest, ARequestInAnyPieces) {
  for (std::size_t n = 1; n < metrics_request.size(); ++n) {
    Peer peer = connect();
    ASSERT_TRUE(peer.write(metrics_request.substr(0, n)));
    loop_.settle();
    peer.read();
    ASSERT_EQ(peer.received, "") << n;
    ASSERT_FALSE(peer.closed) << n;
    ASSERT_TRUE(peer.write(metrics_request.substr(n)));
    ASSERT_TRUE(run_until([&] { return peer.over(); })) << n;
    ASSERT_THAT(peer.received, EndsWith("ringmx_x 1\n")) << n;
  }
  Peer peer = connect();
  for (std::size_t n = 0; n < metrics_request.size(); ++n) {
    peer.write(metrics_request.substr(n, 1));
    loop_.settle();
  }
  EXPECT_TRUE(run_until([&] { return peer.over(); }));
  EXPECT_THAT(peer.received, EndsWith("ringmx_x 1\n"));
}

// A connection serves one request: what is pipelined behind it, or is its body, is read and dropped, lest
// the response be lost in a reset.
TEST_F(ServerTest, OneRequestForEachConnection) {
  const std::string one(metrics_request);
  for (const std::string& request : {one + one, "GET /metrics HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"s,
                                     one + std::string(300'000, 'x')}) {
    accepts_.clear();
    Peer peer = connect();
    std::size_t written = 0;
    EXPECT_TRUE(run_until([&] {
      const std::string_view part = std::string_view(request).substr(written, 1000);
      if (!part.empty() && peer.write(part)) written += part.size();
      return written == request.size() && peer.over();
    }));
    EXPECT_EQ(peer.error, 0);
    EXPECT_THAT(peer.received, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(peer.received, HasSubstr("\r\nConnection: close\r\n"));
    EXPECT_EQ(body(peer.received), "ringmx_x 1\n");
    EXPECT_EQ(accepts_.size(), 1U);
  }
}

// As `printf ... | nc -N` does.
TEST_F(ServerTest, AClientThatEndsItsSideIsAnswered) {
  for (const bool at_once : {true, false}) {
    Peer peer = connect();
    peer.write(metrics_request);
    if (!at_once) loop_.settle();
    peer.end();
    EXPECT_TRUE(run_until([&] { return peer.over(); }));
    EXPECT_THAT(peer.received, EndsWith("ringmx_x 1\n"));
  }
}

TEST_F(ServerTest, HalfARequestThenTheEnd) {
  for (const std::string_view half : {""sv, "G"sv, metrics_request.substr(0, metrics_request.size() - 1)}) {
    Peer peer = connect();
    peer.write(half);
    peer.end();
    EXPECT_TRUE(run_until([&] { return peer.over(); })) << half;
    EXPECT_EQ(peer.received, "");
  }
}

TEST_F(ServerTest, HalfARequestIsNotWaitedForForLong) {
  stop();
  start(300ms);
  const auto begin = std::chrono::steady_clock::now();
  Peer silent = connect();
  Peer half = connect();
  half.write("GET /met");
  loop_.settle();
  // Bytes do not extend it.
  auto next = begin;
  EXPECT_TRUE(run_until([&] {
    if (const auto now = std::chrono::steady_clock::now(); now >= next) {
      half.write("x");
      next = now + 10ms;
    }
    return silent.over() && half.over();
  }));
  const auto after = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(after, 300ms);
  EXPECT_LT(after, 9s) << "it is its own patience, not the usual one";
  EXPECT_EQ(half.received, "");
  EXPECT_THAT(response_to(metrics_request), EndsWith("ringmx_x 1\n"));
}

TEST_F(ServerTest, AnOversizedHeadIsRefused) {
  const std::string head = "GET /metrics HTTP/1.1\r\nX: ";
  // 8 KiB may be there and no end in sight.
  const std::string most = head + std::string(8192 - head.size(), 'x');
  Peer peer = connect();
  EXPECT_TRUE(peer.write(most));
  loop_.settle();
  peer.read();
  EXPECT_EQ(peer.received, "");
  EXPECT_TRUE(peer.write("\r\n\r\n"));
  EXPECT_TRUE(run_until([&] { return peer.over(); }));
  EXPECT_THAT(peer.received, StartsWith("HTTP/1.1 200 OK\r\n"));

  EXPECT_THAT(response_to(most + "x"), StartsWith("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
  // A peer that never stops is closed, and what it sends is not kept.
  Peer flood = connect();
  const std::string more(64 * 1024, 'x');
  EXPECT_TRUE(run_until([&] {
    flood.write(more);
    return flood.over();
  }));
  EXPECT_THAT(response_to(metrics_request), EndsWith("ringmx_x 1\n"));
}

TEST_F(ServerTest, ASlowReaderHoldsUpNobody) {
  page_ = large_page;
  Peer slow = connect();
  slow.write(metrics_request);
  loop_.settle();
  const std::string small = "ringmx_y 2\n";
  page_ = small;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(body(response_to(metrics_request)), small);
  EXPECT_TRUE(run_until([&] { return slow.over(); }));
  EXPECT_EQ(slow.error, 0);
  EXPECT_TRUE(body(slow.received) == large_page) << "whole, and as it was when it was asked for";
}

TEST_F(ServerTest, AReaderThatNeverReadsIsClosed) {
  stop();
  start(300ms);
  page_ = large_page;
  Peer never = connect();
  never.write(metrics_request);
  loop_.settle();
  // Who came later has waited in vain when it is closed as well.
  Peer later = connect();
  EXPECT_TRUE(run_until([&] { return later.over(); }));
  EXPECT_TRUE(run_until([&] { return never.over(); }));
  EXPECT_LT(body(never.received).size(), large_page.size());
  page_ = "small";
  EXPECT_EQ(body(response_to(metrics_request)), "small");
}

// 64 MiB are there for pages that wait to be read.
TEST_F(ServerTest, PagesThatFindNoMemory) {
  page_ = large_page;
  std::vector<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(connect());
    peers.back().write(metrics_request);
    loop_.settle();
  }
  for (Peer& peer : peers) EXPECT_TRUE(run_until([&] { return peer.over(); }));
  // A part is never taken for the whole: Content-Length tells.
  int whole = 0;
  for (const Peer& peer : peers) {
    if (body(peer.received).size() == page_.size()) ++whole;
    if (peer.received.empty()) continue;
    EXPECT_THAT(peer.received, HasSubstr("\r\nContent-Length: 30000000\r\n"));
  }
  EXPECT_EQ(whole, 2);
  page_ = "small";
  EXPECT_EQ(body(response_to(metrics_request)), "small");
}

TEST_F(ServerTest, ManyConnections) {
  std::vector<Peer> served;
  for (std::uint32_t i = 0; i < max_connections; ++i) served.push_back(connect());
  loop_.settle();
  // Who comes beyond that is closed at once; who is there is served.
  for (int i = 0; i < 20; ++i) {
    Peer one_more = connect();
    EXPECT_TRUE(run_until([&] { return one_more.over(); }));
    EXPECT_EQ(one_more.received, "");
  }
  // In another order than they came.
  for (const std::size_t i : {3U, 0U, 7U, 1U}) {
    served[i].write(metrics_request);
    EXPECT_TRUE(run_until([&] { return served[i].over(); }));
    EXPECT_EQ(body(served[i].received), page_);
    served[i].close();
    loop_.settle();
  }
  for (int i = 0; i < 300; ++i) ASSERT_EQ(body(response_to(metrics_request)), page_) << i;
  for (const std::size_t i : {2U, 4U, 5U, 6U}) {
    EXPECT_FALSE(served[i].over());
    served[i].write(metrics_request);
    EXPECT_TRUE(run_until([&] { return served[i].over(); }));
    EXPECT_EQ(body(served[i].received), page_);
  }
}

// More than there are receive buffers, all in one turn.
TEST_F(ServerTest, ManyRequestsAtOnce) {
  std::vector<Peer> peers;
  for (int i = 0; i < 50; ++i) {
    peers.push_back(connect());
    peers.back().write(metrics_request);
  }
  std::size_t answered = 0;
  for (Peer& peer : peers) {
    EXPECT_TRUE(run_until([&] { return peer.over(); }));
    if (!peer.received.empty()) {
      ++answered;
      EXPECT_EQ(body(peer.received), page_);
    }
  }
  EXPECT_GE(answered, max_connections);
  EXPECT_EQ(accepts_.size(), answered);
}

TEST_F(ServerTest, CloseWithConnectionsInEveryState) {
  page_ = large_page;
  Peer silent = connect();
  Peer half = connect();
  half.write("GET /met");
  Peer slow = connect();
  slow.write(metrics_request);
  Peer answered = connect();
  answered.write("GET /healthz HTTP/1.1\r\n\r\n");
  loop_.settle();
  Peer not_accepted = connect();
  stop();
  for (Peer* peer : {&silent, &half, &slow, &answered, &not_accepted})
    EXPECT_TRUE(run_until([&] { return peer->over(); }));
  EXPECT_LT(body(slow.received).size(), page_.size());
  EXPECT_THAT(answered.received, EndsWith("ok\n"));
  // Nobody is there any more.
  const net::Socket late(net::stream_socket(address_));
  EXPECT_EQ(::connect(late.fd(), address_.data(), address_.size()), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST_F(ServerTest, ResetsHurtNobody) {
  page_ = large_page.substr(0, 1'000'000);
  for (int i = 0; i < 50; ++i) {
    Peer peer = connect();
    if (i % 2 != 0) peer.write(metrics_request);
    if (i % 3 == 0) loop_.settle();
    peer.close();  // with the response unread: a reset
  }
  loop_.settle();
  page_ = "small";
  EXPECT_EQ(body(response_to(metrics_request)), "small");
}

}  // namespace
}  // namespace ringmx::admin
