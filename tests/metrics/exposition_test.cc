// SPDX-License-Identifier: GPL-3.0-or-later
#include "metrics/exposition.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "metrics/counters.h"
#include "metrics/process.h"

namespace ringmx::metrics {
namespace {

using testing::HasSubstr;
using testing::Not;

// A small house: one of each, so that a page can be read.
struct Small {
  ReactorCounters first{1, 1, 1, 1};
  ReactorCounters second{1, 1, 1, 1};
  Sources sources{"1.2.3", {"mx"}, {"mta"}, {"mail"}, {"rcpt"}, {&first, &second}, {"one"}, {"auth"}};
};

std::vector<std::string> lines_of(const std::string& page) {
  std::vector<std::string> lines;
  std::istringstream in(page);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The page without what the kernel says, which is another thing every time.
std::string without_process(const std::string& page) {
  std::string out;
  for (const std::string& line : lines_of(page))
    if (line.find("process_") == line.npos) out += line + "\n";
  return out;
}

// The page's lines about one family, HELP left out.
std::string lines_with(const std::string& page, const std::string& word) {
  std::string out;
  for (const std::string& line : lines_of(page))
    if (line.find(word) != line.npos && line.rfind("# HELP", 0) != 0) out += line + "\n";
  return out;
}

TEST(Exposition, TextFormatWordForWord) {
  Small s;
  s.first.listeners[0].accepted.add(3);
  s.second.listeners[0].accepted.add(4);
  s.first.listeners[0].current.add(2);
  s.second.listeners[0].current.add(-1);
  s.first.listeners[0].rejected[Reject::descriptors].add();
  s.first.commands[0].add(5);
  s.second.own_replies[3].add(6);
  s.first.upstream_replies[0].add(7);
  s.first.messages[MessageResult::tempfailed].add(8);
  s.second.recipients_accepted.add(18446744073);
  s.first.violations[Violation::long_line].add(9);
  s.first.mended[Violation::bare_lf_message].add(10);
  s.first.bytes_received[Side::client].add(11);
  s.first.bytes_sent[Side::upstream].add(12);
  s.first.upstreams[0].idle.set(13);
  s.first.upstreams[0].connects[ConnectResult::timeout].add(14);
  s.first.upstreams[0].reused.add(15);
  s.second.upstreams[0].lost[UpstreamLoss::unsolicited].add(16);
  s.second.upstreams[0].replies[0][2].add(17);
  s.first.rules[0][RuleResult::refused].add(20);
  s.second.rules[0][RuleResult::refused].add(21);
  s.second.rules[0][RuleResult::marked].add(22);
  s.first.uring.enters.add(18);
  s.second.uring.enters.add(19);
  s.second.draining.set(1);
  s.first.draining.set(1);

  // connections_closed has 63 series, and TLS more: they have tests of their own, as have services.
  std::string page;
  for (const std::string& line : lines_of(without_process(expose(s.sources, Format::prometheus_text)))) {
    const std::string name = line.substr(0, line.find_first_of("{ ", line[0] == '#' ? 7 : 0));
    const auto is = [&](const char* word) { return name.find(word) != name.npos; };
    if (!is("connections_closed") && !is("tls_") && !is("service_")) page += line + "\n";
  }
  EXPECT_EQ(page, R"(# HELP ringmx_build_info What is running here.
# TYPE ringmx_build_info gauge
ringmx_build_info{version="1.2.3"} 1
# HELP ringmx_connections_accepted_total Client connections accepted.
# TYPE ringmx_connections_accepted_total counter
ringmx_connections_accepted_total{listener="mx"} 7
# HELP ringmx_connections_current Client connections open now.
# TYPE ringmx_connections_current gauge
ringmx_connections_current{listener="mx"} 1
# HELP ringmx_connections_rejected_total Client connections turned away before their greeting, by reason.
# TYPE ringmx_connections_rejected_total counter
ringmx_connections_rejected_total{listener="mx",reason="session_limit"} 0
ringmx_connections_rejected_total{listener="mx",reason="descriptors"} 1
ringmx_connections_rejected_total{listener="mx",reason="draining"} 0
ringmx_connections_rejected_total{listener="mx",reason="handshake_rate"} 0
# HELP ringmx_commands_total Commands received from clients.
# TYPE ringmx_commands_total counter
ringmx_commands_total{verb="mail"} 5
# HELP ringmx_replies_total Replies sent to clients, by who gave them.
# TYPE ringmx_replies_total counter
ringmx_replies_total{origin="ringmx",class="2xx"} 0
ringmx_replies_total{origin="ringmx",class="3xx"} 0
ringmx_replies_total{origin="ringmx",class="4xx"} 0
ringmx_replies_total{origin="ringmx",class="5xx"} 6
ringmx_replies_total{origin="upstream",class="2xx"} 7
ringmx_replies_total{origin="upstream",class="3xx"} 0
ringmx_replies_total{origin="upstream",class="4xx"} 0
ringmx_replies_total{origin="upstream",class="5xx"} 0
# HELP ringmx_messages_total Messages, by what became of them.
# TYPE ringmx_messages_total counter
ringmx_messages_total{result="accepted"} 0
ringmx_messages_total{result="refused"} 0
ringmx_messages_total{result="tempfailed"} 8
ringmx_messages_total{result="aborted"} 0
# HELP ringmx_recipients_accepted_total Recipients that an upstream accepted.
# TYPE ringmx_recipients_accepted_total counter
ringmx_recipients_accepted_total 18446744073
# HELP ringmx_protocol_violations_total Violations of SMTP by clients, by what was done about them.
# TYPE ringmx_protocol_violations_total counter
ringmx_protocol_violations_total{type="bare_lf_command",action="rejected"} 0
ringmx_protocol_violations_total{type="bare_cr_command",action="rejected"} 0
ringmx_protocol_violations_total{type="nul_command",action="rejected"} 0
ringmx_protocol_violations_total{type="long_line",action="rejected"} 9
ringmx_protocol_violations_total{type="unknown_command",action="rejected"} 0
ringmx_protocol_violations_total{type="foreign_protocol",action="rejected"} 0
ringmx_protocol_violations_total{type="early_talker",action="rejected"} 0
ringmx_protocol_violations_total{type="unauth_pipelining",action="rejected"} 0
ringmx_protocol_violations_total{type="starttls_injection",action="rejected"} 0
ringmx_protocol_violations_total{type="bare_lf_message",action="rejected"} 0
ringmx_protocol_violations_total{type="bare_cr_message",action="rejected"} 0
ringmx_protocol_violations_total{type="nul_message",action="rejected"} 0
ringmx_protocol_violations_total{type="tls_truncation",action="rejected"} 0
ringmx_protocol_violations_total{type="bare_lf_command",action="normalized"} 0
ringmx_protocol_violations_total{type="bare_cr_command",action="normalized"} 0
ringmx_protocol_violations_total{type="nul_command",action="normalized"} 0
ringmx_protocol_violations_total{type="long_line",action="normalized"} 0
ringmx_protocol_violations_total{type="unknown_command",action="normalized"} 0
ringmx_protocol_violations_total{type="foreign_protocol",action="normalized"} 0
ringmx_protocol_violations_total{type="early_talker",action="normalized"} 0
ringmx_protocol_violations_total{type="unauth_pipelining",action="normalized"} 0
ringmx_protocol_violations_total{type="starttls_injection",action="normalized"} 0
ringmx_protocol_violations_total{type="bare_lf_message",action="normalized"} 10
ringmx_protocol_violations_total{type="bare_cr_message",action="normalized"} 0
ringmx_protocol_violations_total{type="nul_message",action="normalized"} 0
ringmx_protocol_violations_total{type="tls_truncation",action="normalized"} 0
# HELP ringmx_bytes_received_total Bytes received, by the side they came from.
# TYPE ringmx_bytes_received_total counter
ringmx_bytes_received_total{side="client"} 11
ringmx_bytes_received_total{side="upstream"} 0
# HELP ringmx_bytes_sent_total Bytes sent, by the side they went to.
# TYPE ringmx_bytes_sent_total counter
ringmx_bytes_sent_total{side="client"} 0
ringmx_bytes_sent_total{side="upstream"} 12
# HELP ringmx_upstream_connections_current Upstream connections open now.
# TYPE ringmx_upstream_connections_current gauge
ringmx_upstream_connections_current{upstream="mta",state="idle"} 13
ringmx_upstream_connections_current{upstream="mta",state="leased"} 0
ringmx_upstream_connections_current{upstream="mta",state="connecting"} 0
# HELP ringmx_upstream_connections_total Attempts to connect to an upstream.
# TYPE ringmx_upstream_connections_total counter
ringmx_upstream_connections_total{upstream="mta",result="ok"} 0
ringmx_upstream_connections_total{upstream="mta",result="refused"} 0
ringmx_upstream_connections_total{upstream="mta",result="timeout"} 14
ringmx_upstream_connections_total{upstream="mta",result="unreachable"} 0
ringmx_upstream_connections_total{upstream="mta",result="bad_greeting"} 0
ringmx_upstream_connections_total{upstream="mta",result="tls"} 0
ringmx_upstream_connections_total{upstream="mta",result="login"} 0
ringmx_upstream_connections_total{upstream="mta",result="error"} 0
# HELP ringmx_upstream_reused_total Transactions that an idle upstream connection was taken for.
# TYPE ringmx_upstream_reused_total counter
ringmx_upstream_reused_total{upstream="mta"} 15
# HELP ringmx_upstream_lost_total Upstream connections that ended before ringmx ended them.
# TYPE ringmx_upstream_lost_total counter
ringmx_upstream_lost_total{upstream="mta",reason="closed"} 0
ringmx_upstream_lost_total{upstream="mta",reason="timeout"} 0
ringmx_upstream_lost_total{upstream="mta",reason="bad_reply"} 0
ringmx_upstream_lost_total{upstream="mta",reason="unsolicited"} 16
ringmx_upstream_lost_total{upstream="mta",reason="error"} 0
# HELP ringmx_upstream_replies_total Replies of upstreams, by what they answered.
# TYPE ringmx_upstream_replies_total counter
ringmx_upstream_replies_total{upstream="mta",stage="rcpt",class="2xx"} 0
ringmx_upstream_replies_total{upstream="mta",stage="rcpt",class="3xx"} 0
ringmx_upstream_replies_total{upstream="mta",stage="rcpt",class="4xx"} 17
ringmx_upstream_replies_total{upstream="mta",stage="rcpt",class="5xx"} 0
# HELP ringmx_authentications_total Exchanges of AUTH that clients began, by what became of them.
# TYPE ringmx_authentications_total counter
ringmx_authentications_total{listener="mx",result="accepted"} 0
ringmx_authentications_total{listener="mx",result="refused"} 0
ringmx_authentications_total{listener="mx",result="tempfailed"} 0
ringmx_authentications_total{listener="mx",result="failed"} 0
# HELP ringmx_policy_rules_total Commands that a rule of the policy decided or marked, by what it said.
# TYPE ringmx_policy_rules_total counter
ringmx_policy_rules_total{rule="one",result="allowed"} 0
ringmx_policy_rules_total{rule="one",result="refused"} 41
ringmx_policy_rules_total{rule="one",result="tempfailed"} 0
ringmx_policy_rules_total{rule="one",result="marked"} 22
# HELP ringmx_uring_submissions_total Operations submitted to the ring.
# TYPE ringmx_uring_submissions_total counter
ringmx_uring_submissions_total{reactor="0"} 0
ringmx_uring_submissions_total{reactor="1"} 0
# HELP ringmx_uring_enters_total Calls of io_uring_enter.
# TYPE ringmx_uring_enters_total counter
ringmx_uring_enters_total{reactor="0"} 18
ringmx_uring_enters_total{reactor="1"} 19
# HELP ringmx_uring_cq_overflows_total Times that the completion queue overflowed.
# TYPE ringmx_uring_cq_overflows_total counter
ringmx_uring_cq_overflows_total{reactor="0"} 0
ringmx_uring_cq_overflows_total{reactor="1"} 0
# HELP ringmx_uring_buffer_starvations_total Receives that found no buffer free.
# TYPE ringmx_uring_buffer_starvations_total counter
ringmx_uring_buffer_starvations_total{reactor="0"} 0
ringmx_uring_buffer_starvations_total{reactor="1"} 0
# HELP ringmx_draining 1 while ringmx takes no new connections because it is to end.
# TYPE ringmx_draining gauge
ringmx_draining 1
)");
}

TEST(Exposition, ClosedConnectionsByReasonAndStage) {
  Small s;
  s.first.listeners[0].closed[static_cast<std::size_t>(Close::too_slow)][ClosedIn::data].add(5);
  s.second.listeners[0].closed[static_cast<std::size_t>(Close::too_slow)][ClosedIn::data].add(6);
  const std::string page = expose(s.sources, Format::prometheus_text);
  EXPECT_THAT(page, HasSubstr("\nringmx_connections_closed_total{listener=\"mx\",reason=\"too_slow\","
                              "stage=\"data\"} 11\n"));
  EXPECT_THAT(page, HasSubstr("\nringmx_connections_closed_total{listener=\"mx\",reason=\"quit\","
                              "stage=\"greeting\"} 0\n"));
  EXPECT_EQ(lines_of(lines_with(page, "connections_closed")).size(), 1U + 9U * 7U);
}

TEST(Exposition, HandshakesByWhatBecameOfThem) {
  Small s;
  s.first.listeners[0].handshakes[TlsVersion::tls13][Flag::no].add(3);
  s.second.listeners[0].handshakes[TlsVersion::tls13][Flag::no].add(4);
  s.first.listeners[0].handshakes[TlsVersion::tls12][Flag::yes].add(5);
  s.first.listeners[0].handshake_failures[HandshakeFailure::peer_lost].add(6);
  s.first.upstreams[0].handshakes[Flag::yes].add(8);
  s.second.upstreams[0].handshake_failures[HandshakeFailure::wrong_name].add(9);
  const std::string page = expose(s.sources, Format::prometheus_text);
  const std::string of_clients = lines_with(page, "ringmx_tls_handshakes_total");
  EXPECT_EQ(of_clients.substr(
                0, of_clients.find("ringmx_tls_handshakes_total{listener=\"mx\",result=\"not_tls\"}")),
            R"(# TYPE ringmx_tls_handshakes_total counter
ringmx_tls_handshakes_total{listener="mx",result="ok",version="TLSv1.2",resumed="false"} 0
ringmx_tls_handshakes_total{listener="mx",result="ok",version="TLSv1.2",resumed="true"} 5
ringmx_tls_handshakes_total{listener="mx",result="ok",version="TLSv1.3",resumed="false"} 7
ringmx_tls_handshakes_total{listener="mx",result="ok",version="TLSv1.3",resumed="true"} 0
)");
  EXPECT_THAT(of_clients,
              testing::EndsWith("{listener=\"mx\",result=\"internal\"} 0\n"
                                "ringmx_tls_handshakes_total{listener=\"mx\",result=\"peer_lost\"} 6\n"
                                "ringmx_tls_handshakes_total{listener=\"mx\",result=\"timeout\"} 0\n"
                                "ringmx_tls_handshakes_total{listener=\"mx\",result=\"rate_limited\"} 0\n"));
  const std::string of_upstreams = lines_with(page, "upstream_tls_handshakes_total");
  EXPECT_THAT(of_upstreams, HasSubstr("{upstream=\"mta\",result=\"ok\",resumed=\"true\"} 8\n"));
  EXPECT_THAT(of_upstreams, HasSubstr("{upstream=\"mta\",result=\"wrong_name\"} 9\n"));
  const std::size_t failures = static_cast<std::size_t>(HandshakeFailure::count);
  EXPECT_EQ(lines_of(of_clients).size(), 1 + 4 + failures);
  EXPECT_EQ(lines_of(of_upstreams).size(), 1 + 2 + failures);
}

TEST(Exposition, WhoDoesTheRecords) {
  Small s;
  s.first.tls_connections[Side::client][TlsVersion::tls13][TlsCipher::chacha20_poly1305][Flag::yes].add(3);
  s.second.tls_connections[Side::upstream][TlsVersion::tls12][TlsCipher::aes_128_gcm][Flag::no].add(4);
  s.first.ktls_fallbacks[KtlsFallback::suite].add(5);
  s.first.key_updates[KeyUpdate::closed].add(6);
  s.first.bad_records[Side::upstream][BadRecord::record_overflow].add(7);
  const std::string page = expose(s.sources, Format::prometheus_text);
  const std::string connections = lines_with(page, "tls_connections_total");
  EXPECT_EQ(lines_of(connections).size(), 1U + 2 * 2 * 3 * 2);
  EXPECT_THAT(
      connections,
      HasSubstr("{side=\"client\",version=\"TLSv1.3\",cipher=\"chacha20_poly1305\",ktls=\"true\"} 3\n"));
  EXPECT_THAT(connections,
              HasSubstr("{side=\"upstream\",version=\"TLSv1.2\",cipher=\"aes_128_gcm\",ktls=\"false\"} 4\n"));
  EXPECT_EQ(lines_with(page, "ktls_fallback_total"), R"(# TYPE ringmx_ktls_fallback_total counter
ringmx_ktls_fallback_total{reason="unavailable"} 0
ringmx_ktls_fallback_total{reason="slow"} 0
ringmx_ktls_fallback_total{reason="suite"} 5
ringmx_ktls_fallback_total{reason="refused"} 0
)");
  EXPECT_EQ(lines_with(page, "tls_key_updates_total"), R"(# TYPE ringmx_tls_key_updates_total counter
ringmx_tls_key_updates_total{result="rekeyed"} 0
ringmx_tls_key_updates_total{result="closed"} 6
)");
  const std::string bad = lines_with(page, "tls_bad_records_total");
  EXPECT_EQ(lines_of(bad).size(), 1U + 2 * 7);
  EXPECT_THAT(bad, HasSubstr("{side=\"upstream\",reason=\"record_overflow\"} 7\n"));
}

TEST(Exposition, Certificates) {
  Small s;
  EXPECT_EQ(lines_with(expose(s.sources, Format::prometheus_text), "tls_certificate"), "");
  s.sources.certificates = [] {
    return std::vector<Certificate>{{"mx", "/etc/a\"b.pem", 4922899200}, {"mx", "rsa.pem", -1}};
  };
  EXPECT_EQ(lines_with(expose(s.sources, Format::prometheus_text), "tls_certificate"),
            R"(# TYPE ringmx_tls_certificate_not_after_seconds gauge
ringmx_tls_certificate_not_after_seconds{listener="mx",certificate="/etc/a\"b.pem"} 4922899200
ringmx_tls_certificate_not_after_seconds{listener="mx",certificate="rsa.pem"} -1
)");
  EXPECT_THAT(expose(s.sources, Format::openmetrics),
              HasSubstr("\n# UNIT ringmx_tls_certificate_not_after_seconds seconds\n"));
}

TEST(Exposition, HandshakeDurations) {
  Small s;
  using std::chrono::microseconds;
  for (const std::int64_t bound : Histogram::bounds) {  // each in its own bucket, and just above in the next
    s.first.handshake_duration.observe(microseconds(bound));
    s.second.handshake_duration.observe(microseconds(bound + 1));
  }
  s.first.handshake_duration.observe(microseconds(-5));
  s.first.handshake_duration.observe(microseconds(0));
  const std::string samples = R"(ringmx_tls_handshake_duration_seconds_bucket{le="0.001"} 3
ringmx_tls_handshake_duration_seconds_bucket{le="0.0025"} 5
ringmx_tls_handshake_duration_seconds_bucket{le="0.005"} 7
ringmx_tls_handshake_duration_seconds_bucket{le="0.01"} 9
ringmx_tls_handshake_duration_seconds_bucket{le="0.025"} 11
ringmx_tls_handshake_duration_seconds_bucket{le="0.05"} 13
ringmx_tls_handshake_duration_seconds_bucket{le="0.1"} 15
ringmx_tls_handshake_duration_seconds_bucket{le="0.25"} 17
ringmx_tls_handshake_duration_seconds_bucket{le="0.5"} 19
ringmx_tls_handshake_duration_seconds_bucket{le="1.0"} 21
ringmx_tls_handshake_duration_seconds_bucket{le="2.5"} 23
ringmx_tls_handshake_duration_seconds_bucket{le="5.0"} 25
ringmx_tls_handshake_duration_seconds_bucket{le="10.0"} 27
ringmx_tls_handshake_duration_seconds_bucket{le="30.0"} 29
ringmx_tls_handshake_duration_seconds_bucket{le="+Inf"} 30
ringmx_tls_handshake_duration_seconds_sum 98.887014
ringmx_tls_handshake_duration_seconds_count 30
)";
  const std::string type = "# TYPE ringmx_tls_handshake_duration_seconds histogram\n";
  EXPECT_EQ(lines_with(expose(s.sources, Format::prometheus_text), "handshake_duration"), type + samples);
  EXPECT_EQ(lines_with(expose(s.sources, Format::openmetrics), "handshake_duration"),
            type + "# UNIT ringmx_tls_handshake_duration_seconds seconds\n" + samples);
}

TEST(Exposition, OpenMetricsDiffersInFamilyNamesInfoUnitsAndEof) {
  Small s;
  s.first.commands[0].add(5);
  const std::string page = expose(s.sources, Format::openmetrics);
  EXPECT_EQ(lines_with(page, "ringmx_build"),
            "# TYPE ringmx_build info\nringmx_build_info{version=\"1.2.3\"} 1\n");
  EXPECT_EQ(lines_with(page, "ringmx_commands"),
            "# TYPE ringmx_commands counter\nringmx_commands_total{verb=\"mail\"} 5\n");
  EXPECT_EQ(lines_with(page, "ringmx_draining"), "# TYPE ringmx_draining gauge\nringmx_draining 0\n");
  EXPECT_THAT(page, HasSubstr("# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n"
                              "process_cpu_seconds_total "));
  EXPECT_THAT(page, HasSubstr("# TYPE process_resident_memory_bytes gauge\n"
                              "# UNIT process_resident_memory_bytes bytes\nprocess_resident_memory_bytes "));
  EXPECT_THAT(page, testing::EndsWith("\n# EOF\n"));

  // Everything else is the same, sample for sample.
  const auto samples = [](const std::string& text) {
    std::string out;
    for (const std::string& line : lines_of(without_process(text)))
      if (line[0] != '#') out += line + "\n";
    return out;
  };
  EXPECT_EQ(samples(page), samples(expose(s.sources, Format::prometheus_text)));
  EXPECT_THAT(expose(s.sources, Format::prometheus_text),
              Not(testing::AnyOf(HasSubstr("# EOF"), HasSubstr("# UNIT"))));
}

// The rules that both formats share, and OpenMetrics' own: one HELP and one TYPE per family, in
// front of its samples; names that belong to the family; the samples of a family together.
TEST(Exposition, PagesAreWellFormed) {
  Small s;
  for (const Format format : {Format::prometheus_text, Format::openmetrics}) {
    std::set<std::string> families;
    std::set<std::string> series;
    std::string family;
    std::string type;
    for (const std::string& line : lines_of(expose(s.sources, format))) {
      std::istringstream words(line);
      std::string hash;
      std::string what;
      std::string name;
      words >> hash >> what >> name;
      if (what == "HELP" && hash == "#") {
        EXPECT_TRUE(families.insert(name).second) << name;
        family = name;
        type.clear();
      } else if (what == "TYPE") {
        EXPECT_EQ(name, family);
        words >> type;
      } else if (what == "UNIT") {
        std::string unit;
        words >> unit;
        EXPECT_THAT(family, testing::EndsWith("_" + unit));
      } else if (what == "EOF") {
        EXPECT_EQ(format, Format::openmetrics);
        family.clear();
      } else {
        ASSERT_FALSE(family.empty()) << line;
        const bool counter = format == Format::openmetrics && type == "counter";
        const bool info = format == Format::openmetrics && type == "info";
        const std::string sample = hash.substr(0, hash.find('{'));
        if (type == "histogram") {
          EXPECT_THAT(sample, testing::AnyOf(family + "_bucket", family + "_sum", family + "_count"));
        } else {
          EXPECT_EQ(sample, family + (counter ? "_total" : info ? "_info" : "")) << line;
        }
        EXPECT_TRUE(series.insert(hash).second) << "twice: " << hash;
        if (format == Format::prometheus_text && type == "counter") {
          EXPECT_THAT(family, testing::EndsWith("_total"));
        }
      }
    }
    EXPECT_GT(families.size(), 25U);
  }
}

// Gives every counter and gauge from `first` to the end of its struct a number of its own. A struct
// of counters is an array of them, whatever its members are called: what is added to it and
// forgotten in the exposition is missed on the page.
static_assert(sizeof(Counter) == sizeof(std::uint64_t) && sizeof(Gauge) == sizeof(std::uint64_t));
void number(Counter* first, const void* end, std::int64_t& next, std::set<std::int64_t>& given) {
  for (Counter* c = first; static_cast<const void*>(c) != end; ++c) {
    given.insert(next);
    c->add(static_cast<std::uint64_t>(next++));
  }
}

TEST(Exposition, EveryCounterOfTheStructsAppears) {
  ReactorCounters counters(1, 1, 1, 1);
  std::set<std::int64_t> given;
  std::int64_t next = 1'000'001;
  number(&counters.listeners[0].accepted, &counters.listeners[0] + 1, next, given);
  number(reinterpret_cast<Counter*>(&counters.upstreams[0]), &counters.upstreams[0] + 1, next, given);
  number(reinterpret_cast<Counter*>(&counters.rules[0]), &counters.rules[0] + 1, next, given);
  number(reinterpret_cast<Counter*>(&counters.services[0].answers), &counters.services[0] + 1, next, given);
  number(counters.commands.data(), &counters + 1, next, given);  // the histogram before has its own test
  const std::size_t of_service = sizeof(ServiceCounters) - offsetof(ServiceCounters, answers);
  ASSERT_EQ(given.size(), (sizeof(ListenerCounters) + sizeof(UpstreamCounters) + sizeof(ByLabel<RuleResult>) +
                           of_service + sizeof(ReactorCounters) - offsetof(ReactorCounters, commands)) /
                              sizeof(Counter));

  Sources sources{"1", {"mx"}, {"mta"}, {}, {}, {&counters}, {"one"}, {"auth"}};
  for (std::size_t i = 0; i < verb_slots; ++i) sources.verb_names.push_back("verb" + std::to_string(i));
  for (std::size_t i = 0; i < stage_slots; ++i) sources.stage_names.push_back("stage" + std::to_string(i));
  std::multiset<std::int64_t> found;
  for (const std::string& line : lines_of(expose(sources, Format::prometheus_text))) {
    if (line.rfind("ringmx_", 0) == 0 && line.find("build_info") == line.npos &&
        line.find("_duration_") == line.npos)
      found.insert(std::stoll(line.substr(line.rfind(' '))));
  }
  EXPECT_EQ(found, std::multiset<std::int64_t>(given.begin(), given.end()));
}

TEST(Exposition, ServicesHaveTheirOwnSeries) {
  Small s;
  s.first.services[0].answers[ServiceAnswer::refused].add(2);
  s.second.services[0].answers[ServiceAnswer::refused].add(3);
  s.first.services[0].failures[ServiceFailure::bad_answer].add(4);
  s.first.services[0].idle.set(5);
  s.first.services[0].duration.observe(std::chrono::milliseconds(2));
  s.second.services[0].duration.observe(std::chrono::milliseconds(40));
  const std::string page = expose(s.sources, Format::prometheus_text);
  EXPECT_THAT(page, HasSubstr("\nringmx_service_answers_total{service=\"auth\",result=\"refused\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("\nringmx_service_failures_total{service=\"auth\",reason=\"bad_answer\"} 4\n"));
  EXPECT_THAT(page, HasSubstr("\nringmx_service_connections_current{service=\"auth\",state=\"idle\"} 5\n"));
  const std::string name = "ringmx_service_answer_duration_seconds";
  EXPECT_THAT(page, HasSubstr("\n# TYPE " + name + " histogram\n"));
  EXPECT_THAT(page, HasSubstr("\n" + name + "_bucket{service=\"auth\",le=\"0.001\"} 0\n"));
  EXPECT_THAT(page, HasSubstr("\n" + name + "_bucket{service=\"auth\",le=\"0.0025\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("\n" + name + "_bucket{service=\"auth\",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("\n" + name + "_sum{service=\"auth\"} 0.042\n"));
  EXPECT_THAT(page, HasSubstr("\n" + name + "_count{service=\"auth\"} 2\n"));
}

TEST(Exposition, LabelValuesAreEscaped) {
  const ReactorCounters counters(1, 0);
  const Sources sources{"a\"b\\c\nd", {"m\"x"}, {}, {}, {}, {&counters}};
  const std::string page = expose(sources, Format::prometheus_text);
  EXPECT_THAT(page, HasSubstr("ringmx_build_info{version=\"a\\\"b\\\\c\\nd\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("ringmx_connections_current{listener=\"m\\\"x\"} 0\n"));
}

TEST(Exposition, SeveralListenersAndUpstreamsKeepTheirOrder) {
  ReactorCounters counters(2, 2);
  counters.listeners[1].accepted.add(5);
  counters.upstreams[0].reused.add(6);
  const std::string page =
      expose({"1", {"b", "a"}, {"y", "x"}, {}, {}, {&counters}}, Format::prometheus_text);
  EXPECT_THAT(
      page,
      HasSubstr("accepted_total{listener=\"b\"} 0\nringmx_connections_accepted_total{listener=\"a\"} 5\n"));
  EXPECT_THAT(page,
              HasSubstr("reused_total{upstream=\"y\"} 6\nringmx_upstream_reused_total{upstream=\"x\"} 0\n"));
}

TEST(Exposition, PromtoolFindsNothingToSay) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "SKIP: promtool (Debian package prometheus) is not installed";
  Small s;
  std::string name = testing::TempDir() + "ringmx-exposition-XXXXXX";
  const int fd = mkstemp(name.data());
  ASSERT_GE(fd, 0);
  const std::string page = expose(s.sources, Format::prometheus_text);
  ASSERT_EQ(write(fd, page.data(), page.size()), static_cast<ssize_t>(page.size()));
  close(fd);
  FILE* promtool = popen(("promtool check metrics 2>&1 <" + name).c_str(), "r");
  ASSERT_NE(promtool, nullptr);
  std::string said;
  for (int c = 0; (c = fgetc(promtool)) != EOF;) said += static_cast<char>(c);
  EXPECT_EQ(pclose(promtool), 0);
  EXPECT_EQ(said, "");
  unlink(name.c_str());
}

// ---------------------------------------------------------------- the process

TEST(Process, TellsTheTruth) {
  const Process before = read_process();
  ASSERT_TRUE(before.open_fds && before.max_fds && before.cpu_seconds && before.resident_bytes &&
              before.virtual_bytes && before.start_time_seconds);
  EXPECT_EQ(*before.max_fds, sysconf(_SC_OPEN_MAX));
  EXPECT_GT(*before.resident_bytes, 1 << 20);
  EXPECT_GT(*before.virtual_bytes, *before.resident_bytes);
  const auto now = static_cast<double>(time(nullptr));
  EXPECT_LT(*before.start_time_seconds, now + 2);
  EXPECT_GT(*before.start_time_seconds, now - 3600);

  const int extra[] = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY)};
  volatile std::uint64_t work = 0;
  timespec cpu{};
  do {
    for (int i = 0; i < 100000; ++i) work = work + 1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  } while (static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9 <
           *before.cpu_seconds + 0.01);
  const Process after = read_process();
  EXPECT_EQ(*after.open_fds, *before.open_fds + 2);
  EXPECT_GE(*after.cpu_seconds, *before.cpu_seconds + 0.01);
  EXPECT_EQ(*after.start_time_seconds, *before.start_time_seconds);
  for (const int fd : extra) close(fd);
}

TEST(Process, StandsOnThePage) {
  Small s;
  const std::string page = expose(s.sources, Format::prometheus_text);
  for (const char* name :
       {"process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_resident_memory_bytes",
        "process_virtual_memory_bytes", "process_start_time_seconds"})
    EXPECT_THAT(page, HasSubstr(std::string("\n").append(name).append(" "))) << name;
}

// ---------------------------------------------------------------- content negotiation

TEST(Negotiate, PlainTextUnlessOpenMetricsIsPreferred) {
  const auto open = [](std::string_view accept) { return negotiate(accept) == Format::openmetrics; };
  EXPECT_FALSE(open(""));
  EXPECT_FALSE(open("*/*"));
  EXPECT_FALSE(open("text/plain"));
  EXPECT_FALSE(open("text/html, application/xhtml+xml, */*;q=0.8"));
  EXPECT_FALSE(open("application/openmetrics-textual"));
  EXPECT_TRUE(open("application/openmetrics-text"));
  EXPECT_TRUE(open("Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.5"));
  EXPECT_FALSE(open("application/openmetrics-text;version=0.0.1"));
  EXPECT_FALSE(open("application/openmetrics-text;q=0"));
  EXPECT_FALSE(open("application/openmetrics-text;q=0.000"));
  EXPECT_FALSE(open("application/openmetrics-text;q=x"));
  EXPECT_FALSE(open("application/openmetrics-text;q=0.5,text/plain"));
  EXPECT_FALSE(open("text/*;q=0.9,application/openmetrics-text;q=0.899"));
  EXPECT_TRUE(open("text/*;q=0.9,application/openmetrics-text;q=0.9"));
  EXPECT_TRUE(open("*/*,text/plain;q=0.1,application/openmetrics-text;q=0.5"));
  EXPECT_TRUE(open(",,;=, application/openmetrics-text ,"));
  // Prometheus 2.42 and 3.
  EXPECT_TRUE(
      open("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
           "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
  EXPECT_TRUE(
      open("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
           "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
           "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"));
}

TEST(Negotiate, ContentTypes) {
  EXPECT_EQ(content_type(Format::prometheus_text), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(content_type(Format::openmetrics), "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

}  // namespace
}  // namespace ringmx::metrics
