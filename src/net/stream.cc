// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ringmx::net {

namespace {
// What brings less than this is hardly a part of a bulk of message data.
constexpr std::uint32_t command_sized = 1024;
}  // namespace

Stream::~Stream() {
  armed_buffers().stop_waiting(*this);
  assert(!flush_.scheduled() && !closed_.scheduled());
}

void Stream::arm() {
  if (receive_.pending() || !wanted_ || ended_ || closing_ || ring::ReceiveBuffers::waiting(*this)) return;
  bulk_armed_ = bulk_;
  const std::uint16_t group = armed_buffers().group();
  if (memory_.scarce()) {
    reactor_.receive(receive_, fd_, group, memory_.text.block_size());
  } else if (bulk_) {
    reactor_.receive(receive_, fd_, group);
  } else {
    reactor_.receive_multishot(receive_, fd_, group);
  }
}

// The last completion of what is under way arms it again, if it is wanted.
void Stream::stop_receiving() {
  armed_buffers().stop_waiting(*this);
  if (receive_.pending() && !canceling_) {
    canceling_ = true;
    reactor_.cancel(receive_);
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
  bulk_ = true;
  stop_receiving();
}

void Stream::resume() {
  wanted_ = true;
  arm();
}

void Stream::buffers_available() {
  arm();
}

void Stream::on_receive(int result, unsigned flags) {
  if (!receive_.pending()) canceling_ = false;
  ring::Slice data;
  if ((flags & IORING_CQE_F_BUFFER) != 0) {
    data = armed_buffers().filled(flags, result > 0 ? static_cast<std::uint32_t>(result) : 0);
  }
  if (closing_) return finish_if_idle();
  if (result > 0) {
    const auto size = static_cast<std::uint32_t>(result);
    traffic_.received.add(size);
    if (size == memory_.receive.pool().block_size()) {
      bulk_ = true;
    } else if (size < command_sized) {
      bulk_ = false;
    }
    if (bulk_ || (size > memory_.text.block_size() && memory_.scarce())) stop_receiving();
    if (!ending_) {
      owner_.stream_received(std::move(data));
    } else if ((discarded_ += size) > discard_limit) {
      return close();
    }
  } else if (result == -ENOBUFS) {
    if (wanted_ && !ring::ReceiveBuffers::waiting(*this)) armed_buffers().wait(*this);
  } else if (result != -ECANCELED) {
    if (result < 0) return fail(-result);
    ended_ = true;
    if (failed_) return;  // the send had found it out, and told
    if (!ending_) return owner_.stream_ended(0);
    // It may still read: what is queued goes first, then flush() closes.
    if (shut_) return close();
  }
  arm();
}

void Stream::send(ring::Slice slice) {
  if (slice.empty() || ending_ || closing_) return;
  unsent_ += slice.size();
  if (is_receive_buffer(slice) && (queue_.empty() || !slice.same_block(queue_.back()))) {
    held_ += slice.pool()->block_size();
  }
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
    // What is queued grows instead of getting a second entry, even if a send of it is under way: that
    // knows its own length.
    if (!queue_.empty() && queue_.back().data() + queue_.back().size() == end &&
        queue_.back().pool() == text_.pool()) {
      queue_.back().extend(static_cast<std::uint32_t>(n));
      unsent_ += n;
    } else {
      send(text_.part(end, n));
    }
    bytes.remove_prefix(n);
  }
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
    under_way_ = queue_.front().size();
    reactor_.send(send_, fd_, queue_.front().data(), queue_.front().size());
    return;
  }
  ring::Reactor::Gather& gather = reactor_.gather();
  const std::size_t n = std::min(queue_.size(), gather.vectors.size());
  for (std::size_t i = 0; i < n; ++i) {
    gather.vectors[i] = {.iov_base = const_cast<char*>(queue_[i].data()), .iov_len = queue_[i].size()};
    under_way_ += queue_[i].size();
  }
  gather.message = {};
  gather.message.msg_iov = gather.vectors.data();
  gather.message.msg_iovlen = n;
  reactor_.send_message(send_, fd_, gather.message);
}

void Stream::on_send(int result, unsigned) {
  under_way_ = 0;
  if (closing_) return finish_if_idle();
  if (result < 0) return fail(-result);
  if (connecting_) {
    connecting_ = false;
    reactor_.defer(flush_);
    return owner_.stream_connected();
  }
  sent(static_cast<std::size_t>(result));
  reactor_.defer(flush_);
  owner_.stream_sent();
}

void Stream::sent(std::size_t bytes) {
  traffic_.sent.add(bytes);
  unsent_ -= bytes;
  while (bytes > 0) {
    ring::Slice& front = queue_.front();
    const std::size_t n = std::min<std::size_t>(bytes, front.size());
    front.remove_prefix(n);
    bytes -= n;
    if (!front.empty()) break;
    // Counted as in send(): neighbours of one block are one.
    if (is_receive_buffer(front) && (queue_.size() == 1 || !front.same_block(queue_[1]))) {
      held_ -= front.pool()->block_size();
    }
    queue_.pop_front();
  }
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
  unsent_ = held_ = 0;
}

void Stream::end() {
  if (ending_ || closing_) return;
  ending_ = true;
  reactor_.defer(flush_);
}

void Stream::close() {
  if (closing_) return;
  closing_ = true;
  stop_receiving();
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
