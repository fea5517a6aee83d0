// SPDX-License-Identifier: GPL-3.0-or-later
// Proves the pinned wolfSSL and its user_settings.h: everything that ringmx wants of it is there,
// and what it must not have is not. No sockets: two buffers are the network.
#include <gtest/gtest.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::string source_directory;

std::string read_file(const std::string& name) {
  std::ifstream in(source_directory + "/" + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

const unsigned char* bytes(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

struct Free {
  void operator()(WOLFSSL_CTX* c) const { wolfSSL_CTX_free(c); }
  void operator()(WOLFSSL* s) const { wolfSSL_free(s); }
  void operator()(WOLFSSL_SESSION* s) const { wolfSSL_SESSION_free(s); }
};
using Context = std::unique_ptr<WOLFSSL_CTX, Free>;
using Ssl = std::unique_ptr<WOLFSSL, Free>;
using Session = std::unique_ptr<WOLFSSL_SESSION, Free>;

struct Wire {
  std::string in;
  std::string* out = nullptr;
  int secrets = 0;  // application traffic secrets seen
};

int receive(WOLFSSL*, char* to, int size, void* context) {
  std::string& in = static_cast<Wire*>(context)->in;
  if (in.empty()) return WOLFSSL_CBIO_ERR_WANT_READ;
  const std::size_t n = in.copy(to, static_cast<std::size_t>(size));
  in.erase(0, n);
  return static_cast<int>(n);
}

int transmit(WOLFSSL*, char* from, int size, void* context) {
  static_cast<Wire*>(context)->out->append(from, static_cast<std::size_t>(size));
  return size;
}

int secret(WOLFSSL*, int id, const unsigned char*, int size, void* context) {
  if (id == CLIENT_TRAFFIC_SECRET || id == SERVER_TRAFFIC_SECRET) {
    EXPECT_GE(size, 32);
    ++static_cast<Wire*>(context)->secrets;
  }
  return 0;
}

// Seals a ticket with AES-128-GCM; the name, which wolfSSL sends in clear, is authenticated.
int seal_ticket(WOLFSSL*, unsigned char* name, unsigned char* iv, unsigned char* mac, int seal,
                unsigned char* ticket, int size, int* out_size, void*) {
  static constexpr unsigned char key[16] = {0x52, 0x69, 0x6e, 0x67};
  const auto length = static_cast<word32>(size);
  Aes aes;
  if (wc_AesInit(&aes, nullptr, INVALID_DEVID) != 0) return WOLFSSL_TICKET_RET_FATAL;
  int error = wc_AesGcmSetKey(&aes, key, sizeof key);
  if (error == 0 && seal != 0) {
    std::fill_n(name, WOLFSSL_TICKET_NAME_SZ, static_cast<unsigned char>('k'));
    std::fill_n(iv, WOLFSSL_TICKET_IV_SZ, static_cast<unsigned char>(7));  // one ticket per key in a test
    std::fill_n(mac, WOLFSSL_TICKET_MAC_SZ, static_cast<unsigned char>(0));
    error = wc_AesGcmEncrypt(&aes, ticket, ticket, length, iv, 12, mac, 16, name, WOLFSSL_TICKET_NAME_SZ);
  } else if (error == 0) {
    error = wc_AesGcmDecrypt(&aes, ticket, ticket, length, iv, 12, mac, 16, name, WOLFSSL_TICKET_NAME_SZ);
  }
  wc_AesFree(&aes);
  *out_size = size;
  return error == 0 ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_REJECT;
}

struct Case {
  bool tls13;
  const char* certificate;
  const char* suite;  // as wolfSSL_CTX_set_cipher_list wants it
  const char* cipher;
  int group;
  const char* curve;
  int key_size;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.suite << " " << c.curve; }
};

// A server and a client with a wire between them.
class Pair {
 public:
  explicit Pair(const Case& c, WOLFSSL_SESSION* resume = nullptr, std::string client_protocol = "smtp") {
    server_context_.reset(
        wolfSSL_CTX_new(c.tls13 ? wolfTLSv1_3_server_method() : wolfTLSv1_2_server_method()));
    client_context_.reset(
        wolfSSL_CTX_new(c.tls13 ? wolfTLSv1_3_client_method() : wolfTLSv1_2_client_method()));
    const std::string certificate = read_file(std::string(c.certificate) + ".pem");
    const std::string key = read_file(std::string(c.certificate) + ".key");
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_CTX_use_certificate_chain_buffer(
                                   server_context_.get(), bytes(certificate), std::ssize(certificate)));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_CTX_use_PrivateKey_buffer(server_context_.get(), bytes(key),
                                                                 std::ssize(key), WOLFSSL_FILETYPE_PEM));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_CTX_set_TicketEncCb(server_context_.get(), seal_ticket));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_CTX_load_verify_buffer(client_context_.get(), bytes(certificate),
                                                              std::ssize(certificate), WOLFSSL_FILETYPE_PEM));
    wolfSSL_CTX_set_verify(client_context_.get(), WOLFSSL_VERIFY_PEER, nullptr);
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_CTX_set_cipher_list(client_context_.get(), c.suite)) << c.suite;
    for (WOLFSSL_CTX* context : {server_context_.get(), client_context_.get()}) {
      wolfSSL_CTX_set_session_cache_mode(context, WOLFSSL_SESS_CACHE_OFF);
      wolfSSL_CTX_SetIORecv(context, receive);
      wolfSSL_CTX_SetIOSend(context, transmit);
    }
    server.reset(wolfSSL_new(server_context_.get()));
    client.reset(wolfSSL_new(client_context_.get()));
    server_wire.out = &client_wire.in;
    client_wire.out = &server_wire.in;
    attach(server.get(), &server_wire);
    attach(client.get(), &client_wire);

    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_UseSNI(client.get(), WOLFSSL_SNI_HOST_NAME, "mx.example.test", 15));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_check_domain_name(client.get(), "mx.example.test"));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_UseSessionTicket(client.get()));
    std::string protocol = "smtp";
    EXPECT_EQ(WOLFSSL_SUCCESS,
              wolfSSL_UseALPN(server.get(), protocol.data(), 4, WOLFSSL_ALPN_FAILED_ON_MISMATCH));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_UseALPN(client.get(), client_protocol.data(),
                                               static_cast<unsigned>(client_protocol.size()),
                                               WOLFSSL_ALPN_FAILED_ON_MISMATCH));
    EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_UseSupportedCurve(client.get(), static_cast<word16>(c.group)));
    if (c.tls13) {
      EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_UseKeyShare(client.get(), static_cast<word16>(c.group)));
    }
    if (resume != nullptr) {
      EXPECT_EQ(WOLFSSL_SUCCESS, wolfSSL_set_session(client.get(), resume));
    }
  }

  // True once both sides are through; false if one of them fails.
  bool handshake() {
    bool server_done = false;
    bool client_done = false;
    for (int turn = 0; turn < 20 && !(server_done && client_done); ++turn) {
      if (!step(client_done, wolfSSL_connect(client.get()), client.get())) return false;
      if (!step(server_done, wolfSSL_accept(server.get()), server.get())) return false;
    }
    return server_done && client_done;
  }

  Wire server_wire;
  Wire client_wire;
  Ssl server;
  Ssl client;

 private:
  Context server_context_;
  Context client_context_;

  static void attach(WOLFSSL* ssl, Wire* wire) {
    wolfSSL_SetIOReadCtx(ssl, wire);
    wolfSSL_SetIOWriteCtx(ssl, wire);
    wolfSSL_KeepArrays(ssl);
    wolfSSL_set_tls13_secret_cb(ssl, secret, wire);
  }
  static bool step(bool& done, int result, WOLFSSL* ssl) {
    done = result == WOLFSSL_SUCCESS;
    return done || wolfSSL_get_error(ssl, result) == WOLFSSL_ERROR_WANT_READ;
  }
};

