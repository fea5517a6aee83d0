// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/acceptor.h"

#include <cerrno>

namespace ringmx::net {

void Acceptor::start() {
  if (!stopped_ && !accept_.pending()) reactor_.accept_multishot(accept_, socket_.fd());
}

void Acceptor::stop() {
  if (stopped_) return;
  stopped_ = true;
  reactor_.timers().clear(retry_);
  if (accept_.pending()) {
    reactor_.cancel(accept_);
  } else {
    close();
  }
}

void Acceptor::close() {
  socket_ = Socket();
  reactor_.defer(closed_);
}

void Acceptor::on_accept(int result, unsigned) {
  if (result >= 0) {
    owner_.accepted(*this, result);
  } else {
    switch (-result) {
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        owner_.accept_starved(*this, -result);
        if (!stopped_) reactor_.timers().set(retry_, reactor_.now() + retry);
        break;
      default:  // the one connection was gone before it was accepted, or stop() was called
        break;
    }
  }
  if (accept_.pending()) return;
  if (stopped_) {
    close();
  } else if (retry_.deadline() == ring::never) {
    start();
  }
}

}  // namespace ringmx::net
