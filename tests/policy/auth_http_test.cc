// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/auth_http.h"

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
  return read_everywhere<AuthHttpReader>(wire);
}

// With a status line, and no body.
Read fields(const std::string& text) {
  return response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n" + text + "\r\n");
}

TEST(AuthHttpRequest, IsNginxsInClearText) {
  Asked asked;
  EXPECT_EQ(AuthHttp({.host = "127.0.0.1", .target = "/auth?x=1", .headers = "", .keep_alive = false})
                .request(asked.question),
            "GET /auth?x=1 HTTP/1.0\r\n"
            "Host: 127.0.0.1\r\n"
            "Auth-Method: none\r\n"
            "Auth-User: \r\n"
            "Auth-Pass: \r\n"
            "Auth-Protocol: smtp\r\n"
            "Auth-Login-Attempt: 1\r\n"
            "Client-IP: 192.0.2.1\r\n"
            "Client-Host: [UNAVAILABLE]\r\n"
            "Auth-SMTP-Helo: client.example.org\r\n"
            "Auth-SMTP-From: MAIL FROM:<a@example.org> SIZE=100\r\n"
            "Auth-SMTP-To: RCPT TO:<b@example.net>\r\n"
            "\r\n");
}

TEST(AuthHttpRequest, IsNginxsInTls) {
  Asked asked;
  asked.with_tls("TLSv1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
  const auto tls_fields = [&] {
    const std::string request = AuthHttp({.host = "h"}).request(asked.question);
    const std::size_t begin = request.find("Auth-SSL: ");
    return begin == request.npos ? "none" : request.substr(begin);
  };
  EXPECT_EQ(
      tls_fields(),
      "Auth-SSL: on\r\nAuth-SSL-Protocol: TLSv1.2\r\nAuth-SSL-Cipher: ECDHE-RSA-AES128-GCM-SHA256\r\n\r\n");
  asked.question.asks_certificate = true;
  EXPECT_NE(tls_fields().find("\r\nAuth-SSL-Verify: NONE\r\n\r\n"), std::string::npos);
  asked.facts.tls.certificate = &asked.certificate;
  EXPECT_EQ(tls_fields(),
            "Auth-SSL: on\r\nAuth-SSL-Protocol: TLSv1.2\r\nAuth-SSL-Cipher: ECDHE-RSA-AES128-GCM-SHA256\r\n"
            "Auth-SSL-Verify: SUCCESS\r\nAuth-SSL-Subject: CN=client.example.org,O=Example\\, Inc.\r\n"
            "Auth-SSL-Issuer: O=Example,CN=Wietse Venema\r\nAuth-SSL-Serial: 0A1B\r\n"
            "Auth-SSL-Fingerprint: abcdef0123456789abcdef0123456789abcdef01\r\n\r\n");
  asked.certificate.verified = false;
  EXPECT_NE(tls_fields().find("\r\nAuth-SSL-Verify: FAILED\r\n"), std::string::npos);
  asked.facts.tls = {};
  EXPECT_EQ(tls_fields(), "none");
}

TEST(AuthHttpRequest, HasCredentialsEscaped) {
  Asked asked;
  const Credentials who{
      .method = "cram-md5", .user = "a b%", .password = "\x01\xff+\r\n", .salt = "<1.2@mx>", .attempt = 3};
  asked.question.credentials = &who;
  asked.question.step = Step::auth;
  EXPECT_EQ(AuthHttp({.host = "h"}).request(asked.question),
            "GET / HTTP/1.0\r\n"
            "Host: h\r\n"
            "Auth-Method: cram-md5\r\n"
            "Auth-User: a%20b%25\r\n"
            "Auth-Pass: %01\xff+%0D%0A\r\n"
            "Auth-Salt: <1.2@mx>\r\n"
            "Auth-Protocol: smtp\r\n"
            "Auth-Login-Attempt: 3\r\n"
            "Client-IP: 192.0.2.1\r\n"
            "Client-Host: [UNAVAILABLE]\r\n"
            "\r\n");
}

TEST(AuthHttpRequest, HasFurtherFieldsBehindNginxs) {
  Asked asked;
  asked.with_tls("TLSv1.3", "TLS_AES_128_GCM_SHA256");
  const std::string request =
      AuthHttp(
          {.host = "h", .target = "/", .headers = "X-Key: 1\r\n", .keep_alive = true, .extra_headers = true})
          .request(asked.question);
  EXPECT_EQ(request.substr(request.find("X-Key")),
            "X-Key: 1\r\n"
            "Auth-Step: rcpt\r\n"
            "Auth-Listener: mx\r\n"
            "Client-Port: 4711\r\n"
            "Server-IP: 2001:db8::25\r\n"
            "Server-Port: 25\r\n"
            "Auth-SSL-Group: X25519\r\n"
            "Auth-SSL-Resumed: no\r\n"
            "Auth-SMTP-Transaction: 7b.1.2\r\n"
            "Auth-SMTP-Recipients: 3\r\n"
            "Connection: keep-alive\r\n"
            "\r\n");
}

TEST(AuthHttpRequest, HasTheCertificateInPem) {
  Asked asked;
  asked.with_tls("TLSv1.3", "TLS_AES_128_GCM_SHA256");
  asked.facts.tls.certificate = &asked.certificate;
  const auto pem = [&](std::string_view der) {
    asked.certificate.der = der;
    const std::string request = AuthHttp({.host = "h", .pass_certificate = true}).request(asked.question);
    const std::string name = "Auth-SSL-Cert: ";
    const std::size_t begin = request.find(name);
    return begin == request.npos ? "none" : request.substr(begin + name.size());
  };
  const std::string begin = "-----BEGIN%20CERTIFICATE-----%0A";
  const std::string end = "%0A-----END%20CERTIFICATE-----%0A\r\n\r\n";
  EXPECT_EQ(pem(""), "none");
  EXPECT_EQ(pem("M"), begin + "TQ==" + end);
  EXPECT_EQ(pem("Ma"), begin + "TWE=" + end);
  EXPECT_EQ(pem("Man"), begin + "TWFu" + end);
  EXPECT_EQ(pem("\xfb\xff"), begin + "+/8=" + end);
  const std::string line = "TWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFuTWFu";
  std::string many;
  for (int i = 0; i < 16; ++i) many += "Man";
  EXPECT_EQ(pem(many), begin + line + end);
  EXPECT_EQ(pem(many + "M"), begin + line + "%0ATQ==" + end);
}

// Whatever a certificate holds: not a line more.
TEST(AuthHttpRequest, CantBeBrokenOutOf) {
  Asked asked;
  asked.with_tls("TLSv1.3", "TLS_AES_128_GCM_SHA256");
  asked.facts.tls.certificate = &asked.certificate;
  const auto lines = [&] {
    const std::string request =
        AuthHttp({.host = "h", .target = "/", .headers = "", .keep_alive = true, .extra_headers = true})
            .request(asked.question);
    EXPECT_EQ(request.find('\0'), std::string::npos);
    return std::count(request.begin(), request.end(), '\r') +
           std::count(request.begin(), request.end(), '\n');
  };
  const auto before = lines();
  asked.certificate.subject = "CN=x\r\nAuth-Status: OK\r\n\r\n\0y"sv;
  EXPECT_EQ(lines(), before);
}

TEST(AuthHttpResponse, Allows) {
  const Read r = fields("Auth-Status: OK\r\n");
  EXPECT_EQ(r.state, State::done);
  EXPECT_EQ(r.answer.verdict, Verdict::allow);
  EXPECT_EQ(r.answer.upstream, "");
  EXPECT_EQ(r.answer.upstream_address, "");
  EXPECT_FALSE(r.answer.user);
}

TEST(AuthHttpResponse, ChoosesAnUpstream) {
  EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: 25\r\n").answer.upstream_address,
            "127.0.0.1:25");
  EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-Port: 25\r\nAuth-Server: ::1\r\n").answer.upstream_address,
            "[::1]:25");
  EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-Server: [::1]\r\nAuth-Port: 25\r\n").answer.upstream_address,
            "[::1]:25");
  EXPECT_EQ(
      fields("Auth-Status: OK\r\nAuth-Server: unix:/run/a.sock\r\nAuth-Port: 25\r\n").answer.upstream_address,
      "unix:/run/a.sock");
  EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-Upstream: mta\r\n").answer.upstream, "mta");
  for (const char* port :
       {"", "Auth-Port: 0\r\n", "Auth-Port: 65536\r\n", "Auth-Port: 25x\r\n", "Auth-Port: -1\r\n"})
    EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-Server: 127.0.0.1\r\n"s + port).state, State::failed) << port;
}

