// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <liburing.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "ring/counter.h"
#include "ring/deferred.h"
#include "ring/operation.h"
#include "ring/timer_wheel.h"

namespace ringmx::ring {

struct ReactorOptions {
  unsigned submission_entries = 512;
  unsigned completion_entries = 8192;
};

// One thread's event loop: an io_uring, the deadlines and the deferred work of everything that
// lives on this thread. All methods are for that thread only; others speak to it through a Messenger.
//
// A turn of the loop: run what was deferred (flushes become submissions), submit and wait in one
// system call until a completion or the next deadline, hand every completion to its operation,
// fire deadlines. So whatever a batch of completions causes leaves in one batch.
class Reactor {
 public:
  // Throws std::system_error if the ring can't be had; check probe() first, it says why in words.
  // The reactor belongs to the thread that makes it (IORING_SETUP_SINGLE_ISSUER).
  // `statistics` outlives it; others may read them.
  explicit Reactor(ReactorStatistics& statistics, const ReactorOptions& options = {});
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Runs until stop(). Operations that are pending then stay so until the reactor is destroyed.
  void run();
  // The loop ends after the running turn.
  void stop() noexcept { stopped_ = true; }

  // The time at which this turn began.
  [[nodiscard]] Time now() const noexcept { return now_; }
  [[nodiscard]] TimerWheel& timers() noexcept { return timers_; }
  void defer(Deferred& deferred) noexcept;
  // An exchange is a dialogue whose next completion is due soon. While many are under way, the loop
  // waits for several completions at once, for a moment.
  void exchange_begins() noexcept { ++exchanges_; }
  void exchange_ends() noexcept { --exchanges_; }

  // Operations. Each must not be pending; data must stay until the completion.
  void accept_multishot(Operation& op, int listening_fd);
  void receive_multishot(Operation& op, int fd, std::uint16_t buffer_group);
  // Once, into one buffer; `most` octets of it, 0: all.
  void receive(Operation& op, int fd, std::uint16_t buffer_group, std::uint32_t most = 0);
  // `message` stays until the completion: the kernel writes into it.
  void receive_message(Operation& op, int fd, msghdr& message);
  void send(Operation& op, int fd, const void* data, std::size_t size);
  void send_message(Operation& op, int fd, const msghdr& message);
  void connect(Operation& op, int fd, const sockaddr* address, socklen_t length);
  // Completes at `time` (CLOCK_MONOTONIC), for what can't be as late as a timer of timers() may be.
  // `time` is read when it is submitted.
  void wake_at(Operation& op, const __kernel_timespec& time);

  // Asks for the end of a pending operation; its last completion still comes (-ECANCELED, or a
  // result that was faster).
  void cancel(Operation& op);
  // Closes a descriptor. Nothing may be pending on it: an armed receive would keep the file, and
  // the peer would see no FIN.
  void close(int fd);

  // A msghdr with room for `capacity` iovecs that lives until the next submission, which is as long
  // as the kernel reads it (IORING_FEAT_SUBMIT_STABLE).
  struct Gather {
    static constexpr std::size_t capacity = 64;
    msghdr message;
    std::array<iovec, capacity> vectors;
  };
  [[nodiscard]] Gather& gather();

  // Used by ReceiveBuffers. 0 or -errno.
  [[nodiscard]] int register_buffer_ring(io_uring_buf_ring* ring, std::uint32_t entries,
                                         std::uint16_t group) noexcept;
  void unregister_buffer_ring(std::uint16_t group) noexcept;

  [[nodiscard]] ReactorStatistics& statistics() noexcept { return statistics_; }
  // Where a Messenger sends to.
  [[nodiscard]] int ring_fd() const noexcept { return ring_.ring_fd; }
  // Messages of other threads arrive here, as numbers of the sender's choice.
  using MessageHandler = void (*)(void* context, unsigned message);
  void on_message(MessageHandler handler, void* context) noexcept {
    message_handler_ = handler;
    message_context_ = context;
  }

 private:
  static constexpr std::size_t gathers = 64;
  io_uring_sqe& sqe();
  io_uring_sqe& start(Operation& op);
  void submit();
  void run_deferred();
  [[nodiscard]] unsigned worth_waiting_for() noexcept;
  void wait();
  void complete_all();

  io_uring ring_{};
  unsigned enter_flags_ = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
  unsigned exchanges_ = 0;
  unsigned pause_ = 0;       // so many waits for one completion follow a wait that gathered nothing
  unsigned pause_left_ = 0;  // of them
  bool stopped_ = false;
  Time now_;
  TimerWheel timers_;
  Deferred* deferred_ = nullptr;
  Deferred** deferred_tail_ = &deferred_;
  std::unique_ptr<std::array<Gather, gathers>> gathers_;
  std::size_t gathers_used_ = 0;
  ReactorStatistics& statistics_;
  MessageHandler message_handler_ = nullptr;
  void* message_context_ = nullptr;
};

}  // namespace ringmx::ring
