// SPDX-License-Identifier: GPL-3.0-or-later
#include "admin/server.h"

#include <unistd.h>

#include <utility>

#include "admin/http.h"

namespace ringmx::admin {

namespace {
constexpr std::uint16_t buffer_group = 3;
constexpr std::size_t request_limit = 8192;  // bytes
constexpr std::string_view plain = "text/plain; charset=utf-8";
}  // namespace

class Server::Connection final : private net::Stream::Owner {
 public:
  Connection(Server& server, int fd)
      : server_(server),
        stream_(server.reactor_, {server.buffers_, server.buffers_, server.text_},
                {server.received_, server.sent_}, *this) {
    stream_.open(fd);
    stream_.resume();
    server_.reactor_.timers().set(timer_, server_.reactor_.now() + server_.patience_);
  }
  void close() { stream_.close(); }

 private:
  friend class Server;

  void stream_received(ring::Slice data) override {
    head_.append(data.data(), data.size());
    const Request request = parse_request(head_);
    if (request.state == Request::State::incomplete && head_.size() <= request_limit) return;
    stream_.send_copy(respond(request));
    stream_.end();
  }
  void stream_ended(int) override { stream_.close(); }
  void stream_sent() override {}
  void stream_closed() override { server_.connection_closed(*this); }
  void on_timeout() { stream_.close(); }

  [[nodiscard]] std::string respond(const Request& request) const {
    const bool head = request.method == "HEAD";
    switch (request.state) {
      case Request::State::incomplete:
        return format_response("431 Request Header Fields Too Large", plain, "", false);
      case Request::State::bad:
        return format_response("400 Bad Request", plain, "", false);
      case Request::State::complete:
        break;
    }
    if (!head && request.method != "GET")
      return format_response("405 Method Not Allowed", plain, "", false, "Allow: GET, HEAD\r\n");
    if (request.path == "/metrics") {
      std::string content_type;
      const std::string page = server_.pages_.metrics(request.accept, content_type);
      return format_response("200 OK", content_type, page, head);
    }
    if (request.path == "/healthz") return format_response("200 OK", plain, "ok\n", head);
    if (request.path == "/readyz") {
      return server_.pages_.ready() ? format_response("200 OK", plain, "ready\n", head)
                                    : format_response("503 Service Unavailable", plain, "draining\n", head);
    }
    return format_response("404 Not Found", plain, "/metrics, /healthz or /readyz\n", head);
  }

  Server& server_;
  std::uint32_t index_ = 0;  // in Server::connections_
  std::string head_;
  ring::TimerOf<&Connection::on_timeout> timer_{*this};
  net::Stream stream_;
};

Server::Server(ring::Reactor& reactor, net::Socket socket, std::uint32_t max_connections, Pages pages,
               ring::Duration patience)
    : reactor_(reactor),
      max_connections_(max_connections),
      patience_(patience),
      pages_(std::move(pages)),
      pool_(4096, 64),
      buffers_(reactor, pool_, buffer_group, 8, 64),
      text_(4096, 16 * 1024),
      acceptor_(reactor, *this, std::move(socket), 0) {}

Server::~Server() = default;

void Server::accepted(net::Acceptor&, int fd) {
  // After close() the kernel's last ones may still come.
  if (connections_.size() >= max_connections_ || closed_) {
    ::close(fd);
    return;
  }
  connections_.push_back(std::make_unique<Connection>(*this, fd));
  connections_.back()->index_ = static_cast<std::uint32_t>(connections_.size() - 1);
}

void Server::connection_closed(Connection& connection) {
  const std::uint32_t index = connection.index_;
  connections_.back()->index_ = index;
  std::swap(connections_[index], connections_.back());
  connections_.pop_back();
  finish_if_closed();
}

void Server::close(std::function<void()> closed) {
  closed_ = std::move(closed);
  acceptor_.stop();
  for (auto& connection : connections_) connection->close();
}

void Server::finish_if_closed() {
  if (closed_ && connections_.empty() && acceptor_.closed()) std::exchange(closed_, nullptr)();
}

}  // namespace ringmx::admin