TEST(AuthHttpResponse, SaysWhoTheClientIsToTheUpstream) {
  const Read r = fields("Auth-Status: OK\r\nauth-user: joe\r\nAUTH-PASS: \r\n");
  EXPECT_EQ(r.answer.user, "joe");
  EXPECT_EQ(r.answer.password, "");
  EXPECT_EQ(fields("Auth-Status: OK\r\nAuth-User: \r\n").answer.user, std::nullopt);  // nobody is no name
}

TEST(AuthHttpResponse, Refuses) {
  Read r = fields("Auth-Status: Invalid login or password\r\n");
  EXPECT_EQ(r.answer.verdict, Verdict::refuse);
  EXPECT_EQ(r.answer.reply, "535 5.7.0 Invalid login or password\r\n");
  EXPECT_TRUE(r.answer.closes);
  r = fields(
      "Auth-Status: Must issue a STARTTLS command first\r\nAuth-Error-Code: 530 5.7.0\r\nAuth-Wait: 3\r\n");
  EXPECT_EQ(r.answer.reply, "530 5.7.0 Must issue a STARTTLS command first\r\n");
  EXPECT_FALSE(r.answer.closes);
  EXPECT_EQ(r.answer.wait, 3U);
  // As nginx: OK is OK only as it is written.
  EXPECT_EQ(fields("Auth-Status: ok\r\n").answer.reply, "535 5.7.0 ok\r\n");
  EXPECT_EQ(response("HTTP/1.1 403 Forbidden\r\nAuth-Status: no\r\n\r\n").answer.reply, "535 5.7.0 no\r\n");
}

