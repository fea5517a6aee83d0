// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <liburing.h>

#include <cstdint>
#include <vector>

#include "ring/block_pool.h"
#include "ring/deferred.h"
#include "ring/timer_wheel.h"

namespace ringmx::ring {

class Reactor;

class ReceiveBuffers;

// The memory of one or more ReceiveBuffers.
class ReceivePool final : public BlockPool {
 public:
  // max_blocks <= 65536: the kernel knows a buffer by a number of 16 bits.
  ReceivePool(std::uint32_t block_size, std::uint32_t max_blocks) : BlockPool(block_size, max_blocks) {}
  // Blocks that were filled and not given back yet.
  [[nodiscard]] std::uint32_t held() const noexcept { return blocks_in_use() - in_rings_; }

 private:
  friend class ReceiveBuffers;
  void freed() noexcept override;

  std::uint32_t in_rings_ = 0;
  std::vector<ReceiveBuffers*> rings_;
};

// Buffers that the kernel fills: a provided buffer ring (IORING_REGISTER_PBUF_RING) in front of a
// pool. A reactor may have several of one pool, for receives of several kinds (groups).
//
// Only `offered` blocks stand in the ring at a time. The kernel takes them in turn, so the working
// set is what is offered, not what there may be: a receive ring that outgrows the cache makes bulk
// mail a quarter dearer. When the kernel runs dry in one batch (-ENOBUFS), twice as many are offered
// from then on, up to `most_offered`. Running dry is an ordinary event: whoever was hit waits here and is
// told to arm its receive again once there is a buffer. A block that comes back goes to the first
// ring that lacks one, in the order in which they were made.
class ReceiveBuffers final {
 public:
  // Someone whose receive ended with -ENOBUFS.
  class Waiter {
   public:
    virtual ~Waiter() = default;
    virtual void buffers_available() = 0;

   private:
    friend class ReceiveBuffers;
    Waiter* next_ = nullptr;
    Waiter** link_ = nullptr;
  };

  // offered <= most_offered <= 32768; all rings of a pool together offer no more than it has blocks.
  ReceiveBuffers(Reactor& reactor, ReceivePool& pool, std::uint16_t group, std::uint32_t offered,
                 std::uint32_t most_offered);
  ~ReceiveBuffers();
  ReceiveBuffers(const ReceiveBuffers&) = delete;
  ReceiveBuffers& operator=(const ReceiveBuffers&) = delete;

  [[nodiscard]] ReceivePool& pool() const noexcept { return pool_; }
  [[nodiscard]] std::uint16_t group() const noexcept { return group_; }
  // The buffer that a completion with IORING_CQE_F_BUFFER filled with `size` bytes. Every such
  // completion has to come here exactly once, whatever becomes of its bytes.
  [[nodiscard]] Slice filled(unsigned cqe_flags, std::uint32_t size);

  void wait(Waiter& waiter) noexcept;
  void stop_waiting(Waiter& waiter) noexcept;
  [[nodiscard]] static bool waiting(const Waiter& waiter) noexcept { return waiter.link_ != nullptr; }
  [[nodiscard]] std::uint32_t offered() const noexcept { return offered_; }

 private:
  friend class ReceivePool;
  void replenish() noexcept;
  void wake();

  Reactor& reactor_;
  ReceivePool& pool_;
  std::uint16_t group_;
  std::uint32_t offered_;
  std::uint32_t most_offered_;
  std::uint32_t entries_;  // of the ring: a power of two
  std::uint32_t in_ring_ = 0;
  io_uring_buf_ring* ring_ = nullptr;
  Waiter* waiters_ = nullptr;
  Waiter** waiters_tail_ = &waiters_;
  DeferredOf<&ReceiveBuffers::wake> wake_{*this};
  TimerOf<&ReceiveBuffers::wake> wake_later_{*this};
};

}  // namespace ringmx::ring
