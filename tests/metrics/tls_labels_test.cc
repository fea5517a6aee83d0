// SPDX-License-Identifier: GPL-3.0-or-later
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "metrics/counters.h"
#include "metrics/exposition.h"
#include "tls/failure.h"
#include "tls/settings.h"

// The metrics do not know the room tls, and have enums of their own: the gateway casts from one to the other.

namespace ringmx::metrics {
namespace {

static_assert(static_cast<std::size_t>(HandshakeFailure::peer_lost) == tls::reasons - 1);
static_assert(static_cast<int>(TlsCipher::aes_128_gcm) == static_cast<int>(tls::Cipher::aes_128_gcm));
static_assert(static_cast<int>(TlsCipher::aes_256_gcm) == static_cast<int>(tls::Cipher::aes_256_gcm));
static_assert(static_cast<int>(TlsCipher::chacha20_poly1305) ==
              static_cast<int>(tls::Cipher::chacha20_poly1305));

TEST(TlsLabels, FailuresAreCalledWhatTheyAreCalledInTheLog) {
  ReactorCounters counters(1, 1);
  for (std::size_t reason = 1; reason < tls::reasons; ++reason) {
    counters.listeners[0].handshake_failures[static_cast<HandshakeFailure>(reason - 1)].add(reason);
    counters.upstreams[0].handshake_failures[static_cast<HandshakeFailure>(reason - 1)].add(reason);
  }
  const std::string page = expose({"1", {"mx"}, {"mta"}, {}, {}, {&counters}}, Format::prometheus_text);
  for (std::size_t reason = 1; reason < tls::reasons; ++reason) {
    const std::string result = "result=\"" + std::string(tls::label(static_cast<tls::Reason>(reason))) +
                               "\"} " + std::to_string(reason) + "\n";
    EXPECT_THAT(page, testing::HasSubstr("\nringmx_tls_handshakes_total{listener=\"mx\"," + result));
    EXPECT_THAT(page,
                testing::HasSubstr("\nringmx_upstream_tls_handshakes_total{upstream=\"mta\"," + result));
  }
}

TEST(TlsLabels, Versions) {
  ReactorCounters counters(1, 0);
  counters.listeners[0].handshakes[TlsVersion::tls12][Flag::no].add(12);
  counters.listeners[0].handshakes[TlsVersion::tls13][Flag::no].add(13);
  const std::string page = expose({"1", {"mx"}, {}, {}, {}, {&counters}}, Format::prometheus_text);
  for (const auto& [version, count] :
       {std::pair(tls::Version::tls12, 12), std::pair(tls::Version::tls13, 13)}) {
    EXPECT_THAT(page, testing::HasSubstr("version=\"" + std::string(tls::name_of(version)) +
                                         "\",resumed=\"false\"} " + std::to_string(count) + "\n"));
  }
}

}  // namespace
}  // namespace ringmx::metrics
