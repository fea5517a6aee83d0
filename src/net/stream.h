// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "net/address.h"
#include "net/records.h"
#include "net/slice_queue.h"
#include "ring/reactor.h"
#include "ring/receive_buffers.h"

namespace ringmx::net {

// The memory that the streams of one reactor share.
struct StreamMemory {
  ring::ReceiveBuffers& receive;  // what the kernel fills
  // Likewise, for a peer that sends faster than it is read; of the same pool, and may be the same.
  ring::ReceiveBuffers& bulk;
  ring::BlockPool& text;  // small blocks for bytes that ringmx itself puts together
  // For records of much that are sealed in user space, a whole record to a block; null, or none left:
  // text blocks are taken.
  ring::BlockPool* records = nullptr;

  // Half of the receive buffers is for what waits: this is what is left of that half, in bytes. The
  // other half comes back as soon as it was read, so there is always one to receive into.
  [[nodiscard]] std::size_t spare() const noexcept {
    const ring::ReceivePool& pool = receive.pool();
    const std::size_t half = pool.blocks() / 2;
    return pool.held() < half ? (half - pool.held()) * pool.block_size() : 0;
  }
  // Nothing is left. Then a stream receives no more at a time than a text block holds, and who
  // can't use it at once has to copy it there.
  [[nodiscard]] bool scarce() const noexcept { return spare() == 0; }
};

// Where their bytes are counted.
struct StreamTraffic {
  ring::Counter& received;
  ring::Counter& sent;
};

// One connected stream socket on a reactor: slices in, slices out, never a copy of what passes
// through. Idle, it holds no buffer.
//
// Receiving: one multishot receive, armed while the owner wants data. When it fills a whole buffer,
// or the owner has had to pause, more has piled up in the kernel: a multishot receive would gulp all
// of it, which may be every buffer there is. Then the peer is read one bulk buffer at a time, until
// little comes; or a text block's worth at a time while memory is scarce. Sending: slices are queued
// and leave together at the end of the running batch of completions, at most one send under way.
// Protected: secure() puts a record layer (TLS) between the stream and the wire; the owner goes on as
// before. Ending: close() may be called at any time, from any callback; the descriptor is closed after the
// kernel's last completion, then Owner::stream_closed() says that the stream may be destroyed.
class Stream final : private ring::ReceiveBuffers::Waiter {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // Bytes of the peer. After pause() what was under way may still come.
    virtual void stream_received(ring::Slice data) = 0;
    // Nothing more will come: 0 after the peer's end of stream (one can still send), else an errno
    // of connecting, receiving or sending (one can't). An error may follow a 0. Of a secured stream:
    // EPROTO if it ended without saying so in a record, EBADMSG if a record made no sense.
    virtual void stream_ended(int error) = 0;
    // connect() has succeeded.
    virtual void stream_connected() {}
    // After quiesce().
    virtual void stream_quiet() {}
    // The peer's system took bytes; the queue may be empty now.
    virtual void stream_sent() = 0;
    // After close(), or after end() when the peer was done too.
    virtual void stream_closed() = 0;
  };

  Stream(ring::Reactor& reactor, StreamMemory memory, StreamTraffic traffic, Owner& owner) noexcept;
  ~Stream() override;

