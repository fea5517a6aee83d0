// SPDX-License-Identifier: GPL-3.0-or-later
#include "ring/block_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ringmx::ring {
namespace {

constexpr std::uint32_t block_size = 256;

class CountingPool final : public BlockPool {
 public:
  using BlockPool::BlockPool;
  int freed_count = 0;

 private:
  void freed() noexcept override { ++freed_count; }
};

std::string_view text(const Slice& slice) {
  return {slice.data(), slice.size()};
}

// Writes behind the end of a slice whose block nobody else has, as its owner may.
void append(Slice& slice, std::string_view bytes) {
  std::memcpy(const_cast<char*>(slice.data()) + slice.size(), bytes.data(), bytes.size());
  slice.extend(static_cast<std::uint32_t>(bytes.size()));
}

TEST(BlockPool, AllocatesUntilItIsEmpty) {
  CountingPool pool(block_size, 4);
  EXPECT_EQ(pool.block_size(), block_size);
  std::vector<Slice> slices;
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(pool.blocks_free(), 4 - i);
    slices.push_back(pool.allocate());
    EXPECT_TRUE(slices.back());
    EXPECT_TRUE(slices.back().empty());
    EXPECT_EQ(slices.back().pool(), &pool);
    EXPECT_EQ(pool.blocks_in_use(), i + 1);
  }
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(pool.allocate());
  EXPECT_EQ(pool.blocks_in_use(), 4U);
  const char* last = slices[2].data();
  slices.erase(slices.begin() + 2);
  EXPECT_EQ(pool.freed_count, 1);
  EXPECT_EQ(pool.allocate().data(), last);
}

TEST(BlockPool, BlocksAreWholeAndApart) {
  BlockPool pool(block_size, 64);
  std::vector<Slice> slices;
  for (char c = 0; c < 64; ++c) {
    slices.push_back(pool.allocate());
    append(slices.back(), std::string(block_size, c));
  }
  for (char c = 0; c < 64; ++c)
    EXPECT_EQ(text(slices[static_cast<std::size_t>(c)]), std::string(block_size, c));
}

TEST(BlockPool, LastInFirstOut) {
  BlockPool pool(block_size, 1000);
  std::vector<Slice> slices;
  for (int i = 0; i < 3; ++i) slices.push_back(pool.allocate());
  const std::vector<const char*> places = {slices[0].data(), slices[1].data(), slices[2].data()};
  slices[1] = {};
  slices[0] = {};
  slices[2] = {};
  for (const std::size_t i : {2U, 0U, 1U}) {
    slices[i] = pool.allocate();
    EXPECT_EQ(slices[i].data(), places[i]);
  }
  // One at a time stays in one place, however large the pool.
  slices.clear();
  std::set<const char*> used;
  for (int i = 0; i < 1000; ++i) used.insert(pool.allocate().data());
  EXPECT_EQ(used.size(), 1U);
}

TEST(Slice, KeepsItsBlock) {
  CountingPool pool(block_size, 2);
  Slice a = pool.allocate();
  append(a, "hello, world");
  {
    const Slice copy = a;  // NOLINT(performance-unnecessary-copy-initialization): it is what is tested
    const Slice part = a.part(a.data() + 7, 5);
    EXPECT_EQ(text(part), "world");
    EXPECT_TRUE(copy.same_block(a));
    EXPECT_TRUE(part.same_block(a));
    a = {};
    EXPECT_EQ(pool.blocks_in_use(), 1U);
    EXPECT_EQ(text(copy), "hello, world");
    EXPECT_EQ(pool.freed_count, 0);
  }
  EXPECT_EQ(pool.blocks_in_use(), 0U);
  EXPECT_EQ(pool.freed_count, 1);
}

TEST(BlockPool, CopiesAsMuchAsABlockHolds) {
  CountingPool pool(block_size, 2);
  const std::string much = std::string(block_size, 'a') + "rest";
  std::string_view bytes = much;
  const Slice whole = pool.copy(bytes);
  EXPECT_EQ(text(whole), std::string(block_size, 'a'));
  EXPECT_EQ(bytes, "rest");
  const Slice part = pool.copy(bytes);
  EXPECT_EQ(text(part), "rest");
  EXPECT_TRUE(bytes.empty());
  bytes = "no block is left";
  EXPECT_FALSE(pool.copy(bytes));
  EXPECT_EQ(bytes, "no block is left");
  EXPECT_EQ(pool.blocks_in_use(), 2U);
}

