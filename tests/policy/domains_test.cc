// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/domains.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace ringmx::policy {
namespace {

using Patterns = std::vector<std::string_view>;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

// The model: one pattern after the other.
bool matches(std::string_view pattern, std::string_view domain) {
  const std::string p = lower(pattern.starts_with("*.") ? pattern.substr(1) : pattern);
  const std::string d = lower(domain.ends_with('.') ? domain.substr(0, domain.size() - 1) : domain);
  if (d.empty() || d.front() == '.') return false;
  if (p.starts_with('.')) return d.size() > p.size() && d.ends_with(p);
  return d == p;
}
bool naive(const Patterns& patterns, std::string_view domain) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](std::string_view p) { return matches(p, domain); });
}

TEST(Domains, EmptyHoldsNothing) {
  for (const Domains& set : {Domains(), Domains(Patterns{})}) {
    EXPECT_FALSE(set.contains(""));
    EXPECT_FALSE(set.contains("example.org"));
    EXPECT_EQ(set.size(), 0U);
  }
}

TEST(Domains, APatternIsTheDomainOrItsSubdomains) {
  const Domains set(Patterns{"example.org", ".Example.com", "*.example.net", "<>"});
  for (const char* in : {"example.org", "EXAMPLE.ORG", "example.org.", "a.example.com", "a.b.example.COM",
                         "x.example.net", "<>"}) {
    EXPECT_TRUE(set.contains(in)) << in;
  }
  for (const char* out : {"a.example.org", "example.com", ".example.com", "example.net", "xexample.org",
                          "org", "", ".", "..", "*.example.org", "aexample.com", "example.org.."}) {
    EXPECT_FALSE(set.contains(out)) << out;
  }
}

// Every set of one or two patterns against every name, of up to four characters of three.
TEST(Domains, EveryPairOfShortOnes) {
  std::vector<std::string> words;
  const auto extend = [&](auto self, const std::string& word) -> void {
    if (!word.empty()) words.push_back(word);
    if (word.size() < 4) {
      for (const char c : {'a', 'B', '.'}) self(self, word + c);
    }
  };
  extend(extend, "");
  std::vector<std::string_view> patterns;
  for (const std::string& word : words) {
    // As the configuration lets them be: labels, and at most a dot before them.
    const bool good = !word.ends_with('.') && word.find("..") == word.npos;
    if (good) patterns.push_back(word);
  }
  for (const std::string_view one : patterns) {
    for (const std::string_view other : patterns) {
      const Patterns both{one, other};
      const Domains set(both);
      ASSERT_EQ(set.size(), lower(one) == lower(other) ? 1U : 2U);
      for (const std::string& word : words)
        ASSERT_EQ(set.contains(word), naive(both, word)) << one << " " << word;
    }
  }
}

TEST(Domains, ManyAtRandom) {
  std::mt19937_64 random(1);
  const auto some = [&] {
    std::string out;
    for (std::size_t labels = 1 + random() % 5; labels-- > 0;) {
      for (std::size_t n = 1 + random() % 2; n-- > 0;) out += "abcXYZ0-_\xc3"[random() % 10];
      if (labels > 0) out += '.';
    }
    return out;
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> text(random() % 200);
    for (std::string& pattern : text)
      pattern = (random() % 3 == 0 ? "." : random() % 5 == 0 ? "*." : "") + some();
    const Patterns patterns(text.begin(), text.end());
    const Domains set(patterns);
    for (int i = 0; i < 300; ++i) {
      const std::string domain = some();
      ASSERT_EQ(set.contains(domain), naive(patterns, domain)) << domain;
    }
  }
}

TEST(Domains, NamesOfEveryLengthAreToldFromTheirNeighbours) {
  const std::string alphabet = "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";
  for (std::size_t length = 1; length <= alphabet.size(); ++length) {
    const std::string name = alphabet.substr(0, length);
    const std::string above = "." + name;
    const Domains set(Patterns{name});
    const Domains under(Patterns{above});
    for (std::size_t other = 1; other <= alphabet.size(); ++other)
      ASSERT_EQ(set.contains(alphabet.substr(0, other)), other == length) << length << " " << other;
    for (std::size_t i = 0; i < length; ++i) {
      std::string changed = name;
      changed[i] = '-';
      ASSERT_FALSE(set.contains(changed)) << changed;
      ASSERT_FALSE(under.contains("mail." + changed)) << changed;
    }
    for (std::size_t i = 1; i <= alphabet.size(); ++i)
      ASSERT_TRUE(under.contains(alphabet.substr(0, i) + above)) << above;
    ASSERT_FALSE(set.contains("mail." + name));
    ASSERT_FALSE(under.contains(name));
  }
}

TEST(Domains, TheLongestNames) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + label;  // 255
  const std::string pattern = "." + label;
  const Domains set(Patterns{longest, pattern});
  EXPECT_TRUE(set.contains(longest));
  EXPECT_TRUE(Domains(Patterns{pattern}).contains(longest));
  EXPECT_FALSE(set.contains("x" + longest));  // no domain at all
  std::string dots;
  while (dots.size() < 254) dots += "a.";
  EXPECT_FALSE(set.contains(dots));
  EXPECT_FALSE(set.contains(std::string(100'000, 'a')));
}

TEST(Domains, AMillionAreFoundAndCompact) {
  std::vector<std::string> text;
  std::size_t letters = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    text.push_back((i % 10 == 0 ? ".d" : "d") + std::to_string(i) + (i % 2 == 0 ? ".example" : ".test"));
    letters += text.back().size();
  }
  const Domains set(Patterns(text.begin(), text.end()));
  EXPECT_EQ(set.size(), text.size());
  EXPECT_LE(set.memory(), letters + text.size() + 9 * 1024 * 1024);
  for (int i = 0; i < 1'000'000; i += 7) {
    const std::string tail = "d" + std::to_string(i) + (i % 2 == 0 ? ".example" : ".test");
    ASSERT_EQ(set.contains(tail), i % 10 != 0) << tail;
    ASSERT_EQ(set.contains("mail." + tail), i % 10 == 0) << tail;
    ASSERT_FALSE(set.contains("x" + tail));
  }
}

}  // namespace
}  // namespace ringmx::policy
