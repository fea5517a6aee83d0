// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/scanner.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

namespace ringmx::smtp {
namespace {

constexpr std::array<char, 5> alphabet = {'\r', '\n', '.', '\0', 'a'};

// The definition once more, on purpose not the one that the kernels share.
std::size_t expected(std::string_view text, char before) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char prev = i == 0 ? before : text[i - 1];
    const bool bare_lf = text[i] == '\n' && prev != '\r';
    const bool behind_bare_cr = text[i] != '\n' && prev == '\r';
    const bool dot = text[i] == '.' && prev == '\n';
    if (bare_lf || behind_bare_cr || dot || text[i] == '\0') return i;
  }
  return text.size();
}

class Kernel : public testing::TestWithParam<ScanKernel> {
 protected:
  void SetUp() override {
    if (!GetParam().supported()) GTEST_SKIP() << "this processor lacks " << GetParam().name;
  }
  static std::size_t find(std::string_view text, char before) { return GetParam().find_mark(text, before); }
};

// Two pages that may be read, with pages around them that may not.
class GuardedPages {
 public:
  GuardedPages() {
    void* p = mmap(nullptr, 4 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(static_cast<char*>(p) + page_, 2 * page_, PROT_READ | PROT_WRITE) != 0) {
      std::abort();
    }
    map_ = static_cast<char*>(p);
  }
  ~GuardedPages() { munmap(map_, 4 * page_); }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;

  char* begin() { return map_ + page_; }
  char* end() { return map_ + 3 * page_; }

 private:
  std::size_t page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  char* map_;
};

TEST(Scanner, KernelsAreListedBestFirstAndScalarLast) {
  const ScanKernels kernels = scan_kernels();
  ASSERT_GT(kernels.count, 0u);
  const ScanKernel& last = kernels.first[kernels.count - 1];
  EXPECT_STREQ(last.name, "scalar");
  EXPECT_TRUE(last.supported());
  for (const ScanKernel& k : kernels) {
    if (!k.supported()) continue;
    EXPECT_STREQ(active_scan_kernel().name, k.name);
    break;
  }
}

TEST(Scanner, DispatchesToTheActiveKernel) {
  const std::string text = std::string(200, 'a') + "\r\n.";
  EXPECT_EQ(find_mark(text, 'x'), 202u);
  EXPECT_EQ(find_mark(text, 'x'), active_scan_kernel().find_mark(text, 'x'));
}

TEST_P(Kernel, EveryShortString) {
  std::array<char, 8> text;
  for (std::size_t size = 0, count = 1; size <= text.size(); ++size, count *= alphabet.size()) {
    for (std::size_t n = 0; n < count; ++n) {
      for (std::size_t i = 0, rest = n; i < size; ++i, rest /= alphabet.size()) {
        text[i] = alphabet[rest % alphabet.size()];
      }
      for (const char before : alphabet) {
        const std::string_view t(text.data(), size);
        ASSERT_EQ(find(t, before), expected(t, before)) << testing::PrintToString(t);
      }
    }
  }
}

// Every short string again, where vectors begin and end: at both ends of clean text of many lengths.
TEST_P(Kernel, EveryTripleAtEveryPlace) {
  std::string text(161, 'a');
  for (std::size_t at = 0; at + 3 <= text.size(); ++at) {
    for (const char a : alphabet) {
      for (const char b : alphabet) {
        for (const char c : alphabet) {
          text[at] = a;
          text[at + 1] = b;
          text[at + 2] = c;
          for (const std::size_t size : {at + 1, at + 2, at + 3, text.size()}) {
            const auto t = std::string_view(text).substr(0, size);
            ASSERT_EQ(find(t, 'a'), expected(t, 'a')) << at << ' ' << size;
          }
        }
      }
    }
    text.replace(at, 3, "aaa");
  }
}

// A mark of each kind at every place of texts of every length, flush with a page that may not be
// read, before or behind: no kernel may look outside.
TEST_P(Kernel, EveryPlaceAndLengthWithoutLookingOutside) {
  GuardedPages pages;
  for (std::size_t size = 0; size <= 300; ++size) {
    for (char* const base : {pages.begin(), pages.end() - size}) {
      const std::string_view text(base, size);
      std::memset(base, 'a', size);
      ASSERT_EQ(find(text, 'a'), size);
      for (std::size_t at = 0; at < size; ++at) {
        for (const char c : {'\n', '\0'}) {
          base[at] = c;
          ASSERT_EQ(find(text, 'a'), at) << size;
        }
        base[at] = '\r';
        ASSERT_EQ(find(text, 'a'), at + 1) << size;
        if (at > 0) {
          base[at - 1] = '\r';
          base[at] = '\n';
          ASSERT_EQ(find(text, 'a'), size) << at;
          if (at + 1 < size) {
            base[at + 1] = '.';
            ASSERT_EQ(find(text, 'a'), at + 1) << size;
            base[at + 1] = 'a';
          }
          base[at - 1] = 'a';
        }
        base[at] = 'a';
      }
    }
  }
}

TEST_P(Kernel, EveryAlignment) {
  alignas(128) std::array<char, 512> buffer;
  for (std::size_t align = 0; align < 128; ++align) {
    for (std::size_t at = 0; at < 300; ++at) {
      buffer.fill('a');
      buffer[align + at] = '\n';
      ASSERT_EQ(find({buffer.data() + align, 320}, 'a'), at) << align;
    }
  }
}

// Bytes that a signed comparison or a nibble table would take for one of the five.
TEST_P(Kernel, EveryPairOfBytes) {
  std::string text(66, 'a');
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      text[40] = static_cast<char>(a);
      text[41] = static_cast<char>(b);
      ASSERT_EQ(find(text, 'a'), expected(text, 'a')) << a << ' ' << b;
    }
  }
}

TEST_P(Kernel, RandomTexts) {
  std::mt19937 random(20231218);
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 700, 'a');
    for (auto marks = random() % 8; marks > 0 && !text.empty(); --marks) {
      const std::size_t at = random() % text.size();
      if (random() % 2 && at + 1 < text.size()) {
        text.replace(at, 2, "\r\n");
      } else {
        text[at] = alphabet[random() % alphabet.size()];
      }
    }
    // The answer, and from each answer on to the next, as the users do.
    char before = alphabet[random() % alphabet.size()];
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t mark = find(rest, before);
      ASSERT_EQ(mark, expected(rest, before));
      if (mark == rest.size()) break;
      before = rest[mark];
      rest.remove_prefix(mark + 1);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Scanner, Kernel, testing::ValuesIn(scan_kernels().begin(), scan_kernels().end()),
                         [](const auto& kernel) { return std::string(kernel.param.name); });

}  // namespace
}  // namespace ringmx::smtp