  // Takes over a connected socket. Receiving starts with resume().
  void open(int fd) noexcept { fd_ = fd; }
  // Takes over a socket and connects it. `address` stays until the owner is told how it went.
  void connect(int fd, const Address& address);
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0 && !closing_; }

  void pause();
  void resume();
  [[nodiscard]] bool receiving() const noexcept { return wanted_; }
  // Receives once, `most` octets at most: what follows stays in the kernel, for whoever reads it then.
  void receive_at_most(std::uint32_t most);
  // Stops receiving, and tells the owner when nothing that was under way can come any more.
  void quiesce();

  // Another one hears what happens from now on.
  void set_owner(Owner& owner) noexcept { owner_ = &owner; }
  // From here on all bytes travel in records. Nothing may be under way or queued: before, quiesce()
  // or receive_at_most(), and unsent() is 0.
  void secure(std::unique_ptr<UserRecords> records);
  void secure(std::unique_ptr<KernelRecords> records);
  [[nodiscard]] int fd() const noexcept { return fd_; }

  // Queues bytes for sending. Ignored after end() and close().
  void send(ring::Slice slice);
  void send_constant(std::string_view bytes) { send(ring::Slice(bytes.data(), bytes.size())); }
  void send_copy(std::string_view bytes);
  [[nodiscard]] std::size_t unsent() const noexcept { return unsent_; }
  // How many of these the kernel has not even been given, so that the peer can't know them.
  [[nodiscard]] std::size_t unsubmitted() const noexcept { return unsent_ - under_way_; }
  // Bytes of receive buffers that the queue keeps from being filled again, whole buffers.
  [[nodiscard]] std::size_t held() const noexcept { return held_; }

  // Sends what is queued, then the end of stream, drops what the peer still sends, and closes when
  // the peer ends its side: so the last reply is read, and not lost in a reset. The owner sets a
  // deadline of its own and calls close() then.
  void end();
  // Closes at once; what is queued is dropped.
  void close();

 private:
  static constexpr std::uint32_t discard_limit =
      1024 * 1024;  // bytes dropped after end() before it closes anyway

  // What only a secured stream needs.
  struct Secured;

  [[nodiscard]] bool is_receive_buffer(const ring::Slice& slice) const noexcept {
    return slice.pool() != nullptr && slice.pool() != &memory_.text;
  }
  [[nodiscard]] SliceQueue& outgoing() noexcept;
  [[nodiscard]] ring::ReceiveBuffers& armed_buffers() const noexcept {
    return bulk_armed_ ? memory_.bulk : memory_.receive;
  }
  void arm();
  void stop_receiving();
  void open_records(const ring::Slice& data);
  void deliver_copy(std::string_view bytes);
  void receive_control();
  void on_control(int result);
  bool seal();
  bool send_due();
  void records_failed();
  void drop_front(SliceQueue& queue, std::size_t bytes);
  void flush();
  void drop_queue();
  void fail(int error);
  void finish_if_idle();
  void on_receive(int result, unsigned flags);
  void on_send(int result, unsigned flags);
  void on_closed() { owner_->stream_closed(); }
  void buffers_available() override;

  ring::Reactor& reactor_;
  StreamMemory memory_;
  StreamTraffic traffic_;
  Owner* owner_;
  int fd_ = -1;
  bool wanted_ : 1 = false;     // the owner wants data
  bool ended_ : 1 = false;      // the receive side is over
  bool ending_ : 1 = false;     // end() was called
  bool shut_ : 1 = false;       // the end of stream was sent
  bool closing_ : 1 = false;    // close() was called
  bool failed_ : 1 = false;     // an error was reported
  bool canceling_ : 1 = false;  // a cancel of the receive is under way
  bool connecting_ : 1 = false;
  bool bulk_ : 1 = false;        // one bulk buffer at a time
  bool bulk_armed_ : 1 = false;  // the receive under way is for one
  bool starved_ : 1 = false;     // there was no text block for something to be sent
  bool quiescing_ : 1 = false;
  std::uint32_t most_ = 0;  // receive_at_most(); 0: any
  std::uint32_t discarded_ = 0;
  std::size_t unsent_ = 0;
  std::size_t under_way_ = 0;  // bytes of the send that is pending
  std::size_t held_ = 0;
  SliceQueue queue_;
  ring::Slice text_;  // the block that send_copy() fills; always a part of it is queued
  std::unique_ptr<Secured> secured_;
  ring::OperationOf<&Stream::on_receive> receive_{*this};
  ring::OperationOf<&Stream::on_send> send_{*this};
  ring::DeferredOf<&Stream::flush> flush_{*this};
  ring::DeferredOf<&Stream::on_closed> closed_{*this};
};

}  // namespace ringmx::net
