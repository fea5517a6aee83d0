// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <memory>

#include "net/kernel_tls.h"
#include "net/stream.h"
#include "tls/connection.h"

namespace ringmx::gateway {

// Who does the records after a handshake.
struct Offload {
  tls::Offload wanted = tls::Offload::automatic;
  net::KernelTls kernel;  // what it can do
};

// Why records are not the kernel's where that was wanted.
enum class Fallback : std::uint8_t { none, unavailable, slow, cipher, refused };

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
  };

  // `stream` is quiet, and nothing has come that is not looked at; what is queued leaves before.
  Handshake(net::Stream& stream, net::Stream::Owner& stream_owner, Owner& owner,
            std::unique_ptr<tls::Connection> connection, tls::Role role, const Offload& offload);
  ~Handshake() override;
  void start();

  [[nodiscard]] const tls::Facts& facts() const noexcept { return connection_->facts(); }
  [[nodiscard]] const tls::Failure& failure() const noexcept { return failure_; }
  // The peer has gone in the middle of it.
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] bool in_kernel() const noexcept { return in_kernel_; }
  [[nodiscard]] Fallback fallback() const noexcept { return fallback_; }

 private:
  void go_on(tls::Progress progress);
  void finish();
  [[nodiscard]] Fallback why_not_in_kernel(tls::Cipher cipher) const;
  void fail(tls::Failure failure);
  void give_back() noexcept;

  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_sent() override;
  void stream_closed() override {}

  net::Stream& stream_;
  net::Stream::Owner* stream_owner_;
  Owner& owner_;
  std::unique_ptr<tls::Connection> connection_;
  tls::Role role_;
  const Offload& offload_;
  tls::Failure failure_;
  bool lost_ = false;
  bool in_kernel_ = false;
  Fallback fallback_ = Fallback::none;
};

}  // namespace ringmx::gateway
