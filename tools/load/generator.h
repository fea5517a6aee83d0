// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/handshake.h"
#include "load/connection.h"
#include "load/options.h"
#include "load/report.h"
#include "load/schedule.h"
#include "load/statistics.h"
#include "metrics/counters.h"
#include "net/address.h"
#include "net/stream.h"
#include "ring/reactor.h"
#include "tls/connection.h"

namespace ringmx::load {

// The first errors of each kind, from any thread to any thread.
class SampleLog {
 public:
  void add(Sample sample) {
    const std::lock_guard lock(mutex_);
    samples_.push_back(std::move(sample));
  }
  // What came since the last call.
  [[nodiscard]] std::vector<Sample> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(samples_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Sample> samples_;
};

// The sessions of one thread, and which message each sends next. Of the run's messages and sessions it
// has every n-th, n being the number of threads, so that nothing is shared.
class Generator {
 public:
  static constexpr std::uint64_t samples_of_a_kind = 3;

  // `options`, `mail`, `target` and `samples` are shared by all threads; `statistics` is this one's.
  Generator(ring::Reactor& reactor, const Options& options, const Mail& mail, const net::Address& target,
            unsigned thread, unsigned threads, Statistics& statistics, SampleLog& samples);
  ~Generator();

  // The run begins now; the reactor stops when all is done.
  void start();
  // No new messages; what is under way may finish (--drain). A second one: at once.
  void stop();

 private:
  friend class Connection;

  // The clock in nanoseconds since the start: read anew; and as of the event at hand.
  [[nodiscard]] Nanoseconds clock() const noexcept;
  Nanoseconds tick() noexcept { return now_ = clock(); }
  [[nodiscard]] Nanoseconds now() const noexcept { return now_; }

  [[nodiscard]] net::StreamMemory memory() noexcept { return {receive_, receive_, text_, &records_}; }
  [[nodiscard]] net::StreamTraffic traffic() noexcept {
    return {statistics_.bytes_received, statistics_.bytes_sent};
  }
  // A socket for session `number`, bound to its source; -1 and errno.
  [[nodiscard]] int socket(std::uint64_t number) const;
  // A handshake to be, which resumes the session that there is.
  [[nodiscard]] std::unique_ptr<tls::Connection> tls_connection() const;
  void count_handshake(const gateway::Handshake& handshake, bool makes_session);
  // The first handshake has made a session; or there is none to wait for.
  void resume(std::shared_ptr<const tls::Session> session);
  void go_on_without_session();
  void sample(std::string kind, std::string_view text);

  // Of connections.
  void at_rest(Connection& connection);
  void message_is_over(Nanoseconds now) noexcept;
  void count_failure(Failure failure, std::size_t place, std::string_view text, bool with_message);
  void failed(Connection& connection);
  void closed(Connection& connection);

  // The next message, if there is one by now.
  [[nodiscard]] std::optional<Ticket> ticket();
  [[nodiscard]] bool more_messages() const noexcept;
  [[nodiscard]] std::uint64_t allowed_sessions() const noexcept;
  void open(std::optional<Ticket> ticket);
  // Open loop: gives what is due to sessions. False: there is more, and no session is free.
  [[nodiscard]] bool send_due();
  void advance();
  void count_missed() noexcept;
  void on_rested();
  void on_wake(int result, unsigned flags);
  void cut_off();
  void finish();

  ring::Reactor& reactor_;
  const Options& options_;
  const Mail& mail_;
  const net::Address& target_;
  Statistics& statistics_;
  SampleLog& samples_;
  Schedule schedule_;
  std::uint64_t threads_;
  ring::ReceivePool pool_;
  ring::ReceiveBuffers receive_;
  ring::BlockPool text_;
  ring::BlockPool records_;  // TLS records that are sealed here

  std::shared_ptr<const tls::ClientContext> tls_;  // null: no TLS
  std::shared_ptr<const tls::Session> session_;    // to be resumed; null: none yet
  bool awaits_session_;                            // --resume: the others wait until there is one
  gateway::Offload offload_;
  metrics::ReactorCounters tls_counters_{0, 0};  // of the handshakes; not shown

  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> resting_;  // open loop: sessions that wait for a message
  std::uint64_t next_message_;
  std::uint64_t next_session_;
  std::uint64_t recovering_ = 0;  // places of sessions that have just failed to come about
  Nanoseconds start_ = 0;
  Nanoseconds now_ = 0;
  bool stopping_ = false;

  __kernel_timespec wake_time_{};
  ring::OperationOf<&Generator::on_wake> wake_{*this};
  ring::DeferredOf<&Generator::advance> advance_{*this};
  ring::TimerOf<&Generator::advance> ramp_timer_{*this};
  ring::TimerOf<&Generator::on_rested> rest_timer_{*this};
  ring::TimerOf<&Generator::stop> end_timer_{*this};
  ring::TimerOf<&Generator::cut_off> drain_timer_{*this};
};

}  // namespace ringmx::load
