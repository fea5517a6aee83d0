// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/acceptor.h"
#include "net/stream.h"
#include "ring/reactor.h"

namespace ringmx::admin {

// What the pages say.
struct Pages {
  std::function<std::string(std::string_view accept, std::string& content_type)> metrics;  // GET /metrics
  std::function<bool()> ready;  // GET /readyz: 200 or 503; GET /healthz is always 200
};

// The operator's HTTP side, on one reactor: it may be slow, and nobody's mail waits for it.
class Server final : private net::Acceptor::Owner {
 public:
  // `patience`: from accept to close.
  Server(ring::Reactor& reactor, net::Socket socket, std::uint32_t max_connections, Pages pages,
         ring::Duration patience = std::chrono::seconds(10));
  ~Server() override;

  void start() { acceptor_.start(); }
  // Ends listening and all connections, then calls `closed`.
  void close(std::function<void()> closed);

 private:
  class Connection;
  void accepted(net::Acceptor& acceptor, int fd) override;
  void accept_starved(net::Acceptor&, int) override {}
  void acceptor_closed(net::Acceptor&) override { finish_if_closed(); }
  void connection_closed(Connection& connection);
  void finish_if_closed();

  ring::Reactor& reactor_;
  std::uint32_t max_connections_;
  ring::Duration patience_;
  Pages pages_;
  ring::ReceivePool pool_;
  ring::ReceiveBuffers buffers_;
  ring::BlockPool text_;
  ring::Counter received_;  // not SMTP, so in nobody's metric
  ring::Counter sent_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::function<void()> closed_;
  net::Acceptor acceptor_;
};

}  // namespace ringmx::admin
