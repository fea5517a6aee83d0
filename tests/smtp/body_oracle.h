// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>

#include "ringmx/smtp/body.h"

namespace ringmx::smtp {

// What BodyFilter has to do, byte by byte and without an eye to speed: what must have been handed
// out after every single byte of input.
class BodyOracle {
 public:
  BodyOracle(Framing from, Framing to) : from_(from), to_(to) {}

  void byte(char c, std::string& out) {
    if (ended) return;
    const bool after_cr = cr_;
    cr_ = false;
    if (after_cr && c == '\n') {
      if (client_dot_) {
        ended = true;
        if (to_ == Framing::dot) out += "\r\n";
      } else {
        line_end(out);
        client_stuffs_ = from_ == Framing::dot;
      }
      return;
    }
    if (after_cr) {
      faults.bare_cr = true;
      data(' ', out);
    }
    if (c == '\r') {
      cr_ = true;
    } else if (c == '\n') {
      faults.bare_lf = true;
      if (client_dot_) {  // a line of one dot
        client_dot_ = false;
        out += '.';  // towards Framing::dot the second one
        ++size;
      }
      line_end(out);
      client_stuffs_ = false;
    } else if (c == '\0') {
      faults.nul = true;
      data(' ', out);
    } else {
      data(c, out);
    }
  }

  void finish(std::string& out) {
    if (cr_) {
      cr_ = false;
      faults.bare_cr = true;
      data(' ', out);
    }
    if (to_ == Framing::dot) {
      if (!line_start_) line_end(out);
      out += ".\r\n";
    }
    ended = true;
  }

  bool ended = false;
  BodyFaults faults{};
  std::uint64_t size = 0;

 private:
  void data(char c, std::string& out) {
    if (client_dot_) {
      client_dot_ = false;
    } else if (line_start_ && c == '.') {
      if (to_ == Framing::dot) out += '.';
      if (client_stuffs_) {
        client_dot_ = true;
        return;
      }
    }
    line_start_ = false;
    out += c;
    ++size;
  }

  void line_end(std::string& out) {
    line_start_ = true;
    out += "\r\n";
    size += 2;
  }

  Framing from_;
  Framing to_;
  bool cr_ = false;                             // held back
  bool line_start_ = true;                      // in the message as it leaves
  bool client_stuffs_ = from_ == Framing::dot;  // a dot at this start of a line is the client's
  bool client_dot_ = false;                     // such a dot came, and nothing behind it yet
};

}  // namespace ringmx::smtp
