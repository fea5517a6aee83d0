// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/session_facts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstring>
#include <utility>

namespace ringmx::gateway {
namespace {

// `ask`: getpeername() or getsockname(). A peer that has gone has no address; its session is over anyway.
void address_of(int fd, int (*ask)(int, sockaddr*, socklen_t*), policy::Address& address,
                std::uint16_t& port) {
  union {
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } socket{};
  socklen_t size = sizeof(socket);
  if (ask(fd, &socket.any, &size) != 0) return;
  if (socket.any.sa_family == AF_INET) {
    address = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::memcpy(&address[12], &socket.v4.sin_addr, 4);
    port = ntohs(socket.v4.sin_port);
  } else if (socket.any.sa_family == AF_INET6) {
    std::memcpy(address.data(), &socket.v6.sin6_addr, address.size());
    port = ntohs(socket.v6.sin6_port);
  }
}

// What points into `from`, in a copy of it.
smtp::Path moved(const smtp::Path& path, std::string_view from, std::string_view to) {
  const auto part = [&](std::string_view s) {
    return s.empty() ? std::string_view()
                     : to.substr(static_cast<std::size_t>(s.data() - from.data()), s.size());
  };
  return {part(path.mailbox), part(path.local_part), part(path.domain)};
}

policy::Fingerprint fingerprint_of(std::string_view hexadecimal) {
  policy::Fingerprint out{};
  if (hexadecimal.size() != out.size() * 2) return out;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const char* const octet = hexadecimal.data() + i * 2;
    std::from_chars(octet, octet + 2, out[i], 16);
  }
  return out;
}

}  // namespace

SessionFacts::SessionFacts(int fd) {
  address_of(fd, ::getpeername, client_, client_port_);
  address_of(fd, ::getsockname, server_, server_port_);
}

void SessionFacts::applied(const smtp::Decision& decision) {
  using smtp::Action;
  switch (decision.action) {
    case Action::greet:
    case Action::greet_esmtp:
      helo_ = decision.argument;
      esmtp_ = decision.action == Action::greet_esmtp;
      return envelope_.reset();
    case Action::mail: {
      auto envelope = std::make_unique<Envelope>();
      envelope->mail_argument = decision.argument;
      envelope->sender = moved(decision.mail.reverse_path, decision.argument, envelope->mail_argument);
      envelope->size = decision.mail.size;
      envelope_ = std::move(envelope);
      return;
    }
    case Action::rset:
      return envelope_.reset();
    default:
      return;
  }
}

void SessionFacts::tls_started(const tls::Facts& tls) {
  helo_.clear();
  esmtp_ = false;
  envelope_.reset();
  tls_ = {.version = static_cast<std::uint16_t>(tls.version),
          .resumed = tls.resumed,
          .protocol = tls::name_of(tls.version),
          .suite = tls.suite,
          .group = tls::name_of(tls.group),
          .certificate = nullptr};
  if (!tls.certificate) return;
  auto certificate = std::make_unique<Certificate>();
  certificate->peer = *tls.certificate;
  const tls::PeerCertificate& peer = certificate->peer;
  certificate->facts = {.verified = peer.verified,
                        .sha256 = fingerprint_of(peer.sha256),
                        .subject = peer.subject,
                        .issuer = peer.issuer,
                        .serial = peer.serial,
                        .sha1 = peer.sha1};
  certificate_ = std::move(certificate);
  tls_.certificate = &certificate_->facts;
}

policy::Facts SessionFacts::at(const smtp::Decision& decision) const {
  policy::Facts facts;
  facts.client = client_;
  facts.client_port = client_port_;
  facts.server = server_;
  facts.server_port = server_port_;
  facts.helo = helo_;
  facts.esmtp = esmtp_;
  facts.tls = tls_;
  if (decision.action == smtp::Action::mail) {
    facts.sender = decision.mail.reverse_path;
    facts.mail_argument = decision.argument;
    facts.size = decision.mail.size;
  } else if (envelope_ != nullptr) {
    facts.sender = envelope_->sender;
    facts.mail_argument = envelope_->mail_argument;
    facts.size = envelope_->size;
  }
  if (decision.action == smtp::Action::rcpt) {
    facts.recipient = decision.rcpt.forward_path;
    facts.rcpt_argument = decision.argument;
  }
  return facts;
}

}  // namespace ringmx::gateway
