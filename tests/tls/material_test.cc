// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/material.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "pair.h"
#include "tls/client_hello.h"
#include "tls/load.h"
#include "tls/x509.h"

namespace tls = ringmx::tls;

namespace {

using namespace tls_test;  // NOLINT
using tls::CertificateSource;
using tls::check_material;
using tls::CheckedMaterial;

std::string error_of(CertificateSource source) {
  const CheckedMaterial checked = check_material({std::move(source)}, {}, now);
  EXPECT_EQ(nullptr, checked.material);
  return checked.errors.size() == 1 ? checked.errors.front() : "";
}

void expect_error(const std::string& part, CertificateSource source) {
  const std::string error = error_of(std::move(source));
  EXPECT_NE(std::string::npos, error.find(part)) << error;
}

TEST(Material, IsTaken) {
  for (const char* name : {"p256", "p384", "rsa"}) {
    const CheckedMaterial checked = check_material({source(name)}, {}, now);
    ASSERT_NE(nullptr, checked.material) << checked.errors.front();
    EXPECT_TRUE(checked.warnings.empty());
    EXPECT_GT(checked.material->not_after(), now);
  }
}

TEST(Material, MayBeOneFileWithAnything) {
  CertificateSource all = source("p256");
  all.certificate.text =
      "Bag Attributes\n" + all.private_key.text + "subject=mx\n" + all.certificate.text + "the end\n";
  all.private_key = all.certificate;
  EXPECT_NE(nullptr, check_material({all}, {}, now).material);
}

TEST(Material, SaysWhatIsWrong) {
  CertificateSource other = source("p256");
  other.private_key = source("expired").private_key;
  expect_error("expired.key: this is not the private key of the certificate p256.pem", other);
  other.private_key = source("rsa").private_key;
  expect_error("rsa.key: ", other);

  CertificateSource empty = source("p256");
  empty.certificate.text = "";
  expect_error("p256.pem: there is no certificate in it", empty);
  empty = source("p256");
  empty.private_key.text = empty.certificate.text;
  expect_error("p256.key: there is no private key in it", empty);
  empty.private_key.text = source("p256").private_key.text + source("rsa").private_key.text;
  expect_error("more than one private key", empty);

  CertificateSource encrypted = source("p256");
  encrypted.private_key.text =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
  expect_error("is encrypted", encrypted);
  encrypted.private_key.text = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
  expect_error("can't be decoded", encrypted);

  CertificateSource cut = source("p256");
  cut.certificate.text = cut.certificate.text.substr(0, 200) + "\n-----END CERTIFICATE-----\n";
  expect_error("certificate 1 of 1 can't be decoded", cut);

  CertificateSource order = source("p256");
  const auto blocks = tls::pem_blocks(order.certificate.text, "CERTIFICATE");
  ASSERT_EQ(2U, blocks.size());
  order.certificate.text = std::string(blocks[1]) + "\n" + std::string(blocks[0]) + "\n";
  expect_error("did not issue the one before it", order);
  order = source("p256");
  order.certificate.text =
      std::string(tls::pem_blocks(order.certificate.text, "CERTIFICATE")[0]) + "\n" + read_file("other.pem");
  expect_error("certificate 2 of 2 (CN=Other Root) did not issue", order);

  expect_error("is no name", source("p256", {"mx .example.org"}));
  expect_error("is no name", source("p256", {"a.*.example.org"}));
  expect_error("is no name", source("p256", {""}));
  EXPECT_NE(std::string::npos, check_material({}, {}, now).errors.at(0).find("no certificate"));
}

TEST(Material, SaysAllThatIsWrong) {
  CertificateSource one = source("p256");
  one.private_key.text = "";
  CertificateSource two = source("rsa");
  two.certificate.text = "";
  EXPECT_EQ(2U, check_material({one, two, source("p384")}, {}, now).errors.size());
}

TEST(Material, WarnsBeforeItExpires) {
  const std::int64_t end = check_material({source("p256")}, {}, now).material->not_after();
  EXPECT_TRUE(check_material({source("p256")}, {}, end - 20 * 86400).warnings.empty());
  const auto soon = check_material({source("p256")}, {}, end - 3 * 86400);
  ASSERT_NE(nullptr, soon.material);
  EXPECT_NE(std::string::npos, soon.warnings.at(0).find("expires in 3 days"));
  const auto late = check_material({source("p256")}, {}, end);
  ASSERT_NE(nullptr, late.material);  // better an expired certificate than no mail
  EXPECT_NE(std::string::npos, late.warnings.at(0).find("has expired"));
  EXPECT_NE(std::string::npos,
            check_material({source("p256")}, {}, 1000).warnings.at(0).find("not valid yet"));
}

TEST(Material, ChecksClientCas) {
  EXPECT_NE(nullptr, check_material({source("p256")}, {"root.pem", read_file("root.pem")}, now).material);
  EXPECT_NE(
      std::string::npos,
      check_material({source("p256")}, {"ca.pem", ""}, now).errors.at(0).find("ca.pem: there is no CA"));
}

TEST(Material, LeavesOutCasThatCanNotBeUsed) {
  const std::string bad = read_file("expired_ca.pem") + read_file("ed25519_ca.pem");
  const CheckedMaterial some = check_material({source("p256")}, {"ca.pem", bad + read_file("root.pem")}, now);
  ASSERT_NE(nullptr, some.material);
  const auto blocks = tls::pem_blocks(some.material->client_cas(), "CERTIFICATE");
  ASSERT_EQ(1U, blocks.size());
  EXPECT_EQ(tls::pem_blocks(read_file("root.pem"), "CERTIFICATE").at(0), blocks[0]);
  ASSERT_EQ(2U, some.warnings.size());
  EXPECT_EQ("ca.pem: CA certificate 1 of 3 (CN=Expired Root) is left out: it has expired", some.warnings[0]);
  EXPECT_NE(std::string::npos,
            some.warnings[1].find("ca.pem: CA certificate 2 of 3 (CN=Ed25519 Root) is left out"));
  // A file that was cut off is not what was meant.
  EXPECT_NE(std::string::npos,
            tls::check_cas({"ca.pem", read_file("root.pem") +
                                          "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
                .error.find("CA certificate 2 of 2 can't be decoded"));

  for (const std::string& none : {read_file("expired_ca.pem"), read_file("ed25519_ca.pem"), bad}) {
    const CheckedMaterial checked = check_material({source("p256")}, {"ca.pem", none}, now);
    EXPECT_EQ(nullptr, checked.material);
    EXPECT_NE(std::string::npos,
              checked.errors.at(0).find("ca.pem: none of its CA certificates can be used"));
    const tls::CheckedCas cas = tls::check_cas({"ca.pem", none});
    EXPECT_EQ("", cas.cas);
    EXPECT_EQ(checked.errors.at(0), cas.error);
  }
}

TEST(Load, SaysWhichFileIsMissing) {
  const std::string folder = std::string(RINGMX_CERTIFICATES) + "/";
  tls::ServerSettings settings;
  settings.certificates = {{folder + "p256.pem", folder + "p256.key", {}}};
  EXPECT_NE(nullptr, tls::load_material(settings).material);
  settings.certificates.push_back({folder + "none.pem", folder, {}});
  settings.client_certificates = tls::ClientCertificates::request;
  settings.client_ca_file = folder + "none.ca";
  const auto loaded = tls::load_material(settings);
  EXPECT_EQ(nullptr, loaded.material);
  ASSERT_EQ(3U, loaded.errors.size());
  EXPECT_EQ(folder + "none.pem: can't be read: No such file or directory", loaded.errors[0]);
  EXPECT_NE(std::string::npos, loaded.errors[1].find(folder + ": can't be read")) << loaded.errors[1];
}

TEST(Load, TicketKeysFromFiles) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("ringmx-ticket-key-" + std::to_string(getpid()));
  tls::Tickets tickets;
  tickets.key_files = {path.string()};
  const tls::TicketKeys::Secret secret{};
  EXPECT_EQ(1U, tls::load_ticket_keys(tickets, secret).errors.size());
  std::ofstream(path) << std::string(80, 'k');
  EXPECT_NE(nullptr, tls::load_ticket_keys(tickets, secret).keys);
  std::ofstream(path) << std::string(79, 'k');
  EXPECT_NE(std::string::npos, tls::load_ticket_keys(tickets, secret).errors.at(0).find("has 79 octets"));
  std::filesystem::remove(path);
  tickets.key_files.clear();
  EXPECT_NE(nullptr, tls::load_ticket_keys(tickets, secret).keys);
  tickets.enabled = false;
  EXPECT_EQ(nullptr, tls::load_ticket_keys(tickets, secret).keys);
}

std::string tlv(unsigned tag, std::string_view content) {
  return static_cast<char>(tag) + std::string(1, static_cast<char>(content.size())) + std::string(content);
}
std::string attribute(std::string_view oid, std::string_view value, unsigned type = 0x0c) {
  return tlv(0x30, tlv(0x06, oid) + tlv(type, value));
}

TEST(DistinguishedName, CanNotBeMistaken) {
  const auto name = [](const std::string& sets) { return tls::distinguished_name(tlv(0x30, sets)); };
  EXPECT_EQ("", name(""));
  EXPECT_EQ("CN=a,C=DE",
            name(tlv(0x31, attribute("\x55\x04\x06", "DE")) + tlv(0x31, attribute("\x55\x04\x03", "a"))));
  EXPECT_EQ("CN=a\\,O=b", name(tlv(0x31, attribute("\x55\x04\x03", "a,O=b"))));
  EXPECT_EQ("CN=x\\0D\\0AInjected: y", name(tlv(0x31, attribute("\x55\x04\x03", "x\r\nInjected: y"))));
  EXPECT_EQ("CN=\\ a\\ ", name(tlv(0x31, attribute("\x55\x04\x03", " a "))));
  EXPECT_EQ("CN=\\#a\\+b\\\"\\\\", name(tlv(0x31, attribute("\x55\x04\x03", "#a+b\"\\"))));
  EXPECT_EQ("CN=a\\00b", name(tlv(0x31, attribute("\x55\x04\x03", std::string_view("a\0b", 3)))));
  EXPECT_EQ("CN=J\\C3\\BCrgen", name(tlv(0x31, attribute("\x55\x04\x03", "J\xc3\xbcrgen"))));
  EXPECT_EQ("CN=a+UID=b", name(tlv(0x31, attribute("\x55\x04\x03", "a") +
                                             attribute("\x09\x92\x26\x89\x93\xf2\x2c\x64\x01\x01", "b"))));
  EXPECT_EQ("2.5.4.97=x", name(tlv(0x31, attribute("\x55\x04\x61", "x"))));
  EXPECT_EQ("CN=#1E020041", name(tlv(0x31, attribute("\x55\x04\x03", std::string_view("\0A", 2), 0x1e))));
}

TEST(X509, SurvivesEveryCut) {
  const std::string name = tlv(0x30, tlv(0x31, attribute("\x55\x04\x03", "a")));
  const std::string validity = tlv(0x30, tlv(0x17, "260101000000Z") + tlv(0x18, "21260101000000Z"));
  const std::string key = tlv(0x30, tlv(0x30, tlv(0x06, "\x2a\x86\x48\xce\x3d\x02\x01") +
                                                  tlv(0x06, "\x2a\x86\x48\xce\x3d\x03\x01\x07")));
  const std::string der =
      tlv(0x30, tlv(0x30, tlv(0x02, "\x07") + tlv(0x30, "") + name + validity + name + key));
  const auto view = tls::parse_certificate(der);
  ASSERT_TRUE(view.has_value());
  EXPECT_EQ("\x07", view->serial);
  EXPECT_EQ(1767225600, view->not_before);
  EXPECT_EQ(4922899200, view->not_after);
  EXPECT_EQ(tls::KeyKind::ecdsa_p256, view->key);
  for (std::size_t i = 0; i < der.size(); ++i) {
    EXPECT_FALSE(tls::parse_certificate(der.substr(0, i)).has_value()) << i;
    for (int value = 0; value < 256; ++value) {
      std::string touched = der;
      touched[i] = static_cast<char>(value);
      if (const auto parsed = tls::parse_certificate(touched)) tls::distinguished_name(parsed->subject);
    }
  }
}

}  // namespace
