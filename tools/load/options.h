// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "load/mail.h"
#include "load/quantity.h"
#include "load/script.h"
#include "tls/settings.h"

namespace ringmx::load {

// Where to: a name or a numeric address with a port, or the path of a unix socket.
struct Target {
  std::string host;
  std::uint16_t port = 0;
  std::string path;  // not empty: a unix socket
};

// Addresses to connect from, in turn: an IPv4 network, or one address.
struct Source {
  std::string address;
  unsigned host_bits = 0;
};

struct TlsOptions {
  bool implicit = false;  // from the first octet on; for STARTTLS see Manners
  bool resume = false;
  tls::ClientSettings client;
  TlsOptions() { client.verify = tls::ClientSettings::Verify::none; }  // load goes to one's own servers
};

struct Options {
  Target target;
  bool allow_remote = false;

  std::uint64_t count = 0;   // messages; 0: no end
  Nanoseconds duration = 0;  // 0: no end
  Nanoseconds ramp = 0;
  Nanoseconds drain = 10 * second;  // for what is under way at the end

  std::uint64_t sessions = 0;     // at once; 0: the default
  std::uint64_t per_session = 1;  // messages; 0: no end
  double rate = 0;                // messages per second; 0: closed loop
  bool idle = false;              // sessions that send nothing
  unsigned threads = 1;           // 0: as many as there are processors
  Source source;

  Manners manners;
  MailOptions mail;
  TlsOptions tls;
  [[nodiscard]] bool uses_tls() const noexcept { return tls.implicit || manners.starttls; }
  bool helo_given = false;  // else mail.helo is still empty

  Nanoseconds connect_timeout = 10 * second;
  Nanoseconds timeout = 60 * second;
  std::uint64_t slow = 0;   // bytes per second of a slow client; 0: none is slow
  double slow_share = 100;  // percent of the sessions

  std::string json;  // file, "-": standard output
  bool quiet = false;
  bool progress = false;  // even if nobody looks
  double tolerate = 0;    // percent of the messages
};

struct CommandLine {
  enum class Wish : std::uint8_t { run, help, version, complain };
  Wish wish = Wish::run;
  Options options;
  std::string problem;  // complain: one line
};

// Without the name of the program.
[[nodiscard]] CommandLine parse_command_line(const std::vector<std::string_view>& arguments);
[[nodiscard]] std::string_view help_text() noexcept;

}  // namespace ringmx::load
