// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/stream.h"

#include <linux/tls.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ringmx::net {

namespace {

// What brings less than this is hardly a part of a bulk of message data.
constexpr std::uint32_t command_sized = 1024;
// Sealed octets that wait, beyond which nothing further is sealed: it would only take memory.
constexpr std::size_t most_sealed = 64 * 1024;
// The least room in which sealing makes sense: a short reply with what its record adds.
constexpr std::uint32_t seal_overhead = 64;

// Moves `content` down to `to`. It may be of a password, so nothing of it stays behind.
void join(char* to, std::string_view content) noexcept {
  char* const from = to + (content.data() - to);
  char* const end = from + content.size();
  std::memmove(to, from, content.size());
  char* const rest = std::max(from, to + content.size());
  ::explicit_bzero(rest, static_cast<std::size_t>(end - rest));
}

// What the kernel's TLS says of a record that it can't open.
constexpr bool no_record(int error) noexcept {
  return error == EBADMSG || error == EMSGSIZE || error == EINVAL;
}

// A record of a type of its own, for the kernel's TLS.
struct ControlMessage {
  msghdr message{};
  iovec vector{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(1)> control{};

  void prepare(void* content, std::size_t size) {
    vector = {.iov_base = content, .iov_len = size};
    message = {};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
  }
  void set_type(std::uint8_t type) {
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_TLS;
    header->cmsg_type = TLS_SET_RECORD_TYPE;
    header->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(header) = type;
  }
  // Data, if the kernel says nothing.
  [[nodiscard]] std::uint8_t type() {
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header == nullptr || header->cmsg_level != SOL_TLS || header->cmsg_type != TLS_GET_RECORD_TYPE) {
      return application_data;
    }
    return *CMSG_DATA(header);
  }
  static constexpr std::uint8_t application_data = 23;
};

}  // namespace

struct Stream::Secured {
  // One of the two.
  std::unique_ptr<UserRecords> user;
  std::unique_ptr<KernelRecords> kernel;

  SliceQueue sealed;        // by user
  bool end_sealed = false;  // the last record is in there, or was asked of the kernel
  bool ended = false;       // the peer has said that it sends no more
  bool receiving = false;   // receive_ is for a control message
  bool sending = false;     // send_ is for one
  ControlMessage in;
  ControlMessage out;
  std::array<char, 512> content;  // of in; a longer record comes in parts

  // The record that is due from `kernel`, put into `out`. False: none is.
  bool prepare_due() {
    const KernelRecords::Record record = kernel->due();
    if (record.content.empty()) return false;
    out.prepare(const_cast<char*>(record.content.data()), record.content.size());
    out.set_type(record.type);
    return true;
  }
};

Stream::Stream(ring::Reactor& reactor, StreamMemory memory, StreamTraffic traffic, Owner& owner) noexcept
    : reactor_(reactor), memory_(memory), traffic_(traffic), owner_(&owner) {}

Stream::~Stream() {
  armed_buffers().stop_waiting(*this);
  assert(!flush_.scheduled() && !closed_.scheduled());
}

