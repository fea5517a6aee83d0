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

}  // namespace

Handshake::Handshake(net::Stream& stream, net::Stream::Owner& stream_owner, Owner& owner,
                     std::unique_ptr<tls::Connection> connection, tls::Role role, const Offload& offload)
    : stream_(stream),
      stream_owner_(&stream_owner),
      owner_(owner),
      connection_(std::move(connection)),
      role_(role),
      offload_(offload) {
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
      // The kernel would put what is still queued into records.
      if (stream_.unsent() == 0) finish();
      return;
    case tls::Progress::failed:
      return fail(connection_->failure());
  }
}

void Handshake::stream_sent() {
  if (connection_->progress() == tls::Progress::done && stream_.unsent() == 0) finish();
}

void Handshake::stream_ended(int error) {
  lost_ = true;
  fail({tls::Reason::none, tls::Alert::none,
        error == 0 ? "the peer closed in the middle of the handshake" : std::strerror(error)});
}

void Handshake::fail(tls::Failure failure) {
  failure_ = std::move(failure);
  give_back();
  owner_.handshake_failed(*this);
}

void Handshake::finish() {
  const tls::SessionKeys keys = connection_->keys();
  fallback_ = why_not_in_kernel(keys.receive.cipher());
  in_kernel_ = fallback_ == Fallback::none && offload_.wanted != tls::Offload::off;
  if (in_kernel_) {
    using net::TlsDirection;
    const int fd = stream_.fd();
    // The probe has seen both of them work. A socket with keys for one direction can't go back.
    if (net::set_kernel_tls_keys(fd, TlsDirection::receive, keys.receive.crypto_info()) != 0 ||
        net::set_kernel_tls_keys(fd, TlsDirection::transmit, keys.transmit.crypto_info()) != 0) {
      return fail(
          {tls::Reason::internal, tls::Alert::none, "the kernel refused the keys of this connection"});
    }
    if (keys.receive.version() == tls::Version::tls13) net::expect_no_tls_padding(fd);
    stream_.secure(std::make_unique<KernelTlsRecords>(fd, keys, role_));
  } else if (fallback_ != Fallback::none && offload_.wanted == tls::Offload::require) {
    return fail(
        {tls::Reason::internal, tls::Alert::none, "the kernel does not do the records of this cipher"});
  } else {
    stream_.secure(std::make_unique<UserTlsRecords>(keys, role_));
  }
  give_back();
  owner_.handshake_done(*this);
}

Fallback Handshake::why_not_in_kernel(tls::Cipher cipher) const {
  if (offload_.wanted == tls::Offload::off) return Fallback::none;
  const net::KernelTls& kernel = offload_.kernel;
  if (!kernel.available) return Fallback::unavailable;
  if (!has(kernel, cipher)) return Fallback::cipher;
  if (offload_.wanted == tls::Offload::automatic && !kernel.fast) return Fallback::slow;
  return net::attach_kernel_tls(stream_.fd()) == 0 ? Fallback::none : Fallback::refused;
}

}  // namespace ringmx::gateway
