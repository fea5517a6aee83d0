// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/reactor.h"

#include <algorithm>
#include <system_error>

#include "ring/messenger.h"
#include "ring/probe.h"

namespace ringmx::ring {

namespace {

Time clock_now() {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

// user_data is the address of the operation, or one of these. Addresses are even.
constexpr std::uint64_t nobody = 0;

// A wait for several completions takes no longer than this for their sake, and asks for this part of what
// is due. See Reactor::wait().
constexpr std::uint32_t gathering_us = 100;
constexpr unsigned gathering_part = 4;
constexpr unsigned longest_pause = 64;  // waits for one, after waits for several that were of no use

// io_uring_getevents_arg, the third of which has no name yet in liburing 2.3.
struct WaitArgument {
  std::uint64_t sigmask;
  std::uint32_t sigmask_size;
  std::uint32_t min_wait_us;
  std::uint64_t timeout;
};
static_assert(sizeof(WaitArgument) == sizeof(io_uring_getevents_arg));

}  // namespace

Reactor::Reactor(ReactorStatistics& statistics, const ReactorOptions& options)
    : now_(clock_now()),
      timers_(now_),
      gathers_(std::make_unique_for_overwrite<std::array<Gather, gathers>>()),
      statistics_(statistics) {
  io_uring_params params{};
  params.flags = setup_flags | IORING_SETUP_CQSIZE;
  params.cq_entries = options.completion_entries;
  const int error = io_uring_queue_init_params(options.submission_entries, &ring_, &params);
  if (error != 0) throw std::system_error(-error, std::generic_category(), "io_uring_setup");
  // One registered descriptor saves the look-up of the ring in every enter; without it all works.
  if (io_uring_register_ring_fd(&ring_) == 1) enter_flags_ |= IORING_ENTER_REGISTERED_RING;
}

Reactor::~Reactor() {
  io_uring_queue_exit(&ring_);
}

io_uring_sqe& Reactor::sqe() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    submit();
    entry = io_uring_get_sqe(&ring_);
  }
  return *entry;
}

io_uring_sqe& Reactor::start(Operation& op) {
  assert(!op.pending_);
  io_uring_sqe& entry = sqe();
  op.pending_ = true;
  io_uring_sqe_set_data(&entry, &op);  // the io_uring_prep functions leave it as it is
  return entry;
}

void Reactor::submit() {
  const int n = io_uring_submit(&ring_);
  if (n < 0 && n != -EBUSY && n != -EAGAIN && n != -EINTR) {
    throw std::system_error(-n, std::generic_category(), "io_uring_enter");
  }
  if (n > 0) statistics_.submissions.add(static_cast<unsigned>(n));
  if (io_uring_sq_ready(&ring_) == 0) gathers_used_ = 0;
}

void Reactor::accept_multishot(Operation& op, int listening_fd) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_multishot_accept(&entry, listening_fd, nullptr, nullptr, SOCK_CLOEXEC);
}

void Reactor::receive_multishot(Operation& op, int fd, std::uint16_t buffer_group) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_recv_multishot(&entry, fd, nullptr, 0, 0);
  entry.flags |= IOSQE_BUFFER_SELECT;
  entry.buf_group = buffer_group;
}

void Reactor::receive(Operation& op, int fd, std::uint16_t buffer_group, std::uint32_t most) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_recv(&entry, fd, nullptr, most, 0);
  entry.flags |= IOSQE_BUFFER_SELECT;
  entry.buf_group = buffer_group;
}

void Reactor::receive_message(Operation& op, int fd, msghdr& message) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_recvmsg(&entry, fd, &message, 0);
}

void Reactor::send(Operation& op, int fd, const void* data, std::size_t size) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_send(&entry, fd, data, size, MSG_NOSIGNAL);
}

void Reactor::send_message(Operation& op, int fd, const msghdr& message) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_sendmsg(&entry, fd, &message, MSG_NOSIGNAL);
}

void Reactor::connect(Operation& op, int fd, const sockaddr* address, socklen_t length) {
  io_uring_sqe& entry = start(op);
  io_uring_prep_connect(&entry, fd, address, length);
}

void Reactor::wake_at(Operation& op, const __kernel_timespec& time) {
  io_uring_sqe& entry = start(op);
  // It counts no other completions (0), so it ends by time or by cancel() alone.
  io_uring_prep_timeout(&entry, const_cast<__kernel_timespec*>(&time), 0, IORING_TIMEOUT_ABS);
}

void Reactor::cancel(Operation& op) {
  assert(op.pending_);
  io_uring_sqe& entry = sqe();
  io_uring_prep_cancel(&entry, &op, 0);
  entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
  io_uring_sqe_set_data64(&entry, nobody);
}

void Reactor::close(int fd) {
  io_uring_sqe& entry = sqe();
  io_uring_prep_close(&entry, fd);
  entry.flags |= IOSQE_CQE_SKIP_SUCCESS;
  io_uring_sqe_set_data64(&entry, nobody);
}

