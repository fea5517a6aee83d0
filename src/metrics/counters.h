// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ring/counter.h"

namespace ringmx::metrics {

using ring::Counter;

class Gauge {
 public:
  void add(std::int64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(std::int64_t v) noexcept { value_.store(v, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// Label sets are closed: an enum each, its last member `count`.
enum class Reject : std::uint8_t {
  session_limit,
  descriptors,
  draining,
  handshake_rate,
  count
};  // connections_rejected_total{reason}
enum class Close : std::uint8_t {
  quit,
  client_lost,
  timeout,
  too_slow,
  errors,
  violation,
  refused,
  draining,
  memory,
  count
};  // connections_closed_total{reason}
enum class ClosedIn : std::uint8_t {
  greeting,
  handshake,
  command,
  service_wait,
  upstream_wait,
  data,
  reply,
  count
};                                     // connections_closed_total{stage}
enum class Violation : std::uint8_t {  // protocol_violations_total{type}
  bare_lf_command,
  bare_cr_command,
  nul_command,
  long_line,
  unknown_command,
  foreign_protocol,
  early_talker,
  unauth_pipelining,
  starttls_injection,
  bare_lf_message,
  bare_cr_message,
  nul_message,
  tls_truncation,
  count
};
enum class MessageResult : std::uint8_t {
  accepted,
  refused,
  tempfailed,
  aborted,
  count
};                                                           // messages_total{result}
enum class Side : std::uint8_t { client, upstream, count };  // bytes_*_total{side}
enum class ConnectResult : std::uint8_t {
  ok,
  refused,
  timeout,
  unreachable,
  bad_greeting,
  tls,
  login,  // it would not be told who the client is
  error,
  count
};  // upstream_connections_total{result}
enum class AuthResult : std::uint8_t {
  accepted,
  refused,
  tempfailed,
  failed,  // cancelled, or no proper exchange
  count
};  // authentications_total{result}
enum class UpstreamLoss : std::uint8_t {
  closed,
  timeout,
  bad_reply,
  unsolicited,
  error,
  count
};  // upstream_lost_total{reason}
// Why a TLS handshake came to nothing: the reasons of the room tls but for its `none`, in its order, and
// three that it can't know.
enum class HandshakeFailure : std::uint8_t {
  not_tls,
  no_shared_version,
  no_shared_cipher,
  no_shared_group,
  no_shared_signature,
  alpn,
  decode,
  bad_record,
  no_certificate,
  unknown_ca,
  expired_certificate,
  wrong_name,
  bad_certificate,
  alert_from_peer,
  internal,
  peer_lost,
  timeout,
  rate_limited,  // not begun: see handshake_rate
  count
};  // tls_handshakes_total{result}
// Of a service: what it said, and why it said nothing.
enum class ServiceAnswer : std::uint8_t {
  allowed,
  refused,
  tempfailed,
  wait,
  count
};  // service_answers_total{result}
enum class ServiceFailure : std::uint8_t {
  connect,
  tls,
  timeout,
  closed,
  bad_answer,
  count
};                                                                    // service_failures_total{reason}
enum class ServiceConnect : std::uint8_t { ok, failed, tls, count };  // service_connections_total{result}
enum class TlsVersion : std::uint8_t { tls12, tls13, count };
enum class TlsCipher : std::uint8_t {
  aes_128_gcm,
  aes_256_gcm,
  chacha20_poly1305,
  count
};  // in the order of the room tls
enum class Flag : std::uint8_t { no, yes, count };
// Why ringmx does the records although ktls = "auto".
enum class KtlsFallback : std::uint8_t {
  unavailable,  // the kernel has no TLS
  slow,         // its AES is not accelerated
  suite,        // it does not know the connection's cipher
  refused,      // it would not take the keys
  count
};                                                               // ktls_fallback_total{reason}
enum class KeyUpdate : std::uint8_t { rekeyed, closed, count };  // tls_key_updates_total{result}
// Why a connection whose handshake was done could not be read any further: by the alert that it was ended
// with, or because the peer ended it so.
enum class BadRecord : std::uint8_t {
  bad_record_mac,
  record_overflow,
  unexpected_message,
  decode_error,
  illegal_parameter,
  no_renegotiation,
  alert_from_peer,
  count
};  // tls_bad_records_total{reason}
enum class RuleResult : std::uint8_t {
  allowed,
  refused,
  tempfailed,
  marked,
  count
};                                               // policy_rules_total{result}
inline constexpr std::size_t verb_slots = 24;    // >= smtp::verb_count
inline constexpr std::size_t stage_slots = 16;   // >= smtp::stage_count
inline constexpr std::size_t reply_classes = 4;  // 2xx 3xx 4xx 5xx

template <class Enum, class T = Counter>
class ByLabel {
 public:
  [[nodiscard]] T& operator[](Enum e) noexcept { return values_[static_cast<std::size_t>(e)]; }
  [[nodiscard]] const T& operator[](Enum e) const noexcept { return values_[static_cast<std::size_t>(e)]; }

 private:
  std::array<T, static_cast<std::size_t>(Enum::count)> values_{};
};

// How often something took how long. One writer, as a Counter.
class Histogram {
 public:
  // Upper bounds, included, in microseconds; what is longer goes into one more bucket.
  static constexpr std::array<std::int64_t, 14> bounds{1'000,     2'500,     5'000,      10'000,    25'000,
                                                       50'000,    100'000,   250'000,    500'000,   1'000'000,
                                                       2'500'000, 5'000'000, 10'000'000, 30'000'000};
  static constexpr std::size_t buckets = bounds.size() + 1;

  void observe(std::chrono::microseconds duration) noexcept {
    const std::int64_t time = std::max<std::int64_t>(duration.count(), 0);
    const auto* const bound = std::lower_bound(bounds.begin(), bounds.end(), time);
    counts_[static_cast<std::size_t>(bound - bounds.begin())].add();
    sum_.add(static_cast<std::uint64_t>(time));
  }
  [[nodiscard]] std::uint64_t count(std::size_t bucket) const noexcept { return counts_[bucket].value(); }
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_.value(); }  // microseconds

 private:
  std::array<Counter, buckets> counts_;
  Counter sum_;
};

struct ListenerCounters {
  Counter accepted;
  Gauge current;
  ByLabel<Reject> rejected;
  std::array<ByLabel<ClosedIn>, static_cast<std::size_t>(Close::count)> closed;
  ByLabel<TlsVersion, ByLabel<Flag>> handshakes;  // tls_handshakes_total{result="ok",version,resumed}
  ByLabel<HandshakeFailure> handshake_failures;
  ByLabel<AuthResult> authentications;
};

struct UpstreamCounters {
  Gauge idle;    // upstream_connections_current{state="idle"}
  Gauge leased;  // {state="leased"}
  Gauge connecting;
  ByLabel<ConnectResult> connects;
  Counter reused;
  ByLabel<UpstreamLoss> lost;
  ByLabel<Flag> handshakes;  // upstream_tls_handshakes_total{result="ok",resumed}
  ByLabel<HandshakeFailure> handshake_failures;
  std::array<std::array<Counter, reply_classes>, stage_slots> replies;  // upstream_replies_total{stage,class}
};

struct ServiceCounters {
  Histogram duration;  // of answers
  ByLabel<ServiceAnswer> answers;
  ByLabel<ServiceFailure> failures;
  Counter cached;  // answers that were known
  Gauge waiting;   // questions for which there is no connection
  Gauge idle;      // service_connections_current{state="idle"}
  Gauge busy;
  ByLabel<ServiceConnect> connects;
  Counter bytes_received;
  Counter bytes_sent;
};

// All that one reactor counts. Made before the reactor starts, read by the exposition at any time.
struct ReactorCounters {
  ReactorCounters(std::size_t listener_count, std::size_t upstream_count, std::size_t rule_count = 0,
                  std::size_t service_count = 0)
      : listeners(listener_count), upstreams(upstream_count), rules(rule_count), services(service_count) {}
  std::vector<ListenerCounters> listeners;  // in the order of the configuration
  std::vector<UpstreamCounters> upstreams;
  std::vector<ByLabel<RuleResult>> rules;
  std::vector<ServiceCounters> services;
  Histogram handshake_duration;              // of clients, from its first octet to the last; only if it is ok
  std::array<Counter, verb_slots> commands;  // commands_total{verb}
  std::array<Counter, reply_classes> own_replies;       // replies_total{origin="ringmx",class}
  std::array<Counter, reply_classes> upstream_replies;  // replies_total{origin="upstream",class}
  ByLabel<MessageResult> messages;
  Counter recipients_accepted;
  ByLabel<Violation> violations;  // protocol_violations_total{type,action="rejected"}
  ByLabel<Violation> mended;      // protocol_violations_total{type,action="normalized"}
  ByLabel<Side> bytes_received;
  ByLabel<Side> bytes_sent;
  // tls_connections_total{side,version,cipher,ktls}
  ByLabel<Side, ByLabel<TlsVersion, ByLabel<TlsCipher, ByLabel<Flag>>>> tls_connections;
  ByLabel<KtlsFallback> ktls_fallbacks;
  ByLabel<KeyUpdate> key_updates;
  ByLabel<Side, ByLabel<BadRecord>> bad_records;
  ring::ReactorStatistics uring;  // uring_*_total{reactor}
  Gauge draining;
};

}  // namespace ringmx::metrics
