// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/dialogue.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace ringmx::smtp {
namespace {

using namespace std::literals;
using Event = Dialogue::Event;

struct Happened {
  Event event;
  Stage stage;  // of a reply
  std::string text;
  friend bool operator==(const Happened&, const Happened&) = default;
};

std::ostream& operator<<(std::ostream& out, const Happened& h) {
  return out << static_cast<int>(h.event) << ' ' << stage_name(h.stage) << ' ' << h.text;
}

// Feeds one piece; what happened, need_more left out.
void feed(Dialogue& dialogue, std::string_view piece, std::vector<Happened>& happened) {
  while (!piece.empty()) {
    Stage stage{};
    Reply reply;
    std::size_t consumed = 0;
    const Event event = dialogue.next(piece, stage, reply, consumed);
    piece.remove_prefix(consumed);
    if (event == Event::need_more || event == Event::fault) {
      EXPECT_TRUE(piece.empty());
      if (event == Event::fault) happened.push_back({event, {}, {}});
    } else {
      happened.push_back({event, event == Event::reply ? stage : Stage{}, std::string(reply.text)});
    }
  }
}

TEST(Dialogue, RepliesAnswerCommandsInOrderAtEverySplit) {
  const std::string_view wire =
      "220 mx\r\n250-mx\r\n250 PIPELINING\r\n250 a\r\n550 b\r\n250 c\r\n354 d\r\n250 e\r\n221 f\r\n";
  const std::vector<Stage> stages = {Stage::greeting, Stage::ehlo, Stage::mail,    Stage::rcpt,
                                     Stage::rcpt,     Stage::data, Stage::message, Stage::quit};
  const std::vector<std::string> texts = {"220 mx\r\n", "250-mx\r\n250 PIPELINING\r\n",
                                          "250 a\r\n",  "550 b\r\n",
                                          "250 c\r\n",  "354 d\r\n",
                                          "250 e\r\n",  "221 f\r\n"};
  std::vector<Happened> expected;
  for (std::size_t i = 0; i < stages.size(); ++i) expected.push_back({Event::reply, stages[i], texts[i]});
  for (std::size_t i = 0; i <= wire.size(); ++i) {
    for (std::size_t k = i; k <= wire.size(); ++k) {
      Dialogue dialogue(1000);
      for (const Stage s : stages) dialogue.expect(s);
      std::vector<Happened> happened;
      feed(dialogue, wire.substr(0, i), happened);
      feed(dialogue, wire.substr(i, k - i), happened);
      EXPECT_EQ(dialogue.at_rest(), k == wire.size());
      feed(dialogue, wire.substr(k), happened);
      ASSERT_EQ(happened, expected) << i << ' ' << k;
      EXPECT_TRUE(dialogue.at_rest());
    }
  }
}

TEST(Dialogue, UnsolicitedReplies) {
  const std::string_view wire = "250 ok\r\n421 bye\r\n";
  for (std::size_t i = 0; i <= wire.size(); ++i) {
    Dialogue dialogue(1000);
    dialogue.expect(Stage::message);
    std::vector<Happened> happened;
    feed(dialogue, wire.substr(0, i), happened);
    feed(dialogue, wire.substr(i), happened);
    const std::vector<Happened> expected = {{Event::reply, Stage::message, "250 ok\r\n"},
                                            {Event::unsolicited, {}, "421 bye\r\n"}};
    EXPECT_EQ(happened, expected);
  }
}

TEST(Dialogue, A421AnswersTheOldestCommand) {
  Dialogue dialogue(1000);
  dialogue.expect(Stage::mail);
  dialogue.expect(Stage::rcpt);
  std::vector<Happened> happened;
  feed(dialogue, "421 4.3.2 shutting down\r\n", happened);
  EXPECT_EQ(happened, (std::vector<Happened>{{Event::reply, Stage::mail, "421 4.3.2 shutting down\r\n"}}));
  EXPECT_EQ(dialogue.outstanding(), 1U);
  EXPECT_EQ(dialogue.oldest(), Stage::rcpt);
  EXPECT_FALSE(dialogue.at_rest());
}

TEST(Dialogue, RestsOnlyWhereNothingIsOutOrHeldOrWrong) {
  Dialogue dialogue(20);
  std::vector<Happened> happened;
  EXPECT_TRUE(dialogue.at_rest());
  dialogue.expect(Stage::rset);
  EXPECT_FALSE(dialogue.at_rest());
  feed(dialogue, "250 ok\r\n", happened);
  EXPECT_TRUE(dialogue.at_rest());
  feed(dialogue, "2", happened);
  EXPECT_FALSE(dialogue.at_rest());
  feed(dialogue, "x", happened);
  EXPECT_FALSE(dialogue.at_rest());
  EXPECT_EQ(dialogue.reply_fault(), ReplyFault::malformed);
  feed(dialogue, "250 ok\r\n", happened);
  EXPECT_FALSE(dialogue.at_rest());
  EXPECT_EQ(happened.back().event, Event::fault);
}

TEST(Dialogue, ForgetsNoCommandAndTakesNoneTwice) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  Dialogue dialogue(1000);
  std::deque<Stage> model;
  for (int step = 0; step < 200000; ++step) {
    // Now more commands than replies, now fewer, so that both ends are reached.
    const bool send = random() % 100 < (step / 1000 % 2 == 0 ? 60U : 40U);
    if (send && !dialogue.full()) {
      const auto stage = static_cast<Stage>(random() % stage_count);
      dialogue.expect(stage);
      model.push_back(stage);
    } else if (!send) {
      std::vector<Happened> happened;
      feed(dialogue, "250 x\r\n", happened);
      ASSERT_EQ(happened.size(), 1U);
      ASSERT_EQ(happened[0].event, model.empty() ? Event::unsolicited : Event::reply);
      if (model.empty()) continue;
      ASSERT_EQ(happened[0].stage, model.front());
      model.pop_front();
    }
    ASSERT_EQ(dialogue.outstanding(), model.size());
    ASSERT_EQ(dialogue.full(), model.size() == Dialogue::capacity);
    ASSERT_EQ(dialogue.at_rest(), model.empty());
    if (!model.empty()) {
      ASSERT_EQ(dialogue.oldest(), model.front());
    }
  }
}

TEST(Dialogue, StagesHaveNames) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < stage_count; ++i) names.insert(stage_name(static_cast<Stage>(i)));
  EXPECT_EQ(names.size(), stage_count);
  EXPECT_FALSE(names.contains(""));
}

}  // namespace
}  // namespace ringmx::smtp
