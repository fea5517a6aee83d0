// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ringmx::load {
namespace {

using smtp::Stage;
using testing::ElementsAre;
using testing::IsEmpty;
using Pipelining = Manners::Pipelining;

Pattern pattern(std::string_view text) {
  Pattern out;
  EXPECT_FALSE(Pattern::parse(text, out));
  return out;
}

Mail mail(std::uint32_t recipients = 1) {
  return Mail(
      {.from = pattern("f@x"), .to = {pattern("r%r@x")}, .recipients = recipients, .helo = pattern("me")});
}

// A session whose server is the test.
class Dialog : public Script::Owner {
 public:
  explicit Dialog(const Manners& manners, std::uint32_t recipients = 1)
      : manners_(manners), mail_(mail(recipients)), script_(manners_, mail_, 0, *this) {
    script_.start();
  }
  // The server says something; returns all that the client then says.
  std::string hear(std::string_view text) {
    said_.clear();
    fault = script_.received(text);
    return said_;
  }
  void greet(std::string_view extensions = "") {
    hear("220 x\r\n");
    hear("250-x\r\n" + std::string(extensions) + "250 HELP\r\n");
  }
  std::string begin(std::uint64_t size = 1000) {
    said_.clear();
    script_.begin({.number = 0, .session = 0, .size = size, .header_size = 0});
    return said_;
  }
  std::string quit() {
    said_.clear();
    script_.quit();
    return said_;
  }
  Script& script() { return script_; }

  std::vector<std::string> replies;
  std::vector<Outcome> outcomes;
  int ready_calls = 0;
  int handshakes = 0;  // that were asked for
  bool bye = false;
  std::vector<std::string> dismissals;
  Script::Fault fault = Script::Fault::none;
  bool begin_when_ready = false;

 private:
  void say(std::string_view commands) override { said_ += commands; }
  void say_message(const Message&, std::uint64_t from, std::uint64_t to, smtp::Framing framing) override {
    said_ +=
        "<" + std::to_string(from) + "-" + std::to_string(to) + (framing == smtp::Framing::dot ? ">" : "]");
  }
  void replied(Stage stage, const smtp::Reply& reply) override {
    replies.push_back(std::string(smtp::stage_name(stage)) + " " + std::to_string(reply.code));
  }
  void message_ended(const Outcome& outcome) override { outcomes.push_back(outcome); }
  void start_tls() override { ++handshakes; }
  void ready() override {
    ++ready_calls;
    if (begin_when_ready) script_.begin({.number = 1, .session = 0, .size = 1, .header_size = 0});
  }
  void said_bye() override { bye = true; }
  void dismissed(std::optional<Stage> stage, const smtp::Reply& reply) override {
    dismissals.push_back((stage ? std::string(smtp::stage_name(*stage)) : "rest") + " " +
                         std::to_string(reply.code));
  }

