// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "metrics/counters.h"
#include "net/address.h"
#include "net/kernel_tls.h"
#include "net/stream.h"
#include "tls/connection.h"

namespace ringmx::gateway {

// Who does the records after a handshake.
struct Offload {
  tls::Offload wanted = tls::Offload::automatic;
  net::KernelTls kernel;  // what it can do
};

// A TLS handshake on a stream that its owner has: takes the stream's events for as long as it lasts, and
// gives them back with all bytes in records, the kernel's or our own. Reads no octet of what follows the
// handshake. Its time is the owner's to limit: destroying it ends it, and gives the stream back.
class Handshake final : private net::Stream::Owner {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    // The last thing that happens to a handshake: either of these. The owner may destroy it then.
    virtual void handshake_done(const Handshake& handshake) = 0;
    // What the peer should hear of it is queued; the stream is to be ended, or closed.
    virtual void handshake_failed(const Handshake& handshake) = 0;
    // After handshake_done(), perhaps much later and when the handshake has gone, as long as the stream is
    // read: see want_session(). The stream is not to be destroyed here.
    virtual void session_resumable(std::shared_ptr<const tls::Session>) {}
  };

  // `stream` is quiet, and nothing has come that is not looked at; what is queued leaves before.
  Handshake(net::Stream& stream, net::Stream::Owner& stream_owner, Owner& owner,
            std::unique_ptr<tls::Connection> connection, tls::Role role, const Offload& offload,
            metrics::ReactorCounters& counters);
  ~Handshake() override;
  void start();
  // Its time is over: it fails.
  void expire();
  // Of a client: its owner hears of the first session that others can resume. A server of TLS 1.3 sends its
  // tickets after the handshake, when it likes and among whatever else it says: nothing waits for them.
  void want_session() noexcept { wants_session_ = true; }

  [[nodiscard]] const tls::Facts& facts() const noexcept { return connection_->facts(); }
  // The peer has gone in the middle of it.
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  // What failed.
  [[nodiscard]] const std::string& failure_text() const noexcept { return failure_.text; }
  // For the log, on one line: with which client, why, and which alert was sent or received.
  [[nodiscard]] std::string failure_report() const;

  // For the metrics. (What the connection is like from here on is counted already.)
  [[nodiscard]] metrics::HandshakeFailure failure() const noexcept;
  [[nodiscard]] metrics::TlsVersion version() const noexcept;
  [[nodiscard]] metrics::Flag resumed() const noexcept;
  [[nodiscard]] std::chrono::microseconds duration() const;

 private:
  void go_on(tls::Progress progress);
  void complete();
  void finish();
  [[nodiscard]] std::optional<metrics::KtlsFallback> why_not_in_kernel(tls::Cipher cipher) const;
  void fail(tls::Failure failure);
  void give_back() noexcept;

  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_sent() override;
  void stream_closed() override {}

  net::Stream& stream_;
  net::Stream::Owner* stream_owner_;
  Owner& owner_;
  std::shared_ptr<tls::Connection> connection_;  // with whoever takes its tickets
  tls::Role role_;
  const Offload& offload_;
  metrics::ReactorCounters& counters_;
  std::optional<net::Address> peer_;  // a server's; a connection that is reset does not know it any more
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  tls::Failure failure_;
  bool lost_ = false;
  bool expired_ = false;
  bool wants_session_ = false;
};

}  // namespace ringmx::gateway
