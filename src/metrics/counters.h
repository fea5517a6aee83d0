// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <atomic>
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
  count
};  // connections_rejected_total{reason}
enum class Close : std::uint8_t {
  quit,
  client_lost,
  timeout,
  too_slow,
  errors,
  violation,
  draining,
  memory,
  count
};  // connections_closed_total{reason}
enum class ClosedIn : std::uint8_t {
  greeting,
  command,
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
  bare_lf_message,
  bare_cr_message,
  nul_message,
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
  error,
  count
};  // upstream_connections_total{result}
enum class UpstreamLoss : std::uint8_t {
  closed,
  timeout,
  bad_reply,
  unsolicited,
  error,
  count
};                                               // upstream_lost_total{reason}
inline constexpr std::size_t verb_slots = 24;    // >= smtp::verb_count
inline constexpr std::size_t stage_slots = 12;   // >= smtp::stage_count
inline constexpr std::size_t reply_classes = 4;  // 2xx 3xx 4xx 5xx

template <class Enum, class T = Counter>
class ByLabel {
 public:
  [[nodiscard]] T& operator[](Enum e) noexcept { return values_[static_cast<std::size_t>(e)]; }
  [[nodiscard]] const T& operator[](Enum e) const noexcept { return values_[static_cast<std::size_t>(e)]; }

 private:
  std::array<T, static_cast<std::size_t>(Enum::count)> values_{};
};

struct ListenerCounters {
  Counter accepted;
  Gauge current;
  ByLabel<Reject> rejected;
  std::array<ByLabel<ClosedIn>, static_cast<std::size_t>(Close::count)> closed;
};

struct UpstreamCounters {
  Gauge idle;    // upstream_connections_current{state="idle"}
  Gauge leased;  // {state="leased"}
  Gauge connecting;
  ByLabel<ConnectResult> connects;
  Counter reused;
  ByLabel<UpstreamLoss> lost;
  std::array<std::array<Counter, reply_classes>, stage_slots> replies;  // upstream_replies_total{stage,class}
};

// All that one reactor counts. Made before the reactor starts, read by the exposition at any time.
struct ReactorCounters {
  ReactorCounters(std::size_t listener_count, std::size_t upstream_count)
      : listeners(listener_count), upstreams(upstream_count) {}
  std::vector<ListenerCounters> listeners;  // in the order of the configuration
  std::vector<UpstreamCounters> upstreams;
  std::array<Counter, verb_slots> commands;             // commands_total{verb}
  std::array<Counter, reply_classes> own_replies;       // replies_total{origin="ringmx",class}
  std::array<Counter, reply_classes> upstream_replies;  // replies_total{origin="upstream",class}
  ByLabel<MessageResult> messages;
  Counter recipients_accepted;
  ByLabel<Violation> violations;  // protocol_violations_total{type,action="rejected"}
  ByLabel<Violation> mended;      // protocol_violations_total{type,action="normalized"}
  ByLabel<Side> bytes_received;
  ByLabel<Side> bytes_sent;
  ring::ReactorStatistics uring;  // uring_*_total{reactor}
  Gauge draining;
};

}  // namespace ringmx::metrics
