// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ringmx::net {

Stream::~Stream() {
  memory_.receive.stop_waiting(*this);
  assert(!flush_.scheduled() && !closed_.scheduled());
}

void Stream::arm() {
  if (!receive_.pending() && wanted_ && !ended_ && !closing_ && !ring::ReceiveBuffers::waiting(*this)) {
    if (metered_) {
      reactor_.receive(receive_, fd_, memory_.receive.group());
    } else {
      reactor_.receive_multishot(receive_, fd_, memory_.receive.group());
    }
  }
}

void Stream::connect(int fd, const Address& address) {
  fd_ = fd;
  connecting_ = true;
  reactor_.connect(send_, fd, address.data(), address.size());
}

void Stream::pause() {
  if (ending_) return;  // what is dropped takes no memory of the owner's
  wanted_ = false;
  metered_ = true;
  memory_.receive.stop_waiting(*this);
  if (receive_.pending() && !canceling_) {
    canceling_ = true;
    reactor_.cancel(receive_);
  }
}

void Stream::resume() {
  wanted_ = true;
  arm();  // or, while a cancel is under way, when its last completion has come
}

void Stream::buffers_available() {
  arm();
}

void Stream::on_receive(int result, unsigned flags) {
  if (!receive_.pending()) canceling_ = false;
  ring::Slice data;
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    data = memory_.receive.filled(flags, result > 0 ? static_cast<std::uint32_t>(result) : 0);
  }
  if (closing_) return finish_if_idle();
  if (result > 0) {
    traffic_.received.add(static_cast<std::uint64_t>(result));
    if (static_cast<std::uint32_t>(result) < memory_.receive.block_size()) metered_ = false;
    if (!ending_) {
      owner_.stream_received(std::move(data));
    } else if ((discarded_ += static_cast<std::uint32_t>(result)) > discard_limit) {
      return close();
    }
  } else if (result == -ENOBUFS) {
    if (wanted_ && !ring::ReceiveBuffers::waiting(*this)) memory_.receive.wait(*this);
  } else if (result != -ECANCELED) {
    if (result < 0) return fail(-result);
    ended_ = true;
    if (ending_) return close();
    return owner_.stream_ended(0);
  }
  arm();
}

void Stream::send(ring::Slice slice) {
  if (slice.empty() || ending_ || closing_) return;
  unsent_ += slice.size();
  queue_.push_back(std::move(slice));
  reactor_.defer(flush_);
}

void Stream::send_copy(std::string_view bytes) {
  if (ending_ || closing_) return;
  while (!bytes.empty()) {
    std::uint32_t room = text_ ? memory_.text.block_size() - text_.size() : 0;
    if (room == 0) {
      text_ = memory_.text.allocate();
      // Everyone's replies are waiting to be read: this one can't be given, so the session ends.
      if (!text_) {
        starved_ = true;
        return reactor_.defer(flush_);
      }
      room = memory_.text.block_size();
    }
    const std::size_t n = std::min<std::size_t>(room, bytes.size());
    // The block is this stream's own, and nothing behind its end is in anybody's hands yet.
    char* end = const_cast<char*>(text_.data()) + text_.size();
    std::memcpy(end, bytes.data(), n);
    text_.extend(static_cast<std::uint32_t>(n));
    // What is queued, but not yet on its way, grows instead of getting a second entry.
    if (!queue_.empty() && !send_.pending() && queue_.back().data() + queue_.back().size() == end &&
        queue_.back().pool() == text_.pool()) {
      queue_.back().extend(static_cast<std::uint32_t>(n));
      unsent_ += n;
    } else {
      send(text_.part(end, n));
    }
    bytes.remove_prefix(n);
  }
}

std::size_t Stream::held_blocks() const noexcept {
  std::size_t n = 0;
  const ring::Slice* last = nullptr;
  for (const ring::Slice& slice : queue_) {
    if (slice.pool() == nullptr || slice.pool() == &memory_.text) continue;
    if (last == nullptr || !slice.same_block(*last)) ++n;
    last = &slice;
  }
  return n;
}

void Stream::flush() {
  if (send_.pending() || closing_) return;
  if (starved_) return fail(ENOBUFS);
  if (queue_.empty()) {
    text_ = {};
    if (ending_ && !shut_) {
      shut_ = true;
      // The ring would hand a shutdown to a worker thread, and there it may meet the next user of
      // the descriptor; the call itself never waits.
      ::shutdown(fd_, SHUT_WR);
      if (ended_) return close();
      wanted_ = true;
      arm();
    }
    return;
  }
  if (queue_.size() == 1) {
    reactor_.send(send_, fd_, queue_.front().data(), queue_.front().size());
    return;
  }
  ring::Reactor::Gather& gather = reactor_.gather();
  const std::size_t n = std::min(queue_.size(), gather.vectors.size());
  for (std::size_t i = 0; i < n; ++i) {
    gather.vectors[i] = {.iov_base = const_cast<char*>(queue_[i].data()), .iov_len = queue_[i].size()};
  }
  gather.message = {};
  gather.message.msg_iov = gather.vectors.data();
  gather.message.msg_iovlen = n;
  reactor_.send_message(send_, fd_, gather.message);
}

void Stream::on_send(int result, unsigned) {
  if (closing_) return finish_if_idle();
  if (result < 0) return fail(-result);
  if (connecting_) {
    connecting_ = false;
    reactor_.defer(flush_);
    return owner_.stream_connected();
  }
  auto left = static_cast<std::size_t>(result);
  traffic_.sent.add(left);
  unsent_ -= left;
  std::size_t done = 0;
  while (left > 0) {
    ring::Slice& front = queue_[done];
    const std::size_t n = std::min<std::size_t>(left, front.size());
    front.remove_prefix(n);
    left -= n;
    if (front.empty()) ++done;
  }
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(done));
  reactor_.defer(flush_);
  owner_.stream_sent();
}

void Stream::fail(int error) {
  drop_queue();
  if (ending_) return close();
  if (failed_) return;
  ended_ = failed_ = true;
  owner_.stream_ended(error);
}

void Stream::drop_queue() {
  if (send_.pending()) return;  // its slices are the kernel's until the completion
  queue_.clear();
  text_ = {};
  unsent_ = 0;
}

void Stream::end() {
  if (ending_ || closing_) return;
  ending_ = true;
  reactor_.defer(flush_);
}

void Stream::close() {
  if (closing_) return;
  closing_ = true;
  memory_.receive.stop_waiting(*this);
  if (receive_.pending() && !canceling_) reactor_.cancel(receive_);
  if (send_.pending()) reactor_.cancel(send_);
  finish_if_idle();
}

void Stream::finish_if_idle() {
  if (receive_.pending() || send_.pending() || fd_ < 0) return;
  drop_queue();
  reactor_.close(fd_);
  fd_ = -1;
  reactor_.defer(closed_);
}

}  // namespace ringmx::net
