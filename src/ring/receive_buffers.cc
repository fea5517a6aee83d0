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

void ReceivePool::freed() noexcept {
  for (ReceiveBuffers* ring : rings_) {
    if (ring->in_ring_ < ring->offered_) return ring->replenish();
  }
}

ReceiveBuffers::ReceiveBuffers(Reactor& reactor, ReceivePool& pool, std::uint16_t group,
                               std::uint32_t offered, std::uint32_t most_offered)
    : reactor_(reactor),
      pool_(pool),
      group_(group),
      offered_(offered),
      most_offered_(most_offered),
      entries_(std::bit_ceil(most_offered)) {
  assert(pool.blocks() <= 65536 && offered <= most_offered && most_offered <= 32768);
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
  pool_.rings_.push_back(this);
  replenish();
}

ReceiveBuffers::~ReceiveBuffers() {
  std::erase(pool_.rings_, this);
  pool_.in_rings_ -= in_ring_;
  reactor_.unregister_buffer_ring(group_);
  munmap(ring_, ring_bytes(entries_));
}

void ReceiveBuffers::replenish() noexcept {
  int added = 0;
  while (in_ring_ < offered_) {
    const std::uint32_t index = pool_.take();
    if (index == ReceivePool::none) break;
    io_uring_buf_ring_add(ring_, pool_.block(index), pool_.block_size(), static_cast<unsigned short>(index),
                          io_uring_buf_ring_mask(entries_), added++);
    ++in_ring_;
    ++pool_.in_rings_;
  }
  if (added == 0) return;
  io_uring_buf_ring_advance(ring_, added);
  if (waiters_ != nullptr) reactor_.defer(wake_);
}

Slice ReceiveBuffers::filled(unsigned cqe_flags, std::uint32_t size) {
  const std::uint32_t index = cqe_flags >> IORING_CQE_BUFFER_SHIFT;
  assert(in_ring_ > 0 && size <= pool_.block_size());
  --in_ring_;
  --pool_.in_rings_;
  Slice slice(pool_, index, pool_.block(index), size);
  replenish();
  return slice;
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
