// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/handshake.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "gateway/tls_records.h"

namespace ringmx::gateway {

namespace {

bool has(const net::KernelTls& kernel, tls::Cipher cipher) noexcept {
  switch (cipher) {
    case tls::Cipher::aes_128_gcm:
      return kernel.aes_128_gcm;
    case tls::Cipher::aes_256_gcm:
      return kernel.aes_256_gcm;
    case tls::Cipher::chacha20_poly1305:
      return kernel.chacha20_poly1305;
  }
  return false;
}

metrics::Flag flag(bool value) noexcept {
  return value ? metrics::Flag::yes : metrics::Flag::no;
}

// Only wolfSSL can read a ticket: so its part of the connection stays until there was one.
class FirstTicket final : public tls::TicketTaker {
 public:
  FirstTicket(std::shared_ptr<tls::Connection> connection, Handshake::Owner& owner)
      : connection_(std::move(connection)), owner_(owner) {}
  bool take(std::string_view message) override {
    if (connection_->take_ticket(message)) owner_.session_resumable(connection_->session());
    return true;
  }

 private:
  std::shared_ptr<tls::Connection> connection_;
  Handshake::Owner& owner_;
};

}  // namespace

Handshake::Handshake(net::Stream& stream, net::Stream::Owner& stream_owner, Owner& owner,
                     std::unique_ptr<tls::Connection> connection, tls::Role role, const Offload& offload,
                     metrics::ReactorCounters& counters)
    : stream_(stream),
      stream_owner_(&stream_owner),
      owner_(owner),
      connection_(std::move(connection)),
      role_(role),
      offload_(offload),
      counters_(counters),
      peer_(role == tls::Role::server ? net::Address::peer_of(stream.fd()) : std::nullopt) {
  stream_.set_owner(*this);
}

Handshake::~Handshake() {
  give_back();
}

void Handshake::give_back() noexcept {
  if (stream_owner_ != nullptr) stream_.set_owner(*std::exchange(stream_owner_, nullptr));
}

void Handshake::start() {
  go_on(connection_->progress());
}

void Handshake::stream_received(ring::Slice data) {
  std::string_view wire(data.data(), data.size());
  go_on(connection_->feed(wire));
}

void Handshake::go_on(tls::Progress progress) {
  stream_.send_copy(connection_->output());
  connection_->clear_output();
  switch (progress) {
    case tls::Progress::want_input:
      return stream_.receive_at_most(static_cast<std::uint32_t>(connection_->wanted()));
    case tls::Progress::done:
      return complete();
    case tls::Progress::failed:
      return fail(connection_->failure());
  }
}

void Handshake::stream_sent() {
  if (connection_->progress() == tls::Progress::done) complete();
}

void Handshake::complete() {
  // The kernel would put what is still queued into records.
  if (stream_.unsent() == 0) finish();
}

void Handshake::stream_ended(int error) {
  lost_ = true;
  fail({tls::Reason::none, tls::Alert::none,
        error == 0 ? "the peer closed in the middle of the handshake" : std::strerror(error)});
}

void Handshake::expire() {
  expired_ = true;
  fail({tls::Reason::none, tls::Alert::none, "it took too long"});
}

void Handshake::fail(tls::Failure failure) {
  failure_ = std::move(failure);
  give_back();
  owner_.handshake_failed(*this);
}

void Handshake::finish() {
  const tls::SessionKeys keys = connection_->keys();
  const tls::Cipher cipher = keys.receive.cipher();
  const bool for_client = role_ == tls::Role::server;
  const bool wanted =
      offload_.wanted != tls::Offload::off && !(offload_.wanted == tls::Offload::upstreams && for_client);
  const std::optional<metrics::KtlsFallback> fallback = wanted ? why_not_in_kernel(cipher) : std::nullopt;
  if (fallback) counters_.ktls_fallbacks[*fallback].add();
  if (fallback && offload_.wanted == tls::Offload::require) {
    return fail(
        {tls::Reason::internal, tls::Alert::none, "the kernel does not do this connection's records"});
  }
  // In TLS 1.2 the ticket is a part of the handshake.
  std::unique_ptr<tls::TicketTaker> tickets;
  if (wants_session_ && keys.receive.version() == tls::Version::tls13) {
    tickets = std::make_unique<FirstTicket>(connection_, owner_);
  }
  const bool in_kernel = wanted && !fallback;
  const auto side = for_client ? metrics::Side::client : metrics::Side::upstream;
  BadRecords& bad_records = counters_.bad_records[side];
  if (in_kernel) {
    using net::TlsDirection;
    const int fd = stream_.fd();
    // The probe has seen both of them work. A socket with keys for one direction can't go back.
    if (net::set_kernel_tls_keys(fd, TlsDirection::receive, keys.receive.crypto_info()) != 0 ||
        net::set_kernel_tls_keys(fd, TlsDirection::transmit, keys.transmit.crypto_info()) != 0) {
      return fail({tls::Reason::internal, tls::Alert::none, "the kernel refused this connection's keys"});
    }
    if (keys.receive.version() == tls::Version::tls13) net::expect_no_tls_padding(fd);
    stream_.secure(std::make_unique<KernelTlsRecords>(fd, keys, role_, std::move(tickets),
                                                      counters_.key_updates, bad_records));
  } else {
    stream_.secure(std::make_unique<UserTlsRecords>(keys, role_, std::move(tickets), bad_records));
  }
  counters_.tls_connections[side][version()][static_cast<metrics::TlsCipher>(cipher)][flag(in_kernel)].add();
  give_back();
  Owner& owner = owner_;
  const std::shared_ptr<const tls::Session> session = wants_session_ ? connection_->session() : nullptr;
  owner.handshake_done(*this);  // and with it goes `this`
  if (session != nullptr) owner.session_resumable(session);
}

std::optional<metrics::KtlsFallback> Handshake::why_not_in_kernel(tls::Cipher cipher) const {
  using metrics::KtlsFallback;
  const net::KernelTls& kernel = offload_.kernel;
  if (!kernel.available) return KtlsFallback::unavailable;
  if (!has(kernel, cipher)) return KtlsFallback::suite;
  if (offload_.wanted != tls::Offload::require && !kernel.fast) return KtlsFallback::slow;
  if (net::attach_kernel_tls(stream_.fd()) != 0) return KtlsFallback::refused;
  return std::nullopt;
}

metrics::HandshakeFailure Handshake::failure() const noexcept {
  if (lost_) return metrics::HandshakeFailure::peer_lost;
  if (expired_) return metrics::HandshakeFailure::timeout;
  // The same list, but for `none`: tests/metrics holds them together.
  return static_cast<metrics::HandshakeFailure>(static_cast<unsigned>(failure_.reason) - 1);
}

std::string Handshake::failure_report() const {
  const std::string_view reason = lost_ ? "peer_lost" : expired_ ? "timeout" : tls::label(failure_.reason);
  std::string report = "TLS handshake";
  if (role_ == tls::Role::server) report += " with " + (peer_ ? peer_->text() : "a client that has gone");
  report.append(" failed: ").append(reason).append(": ").append(failure_.text);
  if (failure_.alert != tls::Alert::none) {
    report.append("; alert ").append(tls::name_of(failure_.alert));
    report += failure_.reason == tls::Reason::alert_from_peer ? " received" : " sent";
  }
  return report;
}

metrics::TlsVersion Handshake::version() const noexcept {
  return facts().version == tls::Version::tls13 ? metrics::TlsVersion::tls13 : metrics::TlsVersion::tls12;
}

metrics::Flag Handshake::resumed() const noexcept {
  return flag(facts().resumed);
}

std::chrono::microseconds Handshake::duration() const {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin_);
}

}  // namespace ringmx::gateway