TEST(Slice, Moves) {
  CountingPool pool(block_size, 2);
  Slice a = pool.allocate();
  append(a, "abc");
  Slice b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.pool(), nullptr);
  EXPECT_EQ(text(b), "abc");
  Slice c = pool.allocate();
  c = std::move(b);  // lets its own block go
  EXPECT_EQ(pool.blocks_in_use(), 1U);
  EXPECT_EQ(pool.freed_count, 1);
  Slice& same = c;
  c = same;
  EXPECT_EQ(text(c), "abc");
  EXPECT_EQ(pool.blocks_in_use(), 1U);
  c = std::move(same);
  EXPECT_EQ(text(c), "abc");
  std::swap(b, c);
  EXPECT_EQ(text(b), "abc");
  b = Slice();
  EXPECT_EQ(pool.blocks_in_use(), 0U);
}

TEST(Slice, RemovePrefix) {
  BlockPool pool(block_size, 1);
  Slice a = pool.allocate();
  append(a, "abcdef");
  a.remove_prefix(0);
  EXPECT_EQ(text(a), "abcdef");
  a.remove_prefix(4);
  EXPECT_EQ(text(a), "ef");
  EXPECT_EQ(text(a.part(a.data(), 1)), "e");
  EXPECT_TRUE(a.part(a.data() + 2, 0).empty());
  a.remove_prefix(2);
  EXPECT_TRUE(a.empty());
  EXPECT_TRUE(a);  // empty, but it holds its block
  EXPECT_EQ(pool.blocks_in_use(), 1U);
}

TEST(Slice, ConstantsHaveNoBlock) {
  const Slice a("constant", 8);
  EXPECT_TRUE(a);
  EXPECT_EQ(a.pool(), nullptr);
  EXPECT_EQ(text(a.part(a.data() + 3, 5)), "stant");
  Slice b = a;
  b.remove_prefix(3);
  EXPECT_EQ(text(a), "constant");
  BlockPool pool(block_size, 1);
  const Slice c = pool.allocate();
  EXPECT_FALSE(a.same_block(c));
  EXPECT_FALSE(Slice());
}

TEST(Slice, SameBlockTellsBlocksApart) {
  BlockPool one(block_size, 2);
  BlockPool two(block_size, 2);
  const Slice a = one.allocate();
  EXPECT_FALSE(a.same_block(one.allocate()));
  EXPECT_FALSE(a.same_block(two.allocate()));
  EXPECT_TRUE(a.same_block(a.part(a.data(), 0)));
}

TEST(BlockPool, AgreesWithAModel) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  constexpr std::uint32_t blocks = 16;
  struct Held {
    Slice slice;
    std::string bytes;  // what it must say
    const char* block;
  };
  CountingPool pool(block_size, blocks);
  std::vector<Held> held;
  const auto blocks_held = [&] {
    std::set<const char*> found;
    for (const Held& h : held) found.insert(h.block);
    return found;
  };
  int freed = 0;
  std::set<const char*> before;
  for (int step = 0; step < 100'000; ++step) {
    const std::size_t i = held.empty() ? 0 : random() % held.size();
    switch (held.empty() ? 0 : random() % 8) {
      case 0:
      case 1: {
        Slice slice = pool.allocate();
        ASSERT_EQ(static_cast<bool>(slice), before.size() < blocks);
        if (!slice) break;
        ASSERT_FALSE(before.contains(slice.data()));
        const std::string bytes(1 + random() % block_size, static_cast<char>(random()));
        append(slice, bytes);
        held.push_back({slice, bytes, slice.data()});
        break;
      }
      case 2:
        held.push_back(Held(held[i]));
        break;
      case 3: {
        const auto& [slice, bytes, block] = held[i];
        const std::size_t from = random() % bytes.size();
        const std::size_t size = 1 + random() % (bytes.size() - from);
        held.push_back({slice.part(slice.data() + from, size), bytes.substr(from, size), block});
        break;
      }
      case 4: {
        const std::size_t n = random() % held[i].bytes.size();
        held[i].slice.remove_prefix(n);
        held[i].bytes.erase(0, n);
        break;
      }
      default:
        std::swap(held[i], held.back());
        held.pop_back();
        break;
    }
    if (held.size() > 3 * blocks) held.erase(held.begin(), held.begin() + 2 * blocks);
    const std::set<const char*> after = blocks_held();
    ASSERT_EQ(pool.blocks_in_use(), after.size());
    for (const char* block : before) freed += after.contains(block) ? 0 : 1;
    ASSERT_EQ(pool.freed_count, freed);
    for (const Held& h : held) ASSERT_EQ(text(h.slice), h.bytes);
    before = after;
  }
  EXPECT_GT(freed, 100);
  held.clear();
  EXPECT_EQ(pool.blocks_free(), blocks);
}

}  // namespace
}  // namespace ringmx::ring
