// SPDX-License-Identifier: GPL-3.0-or-later
// The self-signed certificate of tests/tls/ecdsa.pem: a fuzz target reads no files.
#pragma once

namespace ringmx_fuzz {

inline constexpr const char* certificate =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBpzCCAU2gAwIBAgIUGAkRZSSfCZCCQJ5Gof1ZAIlTYOgwCgYIKoZIzj0EAwIw\n"
    "GjEYMBYGA1UEAwwPbXguZXhhbXBsZS50ZXN0MCAXDTI2MTEyNDE4MzkwMVoYDzIx\n"
    "MjYxMDMxMTgzOTAxWjAaMRgwFgYDVQQDDA9teC5leGFtcGxlLnRlc3QwWTATBgcq\n"
    "hkjOPQIBBggqhkjOPQMBBwNCAASLZrzr4LUKxNEy6kSyZr9AJ6ybst5UweyRCa7C\n"
    "MVb9iqN8IDGzZLMoJgmTjrx+bdAubbiNnm+NAxQ7RxZwhY8jo28wbTAdBgNVHQ4E\n"
    "FgQU0ZIuCotkIfCk6lpILTw1Smusq6swHwYDVR0jBBgwFoAU0ZIuCotkIfCk6lpI\n"
    "LTw1Smusq6swDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgg9teC5leGFtcGxl\n"
    "LnRlc3QwCgYIKoZIzj0EAwIDSAAwRQIgfyuXQvi9Kqz8WnnMT/TnlRlhe6pMjRio\n"
    "aXJVyIjyN2YCIQDWHkKdK4lCrZftjwU5x9GAINKzChARtlMVZfMoMplhew==\n"
    "-----END CERTIFICATE-----\n";

inline constexpr const char* private_key =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgl5JiaVfx/aX5vm0U\n"
    "7zDoDNeuvM2U+BM4r6aDWYzAfWqhRANCAASLZrzr4LUKxNEy6kSyZr9AJ6ybst5U\n"
    "weyRCa7CMVb9iqN8IDGzZLMoJgmTjrx+bdAubbiNnm+NAxQ7RxZwhY8j\n"
    "-----END PRIVATE KEY-----\n";

}  // namespace ringmx_fuzz
