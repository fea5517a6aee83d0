// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/delegation.h"

#include <gtest/gtest.h>

#include <string>

#include "question.h"
#include "reading.h"

namespace ringmx::policy {
namespace {

using namespace std::literals;
using State = AnswerReader::State;
using Verdict = Answer::Verdict;

Read response(std::string_view wire) {
  return read_everywhere<DelegationReader>(wire);
}

TEST(DelegationRequest, HasPostfixsAttributes) {
  Asked asked;
  EXPECT_EQ(Delegation().request(asked.question),
            "request=smtpd_access_policy\n"
            "protocol_state=RCPT\n"
            "protocol_name=ESMTP\n"
            "client_address=192.0.2.1\n"
            "client_name=unknown\n"
            "client_port=4711\n"
            "reverse_client_name=unknown\n"
            "server_address=2001:db8::25\n"
            "server_port=25\n"
            "helo_name=client.example.org\n"
            "sender=a@example.org\n"
            "recipient=b@example.net\n"
            "recipient_count=0\n"
            "queue_id=\n"
            "instance=7b.1.2\n"
            "size=100\n"
            "etrn_domain=\n"
            "stress=\n"
            "sasl_method=\n"
            "sasl_username=\n"
            "sasl_sender=\n"
            "ccert_subject=\n"
            "ccert_issuer=\n"
            "ccert_fingerprint=\n"
            "ccert_pubkey_fingerprint=\n"
            "encryption_protocol=\n"
            "encryption_cipher=\n"
            "encryption_keysize=0\n"
            "policy_context=mx\n"
            "\n");
}

TEST(DelegationRequest, SaysWhatTlsBrought) {
  Asked asked;
  asked.question.step = Step::data;
  asked.with_tls("TLSv1.3", "TLS_AES_256_GCM_SHA384");
  asked.facts.tls.certificate = &asked.certificate;
  const std::string request = Delegation().request(asked.question);
  for (const std::string_view line :
       {"\nprotocol_state=DATA\n", "\nrecipient_count=3\n", "\nccert_subject=client.example.org\n",
        "\nccert_issuer=Wietse+20Venema\n",
        "\nccert_fingerprint=C2:9D:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:"
        "00:00:00:00:00:00\n",
        "\nencryption_protocol=TLSv1.3\n", "\nencryption_cipher=TLS_AES_256_GCM_SHA384\n",
        "\nencryption_keysize=256\n"})
    EXPECT_NE(request.find(line), std::string::npos) << line;
  asked.certificate.verified = false;
  EXPECT_NE(Delegation().request(asked.question).find("\nccert_subject=\n"), std::string::npos);
}

TEST(DelegationRequest, HasAddressesInPostfixsForm) {
  struct Row {
    std::string_view written, told;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"a@example.org", "a@example.org"},
           {"a.b+c@Example.ORG.", "a.b+c@Example.ORG."},
           {R"("ceo"@example.net)", "ceo@example.net"},
           {R"("c\eo"@example.net)", "ceo@example.net"},
           {R"("bo b"@x.example)", "bo b@x.example"},
           {R"("a\"b\\c"@x.example)", R"(a"b\c@x.example)"},
           {R"("a@b"@x.example)", "a@b@x.example"},
           {R"(""@x.example)", "@x.example"},
           {R"("\sender=b"@x.example)", "sender=b@x.example"},
           {"ceo@[127.0.0.1]", "ceo@[127.0.0.1]"},
       }) {
    Asked asked;
    smtp::MailCommand mail;
    smtp::RcptCommand rcpt;
    const std::string from = "FROM:<" + std::string(row.written) + ">";
    const std::string to = "TO:<" + std::string(row.written) + ">";
    ASSERT_EQ(smtp::parse_mail(from, {}, mail), smtp::SyntaxFault::none) << row.written;
    ASSERT_EQ(smtp::parse_rcpt(to, {}, false, rcpt), smtp::SyntaxFault::none) << row.written;
    asked.facts.sender = mail.reverse_path;
    asked.facts.recipient = rcpt.forward_path;
    const std::string request = Delegation().request(asked.question);
    const std::string told =
        "\nsender=" + std::string(row.told) + "\nrecipient=" + std::string(row.told) + "\n";
    EXPECT_NE(request.find(told), std::string::npos) << request;
    EXPECT_EQ(std::count(request.begin(), request.end(), '\n'), 30);
  }
  Asked asked;
  asked.facts.sender = {};
  asked.facts.recipient = {"Postmaster", "Postmaster", {}};
  EXPECT_NE(Delegation().request(asked.question).find("\nsender=\nrecipient=Postmaster\n"),
            std::string::npos);
}

TEST(DelegationRequest, CantBeBrokenOutOf) {
  Asked asked;
  asked.with_tls("TLSv1.3", "TLS_AES_256_GCM_SHA384");
  asked.facts.tls.certificate = &asked.certificate;
  asked.facts.user = "a\nsender=b\r\n\0c"sv;
  asked.facts.sender.local_part = "\"a\\\nb=c\\\0\\\"\"\n"sv;  // no parser lets it pass
  asked.certificate.subject = "CN=x\\0Asender=y\nz";
  const std::string request = Delegation().request(asked.question);
  EXPECT_EQ(std::count(request.begin(), request.end(), '\n'), 30);
  EXPECT_EQ(request.find('\0'), std::string::npos);
  EXPECT_NE(request.find("\nccert_subject=x+0Asender+3Dy+0Az\n"), std::string::npos);
}