Reactor::Gather& Reactor::gather() {
  // The entry that will use it must still fit before the next submission. The kernel may be short of
  // memory for a moment and take none: as sqe() does, ask again.
  while (gathers_used_ == gathers || io_uring_sq_space_left(&ring_) == 0) submit();
  return (*gathers_)[gathers_used_++];
}

int Reactor::register_buffer_ring(io_uring_buf_ring* ring, std::uint32_t entries,
                                  std::uint16_t group) noexcept {
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uint64_t>(ring);
  registration.ring_entries = entries;
  registration.bgid = group;
  return io_uring_register_buf_ring(&ring_, &registration, 0);
}

void Reactor::unregister_buffer_ring(std::uint16_t group) noexcept {
  io_uring_unregister_buf_ring(&ring_, group);
}

void Reactor::defer(Deferred& deferred) noexcept {
  if (deferred.scheduled_) return;
  deferred.scheduled_ = true;
  deferred.next_ = nullptr;
  *deferred_tail_ = &deferred;
  deferred_tail_ = &deferred.next_;
}

void Reactor::run_deferred() {
  while (deferred_ != nullptr) {
    Deferred& deferred = *deferred_;
    deferred_ = deferred.next_;
    if (deferred_ == nullptr) deferred_tail_ = &deferred_;
    deferred.scheduled_ = false;
    deferred.handler_(deferred);  // may delete it
  }
}

// A thread that is woken for each completion pays for it with a switch, and often with a message to the
// other core for what it then sends. Where many exchanges are under way the next completions are close:
// the wait asks for a quarter of them, and takes what there is after gathering_us; if there was nothing
// yet, the first one ends it, so in quiet times nobody waits for others. A lone exchange never does.
// Sends end while they are submitted, as a rule; that enter waits for nothing, and the next one gathers.
unsigned Reactor::worth_waiting_for() noexcept {
  if ((ring_.features & feature_min_wait) == 0) return 1;
  if (exchanges_ < 2 * gathering_part || io_uring_sq_ready(&ring_) > 0 || io_uring_cq_ready(&ring_) > 0)
    return 1;
  if (pause_left_ > 0) {
    --pause_left_;
    return 1;
  }
  return exchanges_ / gathering_part;
}

void Reactor::wait() {
  __kernel_timespec timeout{};
  __kernel_timespec* deadline = nullptr;
  if (const Time next = timers_.next(); next != never) {
    const Duration left = std::max(next - clock_now(), Duration::zero());
    timeout.tv_sec = left.count() / 1000;
    timeout.tv_nsec = left.count() % 1000 * 1'000'000;
    deadline = &timeout;
  }
  int result = 0;
  if (const unsigned several = worth_waiting_for(); several > 1) {
    WaitArgument argument{.sigmask = 0,
                          .sigmask_size = 0,
                          .min_wait_us = gathering_us,
                          .timeout = reinterpret_cast<std::uint64_t>(deadline)};
    // The signal mask's place: with IORING_ENTER_EXT_ARG that of all arguments.
    result = io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), 0, several, enter_flags_,
                             reinterpret_cast<sigset_t*>(&argument), sizeof argument);
    statistics_.enters.add();
    // Most of those under way may be waiting for somebody slow; two can be a single one's, of both sides.
    pause_ = io_uring_cq_ready(&ring_) > 2 ? 0 : std::min(2 * pause_ + 1, longest_pause);
    pause_left_ = pause_;
  } else {
    io_uring_cqe* first = nullptr;
    const unsigned ready = io_uring_sq_ready(&ring_);
    result = io_uring_submit_and_wait_timeout(&ring_, &first, 1, deadline, nullptr);
    statistics_.enters.add();
    // Where it waited, the result tells about the wait; what was submitted is what is gone from the queue.
    const unsigned left = io_uring_sq_ready(&ring_);
    statistics_.submissions.add(ready - left);
    if (left == 0) gathers_used_ = 0;
  }
  if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
    throw std::system_error(-result, std::generic_category(), "io_uring_enter");
  }
}

void Reactor::complete_all() {
  if (io_uring_cq_has_overflow(&ring_)) statistics_.cq_overflows.add();
  unsigned head = 0;
  unsigned seen = 0;
  io_uring_cqe* cqe = nullptr;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++seen;
    const std::uint64_t user_data = io_uring_cqe_get_data64(cqe);
    if (user_data == nobody) continue;
    if (user_data == message_user_data) {
      if (message_handler_ != nullptr) message_handler_(message_context_, static_cast<unsigned>(cqe->res));
      continue;
    }
    auto& op = *reinterpret_cast<Operation*>(user_data);
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) op.pending_ = false;
    op.handler_(op, cqe->res, cqe->flags);
  }
  io_uring_cq_advance(&ring_, seen);
}

void Reactor::run() {
  stopped_ = false;
  while (!stopped_) {
    run_deferred();
    if (stopped_) break;
    wait();
    now_ = clock_now();
    complete_all();
    timers_.advance(now_);
  }
}

}  // namespace ringmx::ring
