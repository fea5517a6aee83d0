// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/receive_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <system_error>

#include "ring/reactor.h"

namespace ringmx::ring {

namespace {
std::size_t ring_bytes(std::uint32_t entries) {
  return entries * sizeof(io_uring_buf);
}
}  // namespace

ReceiveBuffers::ReceiveBuffers(Reactor& reactor, std::uint16_t group, std::uint32_t block_size,
                               std::uint32_t offered, std::uint32_t most_offered, std::uint32_t max_blocks)
    : BlockPool(block_size, max_blocks),
      reactor_(reactor),
      group_(group),
      offered_(offered),
      most_offered_(most_offered),
      entries_(std::bit_ceil(max_blocks)) {
  assert(max_blocks <= 32768 && offered <= most_offered && most_offered <= max_blocks);
  void* memory = mmap(nullptr, ring_bytes(entries_), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  ring_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(ring_);
  const int error = reactor_.register_buffer_ring(ring_, entries_, group_);
  if (error != 0) {
    munmap(ring_, ring_bytes(entries_));
    throw std::system_error(-error, std::generic_category(), "IORING_REGISTER_PBUF_RING");
  }
  replenish();
}

ReceiveBuffers::~ReceiveBuffers() {
  reactor_.unregister_buffer_ring(group_);
  munmap(ring_, ring_bytes(entries_));
}

void ReceiveBuffers::replenish() noexcept {
  int added = 0;
  while (in_ring_ < offered_) {
    const std::uint32_t index = take();
    if (index == none) break;
    io_uring_buf_ring_add(ring_, block(index), block_size(), static_cast<unsigned short>(index),
                          io_uring_buf_ring_mask(entries_), added++);
    ++in_ring_;
  }
  if (added == 0) return;
  io_uring_buf_ring_advance(ring_, added);
  if (waiters_ != nullptr) reactor_.defer(wake_);
}

Slice ReceiveBuffers::filled(unsigned cqe_flags, std::uint32_t size) {
  const std::uint32_t index = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
  assert(in_ring_ > 0 && size <= block_size());
  --in_ring_;
  Slice slice(*this, index, block(index), size);
  replenish();
  return slice;
}

void ReceiveBuffers::freed() noexcept {
  if (in_ring_ < offered_) replenish();
}

void ReceiveBuffers::wait(Waiter& waiter) noexcept {
  assert(!waiting(waiter));
  reactor_.statistics().buffer_starvations.add();
  waiter.next_ = nullptr;
  waiter.link_ = waiters_tail_;
  *waiters_tail_ = &waiter;
  waiters_tail_ = &waiter.next_;
  // Were all offered buffers used up, or are they held by sessions? Either way more are offered,
  // if there are more.
  offered_ = std::min(offered_ * 2, most_offered_);
  replenish();
  if (in_ring_ > 0) reactor_.defer(wake_);
}

void ReceiveBuffers::stop_waiting(Waiter& waiter) noexcept {
  if (!waiting(waiter)) return;
  *waiter.link_ = waiter.next_;
  if (waiter.next_ != nullptr) {
    waiter.next_->link_ = waiter.link_;
  } else {
    waiters_tail_ = waiter.link_;
  }
  waiter.link_ = nullptr;
}

void ReceiveBuffers::wake() {
  // As many as there are buffers, first come first served: waking all for one buffer would only
  // make them starve again. A buffer that nobody took after all (its waiter's peer has gone) is
  // offered to the next ones a tick later.
  for (std::uint32_t n = in_ring_; n > 0 && waiters_ != nullptr; --n) {
    Waiter& waiter = *waiters_;
    stop_waiting(waiter);
    waiter.buffers_available();
  }
  if (waiters_ != nullptr) reactor_.timers().set(wake_later_, reactor_.now() + TimerWheel::tick);
}

}  // namespace ringmx::ring