TEST(DelegationRequest, SaysWhoTheClientIs) {
  Asked asked;
  asked.facts.user = "a@example.org";
  asked.facts.mechanism = "PLAIN";
  EXPECT_NE(Delegation().request(asked.question).find("\nsasl_method=PLAIN\nsasl_username=a@example.org\n"),
            std::string::npos);
}

struct Case {
  std::string_view action;
  Verdict verdict;
  std::string_view reply;
  bool remarked = false;
};

TEST(DelegationResponse, IsAnActionOfAccess5) {
  const std::string confused(replies::not_done_here);
  for (const Case& c : std::initializer_list<Case>{
           {"OK", Verdict::allow, ""},
           {"ok all is well", Verdict::allow, ""},
           {"DUNNO", Verdict::allow, ""},
           {"dunno", Verdict::allow, ""},
           {"permit", Verdict::allow, ""},
           {"1234567", Verdict::allow, ""},
           {"REJECT", Verdict::refuse, "554 5.7.1 Access denied\r\n"},
           {"reject \t not  today ", Verdict::refuse, "554 5.7.1 not  today\r\n"},
           {"REJECT 5.1.1 no such user", Verdict::refuse, "554 5.1.1 no such user\r\n"},
           {"REJECT 4.1.1 odd", Verdict::refuse, "554 5.7.1 4.1.1 odd\r\n"},
           {"DEFER", Verdict::refuse, "450 4.7.1 Access denied, try again later\r\n"},
           {"DEFER 4.2.0 busy", Verdict::refuse, "450 4.2.0 busy\r\n"},
           {"DEFER_IF_PERMIT Greylisted", Verdict::defer_if_permit, "450 4.7.1 Greylisted\r\n"},
           {"defer_if_reject later", Verdict::defer_if_reject, "450 4.7.1 later\r\n"},
           {"550 5.7.23 SPF", Verdict::refuse, "550 5.7.23 SPF\r\n"},
           {"451 try again", Verdict::refuse, "451 4.7.1 try again\r\n"},
           {"550", Verdict::refuse, "550 5.7.1 Access denied\r\n"},
           {"550 5.7.1", Verdict::refuse, "550 5.7.1 Access denied\r\n"},
           {"250 ok", Verdict::refuse, confused, true},
           {"PREPEND X-Greylist: delayed", Verdict::allow, "", true},
           {"WARN look", Verdict::allow, "", true},
           {"INFO look", Verdict::allow, "", true},
           {"HOLD", Verdict::refuse, confused, true},
           {"DISCARD", Verdict::refuse, confused, true},
           {"FILTER smtp:[127.0.0.1]:10025", Verdict::refuse, confused, true},
           {"REDIRECT x@example.org", Verdict::refuse, confused, true},
           {"BCC x@example.org", Verdict::refuse, confused, true},
           {"reject_unknown_sender_domain", Verdict::refuse, confused, true},
           {"", Verdict::refuse, confused, true},
       }) {
    const Read r = response(std::string("action=").append(c.action).append("\n\n"));
    EXPECT_EQ(r.state, State::done) << c.action;
    EXPECT_EQ(r.answer.verdict, c.verdict) << c.action;
    EXPECT_EQ(r.answer.reply, c.reply) << c.action;
    EXPECT_EQ(!r.answer.remark.empty(), c.remarked) << c.action;
  }
}

// Of the restrictions of a list OK skips the rest, and DUNNO does not.
TEST(DelegationResponse, PermitsWherePostfixDoes) {
  for (const std::string_view action : {"OK", "ok all is well", "Permit", "12"})
    EXPECT_TRUE(interpret_action(action).permits) << action;
  for (const std::string_view action : {"DUNNO", "PREPEND X: y", "WARN", "12 x", "450 x", "REJECT", "?"})
    EXPECT_FALSE(interpret_action(action).permits) << action;
}

TEST(DelegationResponse, EndsTheSessionWherePostfixDoes) {
  EXPECT_TRUE(response("action=421 4.7.0 go away\n\n").answer.closes);
  EXPECT_TRUE(response("action=521 go away\n\n").answer.closes);
  EXPECT_FALSE(response("action=550 no\n\n").answer.closes);
}

TEST(DelegationResponse, HasOtherAttributesToo) {
  const Read r = response("x=y\naction=REJECT\nz=\n\naction=OK\n\n");
  EXPECT_EQ(r.answer.verdict, Verdict::refuse);
  EXPECT_EQ(r.left, "action=OK\n\n"sv.size());
}

TEST(DelegationResponse, MayEndLinesInCrlf) {
  EXPECT_EQ(response("action=REJECT no\r\n\r\n").answer.reply, "554 5.7.1 no\r\n");
}

TEST(DelegationResponse, IsNoneIfItIsPutTogetherBadly) {
  for (const std::string& bad :
       {"\n"s, "x=y\n\n"s, "action\n\n"s, "=OK\n\n"s, "action=OK\naction=REJECT\n\n"s, "action=OK\r \n\n"s,
        "action=a\0b\n\n"s, "action=a\x1b[0m\n\n"s, "250 ok\n\n"s})
    EXPECT_EQ(response(bad).state, State::failed) << bad;
  EXPECT_EQ(response("action=OK\n").state, State::reading);
  std::string padded = "action=REJECT ";
  padded.append(DelegationReader::longest_response - padded.size() - 2, 'x');
  EXPECT_EQ(response(padded + "\n\n").answer.reply.size(), 512U);
  EXPECT_EQ(response(padded + "x\n\n").state, State::failed);
}

}  // namespace
}  // namespace ringmx::policy