  Manners manners_;
  Mail mail_;
  Script script_;
  std::string said_;
};

TEST(Script, LockStep) {
  Dialog d({});
  EXPECT_EQ(d.hear("220 x\r\n"), "EHLO me\r\n");
  EXPECT_EQ(d.ready_calls, 0);
  EXPECT_EQ(d.hear("250 x\r\n"), "");
  EXPECT_EQ(d.ready_calls, 1);
  EXPECT_EQ(d.begin(), "MAIL FROM:<f@x>\r\n");
  EXPECT_EQ(d.hear("250 ok\r\n"), "RCPT TO:<r0@x>\r\n");
  EXPECT_EQ(d.hear("250 ok\r\n"), "DATA\r\n");
  EXPECT_EQ(d.hear("354 go\r\n"), "<0-1000>.\r\n");
  EXPECT_THAT(d.outcomes, IsEmpty());
  d.hear("250 ok\r\n");
  ASSERT_EQ(d.outcomes.size(), 1u);
  EXPECT_TRUE(d.outcomes[0].accepted);
  EXPECT_EQ(d.outcomes[0].recipients, 1u);
  EXPECT_EQ(d.ready_calls, 2);
  EXPECT_EQ(d.quit(), "QUIT\r\n");
  d.hear("221 bye\r\n");
  EXPECT_TRUE(d.bye);
  EXPECT_THAT(d.replies, ElementsAre("greeting 220", "ehlo 250", "mail 250", "rcpt 250", "data 354",
                                     "message 250", "quit 221"));
}

TEST(Script, PipeliningWhereOffered) {
  for (const auto& [wish, offered, expected] :
       {std::tuple{Pipelining::offered, true, true}, std::tuple{Pipelining::offered, false, false},
        std::tuple{Pipelining::never, true, false}, std::tuple{Pipelining::always, false, true}}) {
    Dialog d({.pipelining = wish}, 2);
    d.greet(offered ? "250-PIPELINING\r\n" : "");
    const std::string said = d.begin();
    EXPECT_EQ(said == "MAIL FROM:<f@x>\r\nRCPT TO:<r0@x>\r\nRCPT TO:<r1@x>\r\nDATA\r\n", expected);
    EXPECT_EQ(said == "MAIL FROM:<f@x>\r\n", !expected);
  }
}

TEST(Script, RepliesToAGroupMayComeInAnyPieces) {
  const std::string replies = "250 ok\r\n250-a\r\n250 ok\r\n550 no\r\n354 go\r\n";
  for (std::size_t cut = 0; cut <= replies.size(); ++cut) {
    Dialog d({}, 2);
    d.greet("250-PIPELINING\r\n250-SIZE 10\r\n");
    EXPECT_THAT(d.begin(), testing::StartsWith("MAIL FROM:<f@x> SIZE=1000\r\n"));
    std::string said = d.hear(replies.substr(0, cut));
    said += cut < replies.size() ? d.hear(replies.substr(cut)) : "";
    EXPECT_EQ(said, "<0-1000>.\r\n");
    d.hear("250 ok\r\n");
    ASSERT_EQ(d.outcomes.size(), 1u);
    EXPECT_TRUE(d.outcomes[0].accepted);
    EXPECT_EQ(d.outcomes[0].recipients, 1u);
    EXPECT_EQ(d.ready_calls, 2);
  }
}

TEST(Script, MoreRecipientsThanFitAGroup) {
  Dialog d({.pipelining = Pipelining::always}, 300);
  d.greet();
  std::string said = d.begin();
  int recipients = 0;
  int groups = 0;
  while (said.find("<0-1000>") == said.npos) {
    ++groups;
    ASSERT_LT(groups, 10);
    std::string replies;
    for (std::size_t at = 0, end = 0; (end = said.find("\r\n", at)) != said.npos; at = end + 2) {
      recipients += said.compare(at, 4, "RCPT") == 0;
      replies += said.compare(at, 4, "DATA") == 0 ? "354 go\r\n" : "250 ok\r\n";
    }
    said = d.hear(replies);
  }
  EXPECT_EQ(recipients, 300);
  EXPECT_EQ(groups, 3);
  d.hear("250 ok\r\n");
  EXPECT_EQ(d.outcomes.at(0).recipients, 300u);
}

TEST(Script, RefusedInLockStep) {
  struct Case {
    std::vector<std::string> replies;
    Stage stage;
    bool reset;
  };
  for (const Case& c :
       {Case{{"452 later\r\n"}, Stage::mail, false}, Case{{"250 ok\r\n", "550 no\r\n"}, Stage::rcpt, true},
        Case{{"250 ok\r\n", "250 ok\r\n", "451 later\r\n"}, Stage::data, true},
        Case{{"250 ok\r\n", "250 ok\r\n", "250 what\r\n"}, Stage::data, true},
        Case{{"250 ok\r\n", "250 ok\r\n", "354 go\r\n", "554 no\r\n"}, Stage::message, false}}) {
    Dialog d({});
    d.greet();
    d.begin();
    std::string said;
    for (const std::string& reply : c.replies) said = d.hear(reply);
    ASSERT_EQ(d.outcomes.size(), 1u);
    EXPECT_FALSE(d.outcomes[0].accepted);
    EXPECT_EQ(d.outcomes[0].stage, c.stage);
    EXPECT_EQ(std::to_string(d.outcomes[0].code), c.replies.back().substr(0, 3));
    EXPECT_EQ(said, c.reset ? "RSET\r\n" : "");
    EXPECT_EQ(d.ready_calls, c.reset ? 1 : 2);
    if (c.reset) d.hear("250 ok\r\n");
    EXPECT_EQ(d.ready_calls, 2);
    EXPECT_EQ(d.begin(), "MAIL FROM:<f@x>\r\n");
  }
}

TEST(Script, RefusedInAGroup) {
  Dialog d({.pipelining = Pipelining::always});
  d.greet();
  d.begin();
  EXPECT_EQ(d.hear("550 no\r\n503 no\r\n503 no\r\n"), "");
  ASSERT_EQ(d.outcomes.size(), 1u);
  EXPECT_EQ(d.outcomes[0].stage, Stage::mail);  // the reason, not what follows from it
  EXPECT_EQ(d.outcomes[0].code, 550);
  d.begin();
  EXPECT_EQ(d.hear("250 ok\r\n550 no\r\n554 no\r\n"), "RSET\r\n");
  EXPECT_EQ(d.outcomes.at(1).stage, Stage::rcpt);
}

// RFC 2920 3.1: the server may take DATA after all; then it has to be given an empty message.
TEST(Script, DataWithoutRecipients) {
  Dialog d({.pipelining = Pipelining::always});
  d.greet();
  d.begin();
  EXPECT_EQ(d.hear("250 ok\r\n550 no\r\n354 go\r\n"), ".\r\n");
  EXPECT_THAT(d.outcomes, IsEmpty());
  d.hear("554 no valid recipients\r\n");
  ASSERT_EQ(d.outcomes.size(), 1u);
  EXPECT_FALSE(d.outcomes[0].accepted);
  EXPECT_EQ(d.outcomes[0].stage, Stage::rcpt);
  d.begin();
  d.hear("250 ok\r\n550 no\r\n354 go\r\n");
  d.hear("250 taken, all the same\r\n");
  EXPECT_FALSE(d.outcomes.at(1).accepted);
}

TEST(Script, ChunksInLockStep) {
  Dialog d({.pipelining = Pipelining::never, .bdat = true, .chunk_size = 400});
  d.greet("250-CHUNKING\r\n");
  EXPECT_FALSE(d.script().lacks_chunking());
  d.begin();
  d.hear("250 ok\r\n");
  EXPECT_EQ(d.hear("250 ok\r\n"), "BDAT 400\r\n<0-400]");
  EXPECT_EQ(d.hear("250 ok\r\n"), "BDAT 400\r\n<400-800]");
  EXPECT_EQ(d.hear("250 ok\r\n"), "BDAT 200 LAST\r\n<800-1000]");
  d.hear("250 ok\r\n");
  EXPECT_TRUE(d.outcomes.at(0).accepted);
  EXPECT_THAT(d.replies, ElementsAre("greeting 220", "ehlo 250", "mail 250", "rcpt 250", "bdat 250",
                                     "bdat 250", "message 250"));
}

TEST(Script, ChunksInAGroup) {
  Dialog d({.pipelining = Pipelining::always, .bdat = true, .chunk_size = 500});
  d.greet("250-CHUNKING\r\n");
  EXPECT_EQ(d.begin(), "MAIL FROM:<f@x>\r\nRCPT TO:<r0@x>\r\nBDAT 500\r\n<0-500]BDAT 500 LAST\r\n<500-1000]");
  d.hear("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n");
  EXPECT_TRUE(d.outcomes.at(0).accepted);
  // More chunks than a Dialogue holds.
  std::string said = d.begin(500 * 200);
  EXPECT_EQ(said.find(" LAST"), said.npos);
  std::string replies;
  for (int i = 0; i < 128; ++i) replies += "250 ok\r\n";
  said = d.hear(replies);
  EXPECT_TRUE(said.starts_with("BDAT 500\r\n<63000-63500]")) << said.substr(0, 50);
  EXPECT_NE(said.find(" LAST"), said.npos);
}

TEST(Script, ARefusedChunkNeedsReset) {
  Dialog d({.pipelining = Pipelining::never, .bdat = true, .chunk_size = 400});
  d.greet("250-CHUNKING\r\n");
  d.begin();
  d.hear("250 ok\r\n");
  d.hear("250 ok\r\n");
  EXPECT_EQ(d.hear("552 too big\r\n"), "RSET\r\n");
  EXPECT_EQ(d.outcomes.at(0).stage, Stage::bdat);
  EXPECT_EQ(d.outcomes.at(0).code, 552);
}

TEST(Script, ChunkingMustBeOffered) {
  Dialog d({.bdat = true});
  d.greet();
  EXPECT_TRUE(d.script().lacks_chunking());
}

TEST(Script, HeloWhereEhloIsUnknown) {
  Dialog d({.pipelining = Pipelining::offered});
  d.hear("220 x\r\n");
  EXPECT_EQ(d.hear("502 what\r\n"), "HELO me\r\n");
  d.hear("250 x\r\n");
  EXPECT_EQ(d.ready_calls, 1);
  EXPECT_EQ(d.begin(), "MAIL FROM:<f@x>\r\n");
}

TEST(Script, Dismissed) {
  {
    Dialog d({});
    EXPECT_EQ(d.hear("554 go away\r\n"), "");
    EXPECT_THAT(d.dismissals, ElementsAre("greeting 554"));
  }
  {
    Dialog d({});
    d.hear("220 x\r\n");
    d.hear("450 later\r\n");
    EXPECT_THAT(d.dismissals, ElementsAre("ehlo 450"));
  }
  {
    Dialog d({});
    d.greet();
    d.begin();
    EXPECT_EQ(d.hear("421 closing\r\n"), "");
    EXPECT_THAT(d.dismissals, ElementsAre("mail 421"));
    ASSERT_EQ(d.outcomes.size(), 1u);
    EXPECT_EQ(d.outcomes[0].code, 421);
    EXPECT_EQ(d.ready_calls, 1);
  }
  {
    Dialog d({});
    d.greet();
    d.hear("421 idle for too long\r\n");
    EXPECT_THAT(d.dismissals, ElementsAre("rest 421"));
    EXPECT_EQ(d.fault, Script::Fault::none);
  }
  {
    Dialog d({});  // right behind the last reply
    d.greet();
    d.begin_when_ready = true;
    d.begin();
    d.hear("250 ok\r\n");
    d.hear("250 ok\r\n");
    d.hear("354 go\r\n");
    d.hear("250 ok\r\n421 closing\r\n");
    EXPECT_TRUE(d.outcomes.at(0).accepted);
    EXPECT_THAT(d.dismissals, ElementsAre("rest 421"));
    EXPECT_EQ(d.ready_calls, 1);
  }
}

TEST(Script, Faults) {
  {
    Dialog d({});
    d.hear("HTTP/1.1 400 Bad Request\r\n");
    EXPECT_EQ(d.fault, Script::Fault::bad_reply);
  }
  {
    Dialog d({});
    d.greet();
    d.hear("250 what\r\n");
    EXPECT_EQ(d.fault, Script::Fault::unsolicited);
  }
  {
    Dialog d({});  // two replies to one command, of which the second would answer the next
    d.greet();
    d.begin();
    d.hear("250 ok\r\n250 ok\r\n");
    EXPECT_EQ(d.fault, Script::Fault::unsolicited);
  }
}

TEST(Script, StarttlsIsBetweenTwoEhlos) {
  Dialog d({.starttls = true});
  EXPECT_EQ(d.hear("220 x\r\n"), "EHLO me\r\n");
  EXPECT_EQ(d.hear("250-x\r\n250-SIZE\r\n250-PIPELINING\r\n250 STARTTLS\r\n"), "STARTTLS\r\n");
  EXPECT_EQ(d.ready_calls, 0);
  EXPECT_EQ(d.hear("220 go\r\n"), "");
  EXPECT_EQ(d.handshakes, 1);
  EXPECT_EQ(d.ready_calls, 0);
  d.script().tls_started();
  EXPECT_TRUE(d.script().waiting());
  EXPECT_EQ(d.script().stage(), Stage::ehlo);
  // Not again, and what was offered in clear text is forgotten.
  EXPECT_EQ(d.hear("250-x\r\n250 STARTTLS\r\n"), "");
  EXPECT_EQ(d.handshakes, 1);
  EXPECT_EQ(d.ready_calls, 1);
  EXPECT_FALSE(d.script().lacks_starttls());
  EXPECT_EQ(d.begin(), "MAIL FROM:<f@x>\r\n");
  EXPECT_THAT(d.replies, ElementsAre("greeting 220", "ehlo 250", "starttls 220", "ehlo 250"));
}

TEST(Script, StarttlsIsNotSaidUnlessAskedFor) {
  Dialog d({});
  d.hear("220 x\r\n");
  EXPECT_EQ(d.hear("250-x\r\n250 STARTTLS\r\n"), "");
  EXPECT_EQ(d.ready_calls, 1);
  EXPECT_FALSE(d.script().lacks_starttls());
}

TEST(Script, StarttlsThatIsNotOffered) {
  Dialog d({.starttls = true});
  d.greet();
  EXPECT_EQ(d.ready_calls, 1);
  EXPECT_TRUE(d.script().lacks_starttls());
  EXPECT_EQ(d.handshakes, 0);
}

TEST(Script, StarttlsThatIsRefused) {
  for (const std::string reply : {"454 4.7.0 not now", "501 no", "421 bye"}) {
    Dialog d({.starttls = true});
    d.greet("250-STARTTLS\r\n");
    d.hear(reply + "\r\n");
    EXPECT_THAT(d.dismissals, ElementsAre("starttls " + reply.substr(0, 3)));
    EXPECT_EQ(d.handshakes, 0);
    EXPECT_EQ(d.ready_calls, 0);
  }
}

// What an attacker puts behind the 220 in clear text would be taken for what comes in TLS.
TEST(Script, StarttlsInjection) {
  for (const std::string injected : {"250 x\r\n", "2", "\x16\x03\x03"}) {
    Dialog d({.starttls = true});
    d.greet("250-STARTTLS\r\n");
    d.hear("220 go\r\n" + injected);
    EXPECT_EQ(d.fault, Script::Fault::unsolicited) << injected;
    EXPECT_EQ(d.handshakes, 0);
  }
}

}  // namespace
}  // namespace ringmx::load
