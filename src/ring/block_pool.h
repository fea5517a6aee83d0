// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace ringmx::ring {

class Slice;

// Memory blocks of one size, counted by reference, for one reactor.
//
// Address space for `max_blocks` is reserved at once, memory is used from the first touch on. Free
// blocks are handed out last in, first out, so that a quiet reactor stays in a small, warm part.
class BlockPool {
 public:
  // block_size: bytes, a multiple of 64.
  BlockPool(std::uint32_t block_size, std::uint32_t max_blocks);
  virtual ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
  [[nodiscard]] std::uint32_t blocks() const noexcept { return max_blocks_; }
  [[nodiscard]] std::uint32_t blocks_free() const noexcept { return max_blocks_ - in_use_; }
  [[nodiscard]] std::uint32_t blocks_in_use() const noexcept { return in_use_; }
  [[nodiscard]] char* block(std::uint32_t index) const noexcept {
    return memory_ + static_cast<std::size_t>(index) * stride_;
  }
  // A block with one reference, as an empty slice at its start; an invalid slice if there is none.
  [[nodiscard]] Slice allocate();
  // A block that holds the beginning of `bytes`, as much as fits, and takes that off their front; an
  // invalid slice if there is none.
  [[nodiscard]] Slice copy(std::string_view& bytes);

 protected:
  static constexpr std::uint32_t none = UINT32_MAX;
  [[nodiscard]] std::uint32_t take() noexcept;  // one reference; `none` if there is no free block
  virtual void freed() noexcept {}              // a block has become free

 private:
  friend class Slice;
  void add_reference(std::uint32_t index) noexcept { ++references_[index]; }
  void drop_reference(std::uint32_t index) noexcept {
    assert(references_[index] > 0);
    if (--references_[index] == 0) give_back(index);
  }
  void give_back(std::uint32_t index) noexcept;

  std::uint32_t block_size_;
  std::uint32_t stride_;
  std::uint32_t max_blocks_;
  std::uint32_t in_use_ = 0;
  std::uint32_t untouched_ = 0;  // blocks from here on have never been used
  char* memory_ = nullptr;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> references_;
};

// Bytes of a block, and a reference that keeps the block; or constant bytes, which need none.
class Slice {
 public:
  Slice() noexcept = default;
  // Bytes with static storage duration.
  Slice(const char* constant, std::size_t size) noexcept
      : data_(constant), size_(static_cast<std::uint32_t>(size)) {}
  // Takes over one reference to block `index`.
  Slice(BlockPool& pool, std::uint32_t index, const char* data, std::uint32_t size) noexcept
      : pool_(&pool), data_(data), size_(size), index_(index) {}
  Slice(const Slice& o) noexcept : pool_(o.pool_), data_(o.data_), size_(o.size_), index_(o.index_) {
    if (pool_ != nullptr) pool_->add_reference(index_);
  }
  Slice(Slice&& o) noexcept
      : pool_(std::exchange(o.pool_, nullptr)),
        data_(std::exchange(o.data_, nullptr)),
        size_(std::exchange(o.size_, 0)),
        index_(o.index_) {}
  Slice& operator=(Slice o) noexcept {
    std::swap(pool_, o.pool_);
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    std::swap(index_, o.index_);
    return *this;
  }
  ~Slice() {
    if (pool_ != nullptr) pool_->drop_reference(index_);
  }

  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  [[nodiscard]] const char* data() const noexcept { return data_; }
  [[nodiscard]] std::uint32_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] const BlockPool* pool() const noexcept { return pool_; }
  [[nodiscard]] bool same_block(const Slice& o) const noexcept {
    return pool_ == o.pool_ && index_ == o.index_;
  }
  // Overwrites the first n bytes of a block, which nobody else looks at: they are somebody's secret.
  void wipe(std::size_t n) const noexcept {
    assert(pool_ != nullptr && n <= size_);
    ::explicit_bzero(const_cast<char*>(data_), n);
  }
  // The first n bytes are done with.
  void remove_prefix(std::size_t n) noexcept {
    assert(n <= size_);
    data_ += n;
    size_ -= static_cast<std::uint32_t>(n);
  }
  // A part of this slice, with a reference of its own.
  [[nodiscard]] Slice part(const char* data, std::size_t size) const noexcept {
    assert(data >= data_ && data + size <= data_ + size_);
    Slice s(*this);
    s.data_ = data;
    s.size_ = static_cast<std::uint32_t>(size);
    return s;
  }
  // For the owner of a block that it fills piece by piece: n more bytes behind the end are valid.
  void extend(std::uint32_t n) noexcept { size_ += n; }

 private:
  BlockPool* pool_ = nullptr;
  const char* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t index_ = 0;
};

}  // namespace ringmx::ring
