// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/answer_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "question.h"

namespace ringmx::policy {
namespace {

using namespace std::literals;

Answer refusal(std::string reply) {
  Answer answer;
  answer.verdict = Answer::Verdict::refuse;
  answer.reply = std::move(reply);
  return answer;
}

TEST(CacheKey, SaysTheFieldsAndNoOthers) {
  Asked asked;
  const auto key = [&](CacheField field) { return cache_key({field}, asked.question); };
  const std::string sender = key(CacheField::sender);
  const std::string domain = key(CacheField::sender_domain);
  asked.facts.sender = {"A@EXAMPLE.org", "A", "EXAMPLE.org"};
  EXPECT_NE(key(CacheField::sender), sender);  // local parts have a case
  EXPECT_EQ(key(CacheField::sender_domain), domain);
  asked.facts.sender.local_part = "a";
  EXPECT_EQ(key(CacheField::sender), sender);

  asked.facts.sender = {R"("a"@example.org)", R"("a")", "example.org"};
  EXPECT_NE(key(CacheField::sender), sender);  // and quotes, which some services are told

  asked.with_tls("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
  const std::string tls = key(CacheField::tls);
  const std::string certificate = key(CacheField::certificate);
  asked.with_tls("TLSv1.3", "TLS_AES_128_GCM_SHA256");
  EXPECT_NE(key(CacheField::tls), tls);
  EXPECT_EQ(key(CacheField::certificate), certificate);
  asked.facts.tls.certificate = &asked.certificate;
  const std::string verified = key(CacheField::certificate);
  EXPECT_NE(verified, certificate);
  asked.certificate.verified = false;
  EXPECT_NE(key(CacheField::certificate), verified);

  const std::string rcpt = key(CacheField::client);
  asked.question.step = Step::mail;
  EXPECT_NE(key(CacheField::client), rcpt);
}

TEST(CacheKey, NeverCrossesStarttls) {
  for (std::size_t i = 0; i < cache_field_count; ++i) {
    const std::vector<CacheField> field = {static_cast<CacheField>(i)};
    Asked asked;
    const std::string clear = cache_key(field, asked.question);
    asked.with_tls("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    const std::string tls12 = cache_key(field, asked.question);
    asked.with_tls("TLSv1.3", "TLS_AES_128_GCM_SHA256");
    const std::string tls13 = cache_key(field, asked.question);
    EXPECT_NE(clear, tls12) << name_of(field.front());
    EXPECT_NE(clear, tls13) << name_of(field.front());
    EXPECT_EQ(tls12 == tls13, field.front() != CacheField::tls) << name_of(field.front());
  }
}

TEST(CacheKey, IsAnothersForNoOther) {
  std::set<std::string> keys;
  std::size_t n = 0;
  Asked asked;
  for (const std::string_view a : {"", "1", "1:", "0:", "a0:", "a"}) {
    for (const std::string_view b : {"", "1", "1:", "0:", "a0:", "a"}) {
      asked.facts.user = a;
      asked.facts.listener = b;
      keys.insert(cache_key({CacheField::user, CacheField::listener}, asked.question));
      ++n;
    }
  }
  EXPECT_EQ(keys.size(), n);
}

TEST(AnswerCache, ForgetsInTime) {
  AnswerCache cache(10, 1000);
  cache.insert("a", refusal("550 a\r\n"), 5);
  ASSERT_NE(cache.find("a", 1004), nullptr);
  EXPECT_EQ(cache.find("a", 1004)->reply, "550 a\r\n");
  EXPECT_EQ(cache.find("a", 1005), nullptr);
  EXPECT_EQ(cache.size(), 0U);
}

TEST(AnswerCache, OfCapacityZeroKeepsNothing) {
  AnswerCache cache(0, 1000);
  cache.insert("a", {}, 0);
  EXPECT_EQ(cache.find("a", 0), nullptr);
}

// Against a list that is searched.
TEST(AnswerCache, DropsTheOneThatWasNotAskedForLongest) {
  constexpr std::size_t capacity = 8;
  constexpr std::int64_t lifetime = 50;
  AnswerCache cache(capacity, lifetime);
  struct Entry {
    std::string key, reply;
    std::int64_t expires;
  };
  std::vector<Entry> model;  // the one asked for last comes first
  std::mt19937 random(2);
  for (std::int64_t now = 0; now < 100000; ++now) {
    const std::string key = std::to_string(random() % 12);
    const auto entry = std::find_if(model.begin(), model.end(), [&](const Entry& e) { return e.key == key; });
    if (random() % 3 == 0) {
      const std::string reply = std::to_string(random());
      cache.insert(key, refusal(reply), now);
      if (entry != model.end()) {
        model.erase(entry);
      } else if (model.size() == capacity) {
        model.pop_back();
      }
      model.insert(model.begin(), {key, reply, now + lifetime});
    } else {
      const Answer* found = cache.find(key, now);
      if (entry != model.end() && entry->expires <= now) {
        model.erase(entry);
        EXPECT_EQ(found, nullptr);
      } else if (entry == model.end()) {
        EXPECT_EQ(found, nullptr);
      } else {
        ASSERT_NE(found, nullptr);
        EXPECT_EQ(found->reply, entry->reply);
        std::rotate(model.begin(), entry, entry + 1);
      }
    }
    ASSERT_EQ(cache.size(), model.size());
  }
}

}  // namespace
}  // namespace ringmx::policy
