// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/block_pool.h"

#include <sys/mman.h>

#include <new>

namespace ringmx::ring {

BlockPool::BlockPool(std::uint32_t block_size, std::uint32_t max_blocks)
    // Blocks a power of two apart would all begin in the same few cache sets, and most of what
    // arrives is shorter than a line of cache or two.
    : block_size_(block_size), stride_(block_size + 64), max_blocks_(max_blocks), references_(max_blocks, 0) {
  const std::size_t bytes = static_cast<std::size_t>(stride_) * max_blocks_;
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  free_.reserve(max_blocks_);
}

BlockPool::~BlockPool() {
  munmap(memory_, static_cast<std::size_t>(stride_) * max_blocks_);
}

std::uint32_t BlockPool::take() noexcept {
  std::uint32_t index = none;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else if (untouched_ < max_blocks_) {
    index = untouched_++;
  } else {
    return none;
  }
  references_[index] = 1;
  ++in_use_;
  return index;
}

void BlockPool::give_back(std::uint32_t index) noexcept {
  free_.push_back(index);
  --in_use_;
  freed();
}

Slice BlockPool::allocate() {
  const std::uint32_t index = take();
  return index == none ? Slice() : Slice(*this, index, block(index), 0);
}

Slice BlockPool::copy(std::string_view& bytes) {
  const std::uint32_t index = take();
  if (index == none) return {};
  const std::size_t n = bytes.copy(block(index), block_size_);
  bytes.remove_prefix(n);
  return {*this, index, block(index), static_cast<std::uint32_t>(n)};
}

}  // namespace ringmx::ring
