// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "metrics/counters.h"
#include "net/kernel_tls.h"
#include "net/records.h"
#include "tls/control.h"
#include "tls/records.h"

namespace ringmx::gateway {

// TLS for a net::Stream: the two rooms know nothing of each other, and meet here.

using BadRecords = metrics::ByLabel<metrics::BadRecord>;

// Sealed and opened here.
class UserTlsRecords final : public net::UserRecords {
 public:
  UserTlsRecords(const tls::SessionKeys& keys, tls::Role role, std::unique_ptr<tls::TicketTaker> tickets,
                 BadRecords& bad_records)
      : records_(keys, role, std::move(tickets)), bad_records_(bad_records) {}
  Opened open(std::span<char>& wire) override;
  Sealed seal(std::span<const std::string_view> pieces, std::span<char> out) override;
  std::size_t seal_end(std::span<char> out) override;

 private:
  tls::Records records_;
  BadRecords& bad_records_;
  tls::Alert last_ = tls::Alert::close_notify;  // what the last record says
};

// Sealed and opened by the kernel, whose keys change with a KeyUpdate (RFC 8446 4.6.3) if it can do that.
class KernelTlsRecords final : public net::KernelRecords {
 public:
  using KeyUpdates = metrics::ByLabel<metrics::KeyUpdate>;
  // `fd`: a socket whose records are the kernel's. Outlived by it.
  KernelTlsRecords(int fd, const tls::SessionKeys& keys, tls::Role role,
                   std::unique_ptr<tls::TicketTaker> tickets, KeyUpdates& key_updates,
                   BadRecords& bad_records)
      : fd_(fd),
        key_updates_(key_updates),
        bad_records_(bad_records),
        reader_(keys.receive.version(), role, std::move(tickets)),
        secrets_(keys.secrets) {}
  Event received(std::uint8_t type, std::string_view content) override;
  void rejected(int error) override;
  Record due() override;
  bool sent() override;
  void end() override { ending_ = true; }

 private:
  Event failed(tls::Alert alert);
  bool rekey(net::TlsDirection direction);

  int fd_;
  KeyUpdates& key_updates_;
  BadRecords& bad_records_;
  tls::ControlReader reader_;
  std::optional<tls::TrafficSecrets> secrets_;
  tls::Alert last_ = tls::Alert::close_notify;
  std::array<char, 2> last_content_{};
  bool key_update_due_ = false;
  bool ending_ = false;
  bool ended_ = false;
};

}  // namespace ringmx::gateway