TEST(AuthHttpResponse, RefusesForNowWhereTheCodeIsNone) {
  for (const char* code : {"250", "354 go ahead", "99", "550-", "5.7.1", "", "550 4.7.1"}) {
    const Read r = fields("Auth-Status: no\r\nAuth-Error-Code: "s + code + "\r\n");
    EXPECT_EQ(r.answer.verdict, Verdict::refuse) << code;
    EXPECT_EQ(r.answer.reply, replies::service_confused) << code;
    EXPECT_NE(r.answer.remark, "");
  }
}

TEST(AuthHttpResponse, Waits) {
  const Read r = fields("Auth-Status: WAIT\r\nAuth-Wait: 2\r\n");
  EXPECT_EQ(r.answer.verdict, Verdict::ask_again);
  EXPECT_EQ(r.answer.wait, 2U);
  for (const char* wait : {"", "Auth-Wait: 0\r\n", "Auth-Wait: x\r\n", "Auth-Wait: 99999999999\r\n"})
    EXPECT_EQ(fields("Auth-Status: WAIT\r\n"s + wait).state, State::failed) << wait;
}

TEST(AuthHttpResponse, HasAStatusOr_NoAnswer) {
  EXPECT_EQ(fields("").fault, "no Auth-Status in the response");
  EXPECT_EQ(fields("Auth-Status:\r\n").fault, "no Auth-Status in the response");
  EXPECT_EQ(fields("Auth-Server: 127.0.0.1\r\nAuth-Port: 25\r\n").state, State::failed);
  EXPECT_EQ(response("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nouch").fault,
            "no Auth-Status in the response");
}

// A script that says OK and then dies has not decided.
TEST(AuthHttpResponse, AllowsWithSuccessOnly) {
  for (const char* status : {"301 x", "404 x", "500 x", "502"})
    EXPECT_EQ(response("HTTP/1.1 "s + status + "\r\nAuth-Status: OK\r\n\r\n").state, State::failed) << status;
  for (const char* status : {"200 OK", "204 No Content", "299", "200 "})
    EXPECT_EQ(response("HTTP/1.0 "s + status + "\r\nAuth-Status: OK\r\n\r\n").answer.verdict, Verdict::allow)
        << status;
}

TEST(AuthHttpResponse, MayEndLinesInLf) {
  EXPECT_EQ(response("HTTP/1.0 200 OK\nAuth-Status: no way\n\n").answer.reply, "535 5.7.0 no way\r\n");
}

