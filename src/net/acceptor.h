// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>

#include "net/listen.h"
#include "ring/reactor.h"

namespace ringmx::net {

// Takes connections from one listening socket, for one reactor (multishot accept).
class Acceptor {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // A connection; the descriptor is the owner's now.
    virtual void accepted(Acceptor& acceptor, int fd) = 0;
    // The process or the system is out of descriptors or memory. The connection stays in the
    // kernel's queue; accepting is tried again by itself.
    virtual void accept_starved(Acceptor& acceptor, int error) = 0;
    // After stop(): the socket is closed.
    virtual void acceptor_closed(Acceptor& acceptor) = 0;
  };

  // `id`: the owner's name for this listener.
  Acceptor(ring::Reactor& reactor, Owner& owner, Socket socket, std::uint32_t id) noexcept
      : reactor_(reactor), owner_(owner), socket_(std::move(socket)), id_(id) {}

  void start();
  // Asks for the end. What the kernel has accepted by then still comes to accepted(); the socket is
  // closed when the last completion has come; then closed().
  void stop();
  [[nodiscard]] bool closed() const noexcept { return socket_.fd() < 0; }
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

 private:
  static constexpr ring::Duration retry{100};
  void on_accept(int result, unsigned flags);
  void on_retry() { start(); }
  void on_closed() { owner_.acceptor_closed(*this); }
  void close();

  ring::Reactor& reactor_;
  Owner& owner_;
  Socket socket_;
  std::uint32_t id_;
  bool stopped_ = false;
  ring::OperationOf<&Acceptor::on_accept> accept_{*this};
  ring::TimerOf<&Acceptor::on_retry> retry_{*this};
  ring::DeferredOf<&Acceptor::on_closed> closed_{*this};
};

}  // namespace ringmx::net