void Stream::arm() {
  if (receive_.pending() || !wanted_ || ended_ || closing_ || ring::ReceiveBuffers::waiting(*this)) return;
  bulk_armed_ = bulk_;
  const std::uint16_t group = armed_buffers().group();
  if (most_ != 0) {
    reactor_.receive(receive_, fd_, group, most_);
  } else if (memory_.scarce()) {
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

void Stream::receive_at_most(std::uint32_t most) {
  assert(!receive_.pending());
  most_ = most;
  wanted_ = true;
  arm();
}

void Stream::quiesce() {
  wanted_ = false;
  quiescing_ = true;
  stop_receiving();
  if (!receive_.pending()) reactor_.defer(flush_);
}

void Stream::secure(std::unique_ptr<UserRecords> records) {
  assert(!receive_.pending() && unsent_ == 0);
  secured_ = std::make_unique<Secured>();
  secured_->user = std::move(records);
}

void Stream::secure(std::unique_ptr<KernelRecords> records) {
  assert(!receive_.pending() && unsent_ == 0);
  secured_ = std::make_unique<Secured>();
  secured_->kernel = std::move(records);
}

void Stream::buffers_available() {
  arm();
}

void Stream::on_receive(int result, unsigned flags) {
  if (!receive_.pending()) {
    canceling_ = false;
    if (quiescing_) reactor_.defer(flush_);
    if (secured_ && std::exchange(secured_->receiving, false)) return on_control(result);
  }
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
    if (most_ != 0) {
      most_ = 0;
      wanted_ = false;
    }
    if (ending_ || ended_) {
      if ((discarded_ += size) > discard_limit) return close();
    } else if (secured_ && secured_->user) {
      open_records(data);
    } else {
      owner_->stream_received(std::move(data));
    }
  } else if (result == -ENOBUFS) {
    if (wanted_ && !ring::ReceiveBuffers::waiting(*this)) armed_buffers().wait(*this);
  } else if (result == -EIO && secured_ && secured_->kernel) {
    return receive_control();
  } else if (secured_ && secured_->kernel && no_record(-result)) {
    secured_->kernel->rejected(-result);
    return records_failed();
  } else if (result != -ECANCELED) {
    if (result < 0) return fail(-result);
    if (secured_ && !secured_->ended && !ending_) return fail(EPROTO);
    const bool known = ended_;  // a record had said so
    ended_ = true;
    if (failed_) return;  // the send had found it out, and told
    if (!ending_ && !known) return owner_->stream_ended(0);
    // It may still read: what is queued goes first, then flush() closes.
    if (shut_) return close();
  }
  arm();
}

// ---------------------------------------------------------------------------------------------
// Records.

void Stream::open_records(const ring::Slice& data) {
  // The kernel has filled it, and it is in nobody else's hands yet.
  char* const begin = const_cast<char*>(data.data());
  std::span<char> wire(begin, data.size());
  // What records hold lies apart, by their headers and tags. Small ones are moved together: a peer that sends
  // an octet a record would else have the owner keep, and look at, thousands of pieces.
  char* joined = begin;
  std::size_t size = 0;
  const auto deliver = [&] {
    if (size > 0) owner_->stream_received(data.part(joined, std::exchange(size, 0)));
    return !closing_ && !ending_ && !failed_;
  };
  for (;;) {
    const UserRecords::Opened opened = secured_->user->open(wire);
    switch (opened.event) {
      case UserRecords::Event::want_input:
        static_cast<void>(deliver());
        return;
      case UserRecords::Event::data: {
        const std::string_view content = opened.data;
        const bool within = content.data() >= begin && content.data() < begin + data.size();
        if (within && size > 0 && content.size() <= memory_.text.block_size()) {
          join(joined + size, content);
          size += content.size();
          break;
        }
        if (!deliver()) return;
        if (within) {
          joined = begin + (content.data() - begin);
          size = content.size();
        } else {
          deliver_copy(content);
          if (closing_ || ending_ || failed_) return;
        }
        break;
      }
      case UserRecords::Event::end:
        if (!deliver()) return;
        secured_->ended = ended_ = true;
        return owner_->stream_ended(0);
      case UserRecords::Event::failed:
        if (!deliver()) return;
        return records_failed();
    }
  }
}

// A record that came in pieces.
void Stream::deliver_copy(std::string_view bytes) {
  ring::BlockPool& large = memory_.receive.pool();
  while (!bytes.empty() && !closing_ && !ending_) {
    const bool much = bytes.size() > memory_.text.block_size();
    ring::Slice copy = (much ? large : memory_.text).copy(bytes);
    if (!copy) copy = (much ? memory_.text : large).copy(bytes);
    if (!copy) return fail(ENOBUFS);
    owner_->stream_received(std::move(copy));
  }
}

// The peer should hear why, if that can still be said; it is not worth waiting for.
void Stream::records_failed() {
  if (!send_.pending()) {
    Secured& s = *secured_;
    if (s.user && s.sealed.empty()) {
      std::array<char, 128> record;
      const std::size_t n = s.user->seal_end(record);
      [[maybe_unused]] const auto sent = ::send(fd_, record.data(), n, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (s.kernel) {
      s.kernel->end();
      // The kernel reports a record that it can't open once more, to whoever sends next.
      int reported = 0;
      socklen_t size = sizeof reported;
      getsockopt(fd_, SOL_SOCKET, SO_ERROR, &reported, &size);
      if (s.prepare_due()) {
        [[maybe_unused]] const auto sent = ::sendmsg(fd_, &s.out.message, MSG_DONTWAIT | MSG_NOSIGNAL);
      }
    }
  }
  fail(EBADMSG);
}

void Stream::receive_control() {
  if (!wanted_ && !ending_) return;  // it stays in the kernel, and is met again
  Secured& s = *secured_;
  s.in.prepare(s.content.data(), s.content.size());
  s.receiving = true;
  reactor_.receive_message(receive_, fd_, s.in.message);
}

void Stream::on_control(int result) {
  if (closing_) return finish_if_idle();
  Secured& s = *secured_;
  if (no_record(-result)) {
    s.kernel->rejected(-result);
    return records_failed();
  }
  if (result < 0 && result != -ECANCELED) return fail(-result);
  if (result > 0) {
    const std::string_view content(s.content.data(), static_cast<std::size_t>(result));
    const std::uint8_t type = s.in.type();
    if (type == ControlMessage::application_data) {
      if (!ending_) deliver_copy(content);
    } else {
      switch (s.kernel->received(type, content)) {
        case KernelRecords::Event::none:
          reactor_.defer(flush_);  // an answer may be due
          break;
        case KernelRecords::Event::end:
          s.ended = ended_ = true;
          if (!ending_) return owner_->stream_ended(0);
          if (shut_) return close();
          break;
        case KernelRecords::Event::failed:
          return records_failed();
      }
    }
  }
  arm();
}

// Makes records of what is queued. False: there is no memory for a single one.
bool Stream::seal() {
  Secured& s = *secured_;
  std::size_t waiting = 0;
  for (const ring::Slice& slice : s.sealed) waiting += slice.size();
  while (!queue_.empty() && waiting < most_sealed) {
    std::array<std::string_view, 64> pieces;
    std::size_t n = 0;
    std::size_t size = 0;
    for (; n < std::min(queue_.size(), pieces.size()); ++n) {
      pieces[n] = {queue_[n].data(), queue_[n].size()};
      size += pieces[n].size();
    }
    const bool large = size + seal_overhead > memory_.text.block_size() && memory_.records != nullptr &&
                       memory_.records->blocks_free() > 0;
    ring::BlockPool& pool = large ? *memory_.records : memory_.text;
    ring::Slice out = pool.allocate();
    if (!out) return !s.sealed.empty();
    const UserRecords::Sealed sealed =
        s.user->seal({pieces.data(), n}, {const_cast<char*>(out.data()), pool.block_size()});
    drop_front(queue_, sealed.taken);
    out.extend(static_cast<std::uint32_t>(sealed.written));
    unsent_ += sealed.written;
    waiting += sealed.written;
    s.sealed.push_back(std::move(out));
  }
  return true;
}

// The kernel has to send a record that is no data. False: there is none.
bool Stream::send_due() {
  Secured& s = *secured_;
  if (!s.prepare_due()) return false;
  s.sending = true;
  reactor_.send_message(send_, fd_, s.out.message);
  return true;
}

SliceQueue& Stream::outgoing() noexcept {
  return secured_ && secured_->user ? secured_->sealed : queue_;
}

// ---------------------------------------------------------------------------------------------
// Sending.

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
  if (quiescing_ && !receive_.pending() && !closing_) {
    quiescing_ = false;
    owner_->stream_quiet();
  }
  if (send_.pending() || closing_) return;
  if (secured_ && secured_->user && !failed_ && !seal()) starved_ = true;
  if (starved_) return fail(ENOBUFS);
  if (secured_ && secured_->kernel && send_due()) return;
  SliceQueue& queue = outgoing();
  if (queue.empty()) {
    text_ = {};
    if (!ending_ || shut_) return;
    if (secured_ && !std::exchange(secured_->end_sealed, true)) {
      if (secured_->kernel) {
        secured_->kernel->end();
        if (send_due()) return;
      } else if (ring::Slice record = memory_.text.allocate()) {
        const std::size_t n =
            secured_->user->seal_end({const_cast<char*>(record.data()), memory_.text.block_size()});
        record.extend(static_cast<std::uint32_t>(n));
        unsent_ += n;
        queue.push_back(std::move(record));
      }
    }
    if (queue.empty()) {
      shut_ = true;
      // The ring would hand a shutdown to a worker thread, and there it may meet the next user of
      // the descriptor; the call itself never waits.
      ::shutdown(fd_, SHUT_WR);
      if (ended_) return close();
      wanted_ = true;
      return arm();
    }
  }
  if (queue.size() == 1) {
    under_way_ = queue.front().size();
    reactor_.send(send_, fd_, queue.front().data(), queue.front().size());
    return;
  }
  ring::Reactor::Gather& gather = reactor_.gather();
  const std::size_t n = std::min(queue.size(), gather.vectors.size());
  for (std::size_t i = 0; i < n; ++i) {
    gather.vectors[i] = {.iov_base = const_cast<char*>(queue[i].data()), .iov_len = queue[i].size()};
    under_way_ += queue[i].size();
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
    return owner_->stream_connected();
  }
  if (secured_ && std::exchange(secured_->sending, false)) {
    if (!secured_->kernel->sent()) return fail(EBADMSG);
    return reactor_.defer(flush_);
  }
  traffic_.sent.add(static_cast<std::size_t>(result));
  drop_front(outgoing(), static_cast<std::size_t>(result));
  reactor_.defer(flush_);
  owner_->stream_sent();
}

void Stream::drop_front(SliceQueue& queue, std::size_t bytes) {
  unsent_ -= bytes;
  while (bytes > 0) {
    ring::Slice& front = queue.front();
    const std::size_t n = std::min<std::size_t>(bytes, front.size());
    front.remove_prefix(n);
    bytes -= n;
    if (!front.empty()) break;
    // Counted as in send(): neighbours of one block are one. Sealed records are not counted.
    if (&queue == &queue_ && is_receive_buffer(front) && (queue.size() == 1 || !front.same_block(queue[1]))) {
      held_ -= front.pool()->block_size();
    }
    queue.pop_front();
  }
}

void Stream::fail(int error) {
  drop_queue();
  if (ending_) return close();
  if (failed_) return;
  ended_ = failed_ = true;
  owner_->stream_ended(error);
}

void Stream::drop_queue() {
  if (send_.pending()) return;  // its slices are the kernel's until the completion
  queue_.clear();
  if (secured_) secured_->sealed.clear();
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