TEST(AuthHttpResponse, IsNoneIfItIsPutTogetherBadly) {
  const std::string good = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";
  for (const std::string& bad : {
           "220 mx ESMTP\r\n"s,
           "\r\n"s,
           "HTTP/2 200 OK\r\n"s,
           "HTTP/1.1 20 OK\r\n"s,
           "HTTP/1.1 2000 OK\r\n"s,
           "HTTP/1.1  200 OK\r\n"s,
           "HTTP/1.x 200 OK\r\n"s,
           "http/1.1 200 OK\r\n"s,
           "HTTP/1.1 100 Continue\r\n"s,
           good + "250 ok\r\n",
           good + ": x\r\n",
           good + "Auth-Status : OK\r\n",
           good + " folded\r\n",
           good + "Auth-Status: OK\r\n",
           good + "X: a\rb\r\n",
           good + "X: a\0b\r\n"s,
           good + "X: a\x01"
                  "b\r\n",
           good + "X\x80: b\r\n",
           good + "Content-Length: x\r\n",
           good + "Content-Length: -1\r\n",
           good + "Content-Length: 1\r\nContent-Length: 2\r\n",
           good + "Content-Length: 99999999999999999999\r\n",
       })
    EXPECT_EQ(response(bad).state, State::failed) << bad;
}

// What was a value of somebody's becomes no reply of ours.
TEST(AuthHttpResponse, InjectsNothing) {
  const Read r = fields("Auth-Status: x\r\n250 2.0.0 Ok\r\nAuth-Error-Code: 550\r\n");
  EXPECT_EQ(r.state, State::failed);
  EXPECT_EQ(r.answer.reply, "");
}

TEST(AuthHttpResponse, HasAnEndToItsHead) {
  constexpr std::size_t limit = AuthHttpReader::longest_head;
  const auto padded = [](std::size_t size) {
    std::string head = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\nX: ";
    head.append(size - head.size() - 4, 'x');
    return head + "\r\n\r\n";
  };
  EXPECT_EQ(response(padded(limit)).state, State::last);
  EXPECT_EQ(response(padded(limit + 1)).state, State::failed);
  std::string many = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";
  for (std::size_t i = 1; i < AuthHttpReader::most_fields; ++i) many += "X: y\r\n";
  EXPECT_EQ(response(many + "\r\n").state, State::last);
  EXPECT_EQ(response(many + "X: y\r\n\r\n").state, State::failed);
}

TEST(AuthHttpResponse, KeepsAConnectionWhoseBodyEnds) {
  const std::string ok = "HTTP/1.1 200 OK\r\nAuth-Status: OK\r\n";
  const std::string keep = "Connection: Upgrade, Keep-Alive\r\n";
  EXPECT_EQ(response(ok + keep + "Content-Length: 3\r\n\r\n").state, State::draining);
  EXPECT_EQ(response(ok + keep + "Content-Length: 3\r\n\r\nab").state, State::draining);
  Read r = response(ok + keep + "Content-Length: 3\r\n\r\nabcdef");
  EXPECT_EQ(r.state, State::done);
  EXPECT_EQ(r.left, 3U);
  EXPECT_EQ(response(ok + keep + "Content-Length: 65536\r\n\r\n").state, State::draining);
  EXPECT_EQ(response(ok + keep + "Content-Length: 65537\r\n\r\n").state, State::last);
  EXPECT_EQ(response(ok + keep + "\r\n").state, State::last);
  EXPECT_EQ(response(ok + "Content-Length: 0\r\n\r\n").state, State::last);
  EXPECT_EQ(response(ok + keep + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").state, State::last);
  EXPECT_EQ(response(ok + keep + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n").state,
            State::last);
  EXPECT_EQ(response(ok + "Connection: keep-alive, close\r\nContent-Length: 0\r\n\r\n").state, State::last);
  EXPECT_EQ(response("HTTP/1.1 204 x\r\n" + keep + "Auth-Status: OK\r\n\r\n").state, State::done);
  for (const std::string& close : {"Connection: close\r\n" + keep, keep + "Connection: close\r\n"})
    EXPECT_EQ(response(ok + close + "Content-Length: 0\r\n\r\n").state, State::last);
  EXPECT_EQ(response(ok + keep + "Connection: x\r\nContent-Length: 0\r\n\r\n").state, State::done);
  EXPECT_EQ(response(ok + keep + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n").state, State::done);
  // It must not announce a body (RFC 9110 8.6); if it does, there may be one.
  const std::string none = "HTTP/1.1 204 x\r\nAuth-Status: OK\r\n" + keep;
  EXPECT_EQ(response(none + "Content-Length: 0\r\n\r\n").state, State::done);
  EXPECT_EQ(response(none + "Content-Length: 5\r\n\r\n").state, State::last);
}

}  // namespace
}  // namespace ringmx::policy
