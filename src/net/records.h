// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ringmx::net {

// What protects a stream's bytes on the wire, for a Stream that knows no TLS. An error that the peer
// should hear of is the implementation's to keep: it is what end() says then.

// Records that are sealed and opened in user space.
class UserRecords {
 public:
  virtual ~UserRecords() = default;

  enum class Event : std::uint8_t {
    want_input,
    data,
    end,     // the peer has said that it sends no more
    failed,  // nothing more can be made of what it sends
  };
  struct Opened {
    Event event;
    std::string_view data;  // in `wire`, opened where it stood, or in memory that lasts until the next call
  };
  // Takes records off the front of `wire` until there is something to say.
  virtual Opened open(std::span<char>& wire) = 0;

  struct Sealed {
    std::size_t taken;    // octets of the pieces
    std::size_t written;  // octets of `out`
  };
  // As much of the pieces as `out` has room for, as records.
  virtual Sealed seal(std::span<const std::string_view> pieces, std::span<char> out) = 0;
  // The last record: it says that no more will come. Fits into 128 octets.
  virtual std::size_t seal_end(std::span<char> out) = 0;
};

// Records that the kernel seals and opens (kTLS): all that is left is what is no data.
class KernelRecords {
 public:
  virtual ~KernelRecords() = default;

  enum class Event : std::uint8_t { none, end, failed };
  // A record of another type than data, or a part of one.
  virtual Event received(std::uint8_t type, std::string_view content) = 0;
  // The kernel could not open what came: EBADMSG, EMSGSIZE (too large) or EINVAL (no record).
  virtual void rejected(int error) = 0;

  struct Record {
    std::uint8_t type = 0;
    std::string_view content;  // empty: there is none
  };
  // A record to be sent before any further data; sent() is called when it has left.
  virtual Record due() = 0;
  // False: the connection can't go on.
  [[nodiscard]] virtual bool sent() = 0;
  // No more data will be sent: what says so becomes due.
  virtual void end() = 0;
};

}  // namespace ringmx::net
