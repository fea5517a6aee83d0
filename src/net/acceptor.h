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
  };

  // `id`: the owner's name for this listener.
  Acceptor(ring::Reactor& reactor, Owner& owner, Socket socket, std::uint32_t id) noexcept
      : reactor_(reactor), owner_(owner), socket_(std::move(socket)), id_(id) {}

  void start();
  // No more connections; those still in the kernel's queue are reset when the last reactor's socket
  // is closed, which is when the last completion has come.
  void stop();
  [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

 private:
  static constexpr ring::Duration retry{100};
  void on_accept(int result, unsigned flags);
  void on_retry() { start(); }

  ring::Reactor& reactor_;
  Owner& owner_;
  Socket socket_;
  std::uint32_t id_;
  bool stopped_ = false;
  ring::OperationOf<&Acceptor::on_accept> accept_{*this};
  ring::TimerOf<&Acceptor::on_retry> retry_{*this};
};

}  // namespace ringmx::net
