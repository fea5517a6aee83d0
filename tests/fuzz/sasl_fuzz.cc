// SPDX-License-Identifier: GPL-3.0-or-later
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "ringmx/smtp/base64.h"
#include "ringmx/smtp/sasl.h"

// An exchange with a client that says anything. Input: an octet that chooses the mechanism, and whether there
// is an initial response, and what is decided; then lines, each ended by LF. Those that begin with '@' are
// encoded first, so that what is in base64 is tried as well.

namespace {

using namespace ringmx::smtp;
using State = SaslExchange::State;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

bool printable(std::string_view s) {
  for (const char c : s) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return false;
  }
  return true;
}

void check(const SaslExchange& exchange, State state, Mechanism mechanism) {
  const std::string_view reply = exchange.reply();
  const SaslCredentials& c = exchange.credentials();
  if (state == State::complete) {
    require(!c.method.empty(), "a method");
    require(printable(c.user) && printable(c.authorization), "a user is printable");
    require(c.password.find('\0') == c.password.npos, "no NUL");
    require(!c.user.empty() || mechanism == Mechanism::external || mechanism == Mechanism::oauthbearer,
            "a user");
    require(!c.password.empty() || mechanism == Mechanism::external, "a password");
    require(c.salt.empty() == (mechanism != Mechanism::cram_md5), "a salt");
    return;
  }
  require(reply.size() >= 6 && reply.ends_with("\r\n") && reply.find('\n') == reply.size() - 1,
          "a reply is a line");
  require(reply.front() == (state == State::responding ? '3' : '5'), "a challenge or a failure");
  require(state != State::failed || c.password.empty(), "forgets what has failed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto mechanism = static_cast<Mechanism>(data[0] % mechanism_count);
  const unsigned choices = data[0] / mechanism_count;
  const auto next_line = [&input] {
    std::string_view line = input.substr(0, input.find('\n'));
    input.remove_prefix(line.size() < input.size() ? line.size() + 1 : line.size());
    if (!line.starts_with('@')) return std::string(line);
    std::string encoded;
    append_base64(encoded, line.substr(1));
    return encoded;
  };
  SaslExchange exchange(mechanism, mechanism == Mechanism::cram_md5 ? "<1@mx>" : "");
  State state{};
  if ((choices & 1U) != 0) {
    state = exchange.begin(next_line());
  } else {
    state = exchange.begin(std::nullopt);
  }
  check(exchange, state, mechanism);
  for (int responses = 0; state == State::responding; ++responses) {
    require(responses < 2, "ends");
    state = exchange.respond(next_line());
    check(exchange, state, mechanism);
  }
  if (state == State::complete && (choices & 2U) != 0) {
    state = exchange.refuse("535 5.7.8 No\r\n");
    check(exchange, state, mechanism);
    if (state == State::responding) state = exchange.respond(next_line());
    require(state == State::failed && exchange.reply() == "535 5.7.8 No\r\n", "refused is refused");
  }
  return 0;
}