std::string exchange(WOLFSSL* from, WOLFSSL* to, const std::string& text) {
  EXPECT_EQ(std::ssize(text), wolfSSL_write(from, text.data(), static_cast<int>(text.size())));
  std::string got(text.size() + 1, '\0');
  const int n = wolfSSL_read(to, got.data(), static_cast<int>(got.size()));
  got.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return got;
}

class Handshake : public testing::TestWithParam<Case> {};

TEST_P(Handshake, NegotiatesWhatWasAskedFor) {
  const Case& c = GetParam();
  Pair pair(c);
  ASSERT_TRUE(pair.handshake());

  EXPECT_STREQ(c.tls13 ? "TLSv1.3" : "TLSv1.2", wolfSSL_get_version(pair.server.get()));
  for (WOLFSSL* ssl : {pair.server.get(), pair.client.get()}) {
    EXPECT_STREQ(c.cipher, wolfSSL_get_cipher(ssl));
    EXPECT_STREQ(c.curve, wolfSSL_get_curve_name(ssl));
    EXPECT_EQ(c.key_size, wolfSSL_GetKeySize(ssl));
    char* name = nullptr;
    unsigned short size = 0;
    ASSERT_EQ(WOLFSSL_SUCCESS, wolfSSL_ALPN_GetProtocol(ssl, &name, &size));
    EXPECT_EQ("smtp", std::string_view(name, size));
  }
  void* sni = nullptr;
  const unsigned short sni_size = wolfSSL_SNI_GetRequest(pair.server.get(), WOLFSSL_SNI_HOST_NAME, &sni);
  EXPECT_EQ("mx.example.test", std::string_view(static_cast<char*>(sni), sni_size));

  // What the kernel is going to be given.
  const auto key = static_cast<std::size_t>(c.key_size);
  EXPECT_EQ(
      std::string_view(reinterpret_cast<const char*>(wolfSSL_GetServerWriteKey(pair.server.get())), key),
      std::string_view(reinterpret_cast<const char*>(wolfSSL_GetServerWriteKey(pair.client.get())), key));
  EXPECT_NE(nullptr, wolfSSL_GetClientWriteIV(pair.server.get()));
  EXPECT_EQ(c.tls13 ? 2 : 0, pair.server_wire.secrets);

  const std::string mail(100'000, 'm');
  std::string got;
  EXPECT_EQ(std::ssize(mail), wolfSSL_write(pair.client.get(), mail.data(), static_cast<int>(mail.size())));
  std::vector<char> buffer(20'000);
  for (int n = 0;
       (n = wolfSSL_read(pair.server.get(), buffer.data(), static_cast<int>(buffer.size()))) > 0;) {
    got.append(buffer.data(), static_cast<std::size_t>(n));
  }
  EXPECT_EQ(mail, got);
  EXPECT_EQ("250 2.0.0 Ok\r\n", exchange(pair.server.get(), pair.client.get(), "250 2.0.0 Ok\r\n"));
}

TEST_P(Handshake, ResumesByTicket) {
  const Case& c = GetParam();
  Session session;
  {
    Pair pair(c);
    ASSERT_TRUE(pair.handshake());
    EXPECT_FALSE(wolfSSL_session_reused(pair.server.get()));
    exchange(pair.server.get(), pair.client.get(), "220 mx\r\n");  // in TLS 1.3 the ticket comes before it
    session.reset(wolfSSL_get1_session(pair.client.get()));
  }
  ASSERT_NE(nullptr, session);
  Pair pair(c, session.get());
  ASSERT_TRUE(pair.handshake());
  EXPECT_TRUE(wolfSSL_session_reused(pair.server.get()));
  EXPECT_EQ("EHLO a\r\n", exchange(pair.client.get(), pair.server.get(), "EHLO a\r\n"));
}

constexpr int hybrid = WOLFSSL_X25519MLKEM768;
constexpr int x25519 = WOLFSSL_ECC_X25519;
constexpr int p256 = WOLFSSL_ECC_SECP256R1;
INSTANTIATE_TEST_SUITE_P(
    Wolfssl, Handshake,
    testing::Values(
        Case{true, "ecdsa", "TLS13-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", hybrid, "X25519MLKEM768",
             16},
        Case{true, "ecdsa", "TLS13-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", x25519, "X25519", 16},
        Case{true, "ecdsa", "TLS13-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", p256, "SECP256R1", 16},
        Case{true, "ecdsa", "TLS13-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384", x25519, "X25519", 32},
        Case{true, "ecdsa", "TLS13-CHACHA20-POLY1305-SHA256", "TLS_CHACHA20_POLY1305_SHA256", x25519,
             "X25519", 32},
        Case{true, "rsa", "TLS13-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", hybrid, "X25519MLKEM768", 16},
        Case{false, "ecdsa", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
             x25519, "X25519", 16},
        Case{false, "rsa", "ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", p256,
             "SECP256R1", 32},
        Case{false, "rsa", "ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
             x25519, "X25519", 32}),
    [](const testing::TestParamInfo<Case>& i) {
      return std::string(i.param.certificate) + "_" + i.param.cipher + "_" + i.param.curve;
    });

TEST(Wolfssl, OffersEcdheWithAeadOnly) {
  Context context(wolfSSL_CTX_new(wolfTLSv1_2_server_method()));
  for (const char* suite : {"AES128-GCM-SHA256", "AES128-SHA", "ECDHE-RSA-AES128-SHA",
                            "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256", "NULL-SHA256"}) {
    EXPECT_NE(WOLFSSL_SUCCESS, wolfSSL_CTX_set_cipher_list(context.get(), suite)) << suite;
  }
}

constexpr Case tls13{true, "ecdsa", "TLS13-AES128-GCM-SHA256", "", x25519, "", 16};

TEST(Wolfssl, RefusesAClientThatWantsAnotherProtocol) {
  EXPECT_TRUE(Pair(tls13, nullptr, "smtp").handshake());
  EXPECT_FALSE(Pair(tls13, nullptr, "h2").handshake());
}

TEST(Wolfssl, NoticesAFlippedBit) {
  Pair pair(tls13);
  ASSERT_TRUE(pair.handshake());
  exchange(pair.server.get(), pair.client.get(), "220 mx\r\n");
  ASSERT_EQ(6, wolfSSL_write(pair.client.get(), "QUIT\r\n", 6));
  pair.server_wire.in.back() = static_cast<char>(pair.server_wire.in.back() ^ 1);
  char got[16];
  const int n = wolfSSL_read(pair.server.get(), got, sizeof got);
  EXPECT_LT(n, 0);
  EXPECT_EQ(AES_GCM_AUTH_E, wolfSSL_get_error(pair.server.get(), n));
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2) return 2;
  source_directory = argv[1];
  wolfSSL_Init();
  const int result = RUN_ALL_TESTS();
  wolfSSL_Cleanup();
  return result;
}
