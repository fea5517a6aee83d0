// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/sasl.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "ringmx/smtp/base64.h"

namespace ringmx::smtp {
namespace {

using namespace std::literals;
using State = SaslExchange::State;

std::string b64(std::string_view octets) {
  std::string out;
  append_base64(out, octets);
  return out;
}
std::string challenge_of(std::string_view text) {
  return "334 " + b64(text) + "\r\n";
}

// Everything that an exchange says, in one line: "334 text ... = method/authorization/user/password/salt", or
// the code and status of its end.
std::string run(Mechanism mechanism, std::optional<std::string> initial, std::vector<std::string> lines,
                std::string challenge = {}) {
  SaslExchange exchange(mechanism, std::move(challenge));
  std::string out;
  State state = exchange.begin(initial);
  std::size_t next = 0;
  for (; state == State::responding; ++next) {
    const std::string_view reply = exchange.reply();
    EXPECT_TRUE(reply.starts_with("334 ") && reply.ends_with("\r\n")) << reply;
    std::string text(reply.substr(4, reply.size() - 6));
    std::string octets(decoded_size(text.size()), ' ');
    const auto size = decode_base64(text, octets.data());
    EXPECT_TRUE(size.has_value()) << reply;
    octets.resize(size.value_or(0));
    out += "[" + octets + "] ";
    if (next == lines.size()) return out + "?";
    state = exchange.respond(lines[next]);
  }
  EXPECT_EQ(next, lines.size()) << "lines are left";
  if (state == State::failed) return out + std::string(exchange.reply().substr(0, 9));
  const SaslCredentials& c = exchange.credentials();
  for (const std::string_view part : {c.method, c.authorization, c.user, c.password, c.salt}) {
    out += std::string(part) + "/";
  }
  return out;
}

TEST(Sasl, MechanismNames) {
  for (std::size_t i = 0; i < mechanism_count; ++i) {
    const auto mechanism = static_cast<Mechanism>(i);
    std::string name(mechanism_name(mechanism));
    EXPECT_EQ(parse_mechanism(name), mechanism);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return static_cast<char>(std::tolower(c)); });
    EXPECT_EQ(parse_mechanism(name), mechanism);
    EXPECT_FALSE(parse_mechanism(name + "x"));
    EXPECT_FALSE(parse_mechanism(name.substr(1)));
  }
  EXPECT_FALSE(parse_mechanism(""));
}

TEST(Sasl, Plain) {
  const auto plain = [](std::string_view message) { return run(Mechanism::plain, b64(message), {}); };
  EXPECT_EQ(plain("\0user\0pass"sv), "plain//user/pass//");
  EXPECT_EQ(plain("admin\0user\0pass"sv), "plain/admin/user/pass//");
  EXPECT_EQ(run(Mechanism::plain, {}, {b64("\0u\0p"sv)}), "[] plain//u/p//");
  EXPECT_EQ(plain("\0us er@\xc3\xa9\0p\r\n\x01"sv), "plain//us er@\xc3\xa9/p\r\n\x01//");
  EXPECT_EQ(run(Mechanism::plain, "=", {}), "501 5.5.2");
  EXPECT_EQ(run(Mechanism::plain, {}, {""}), "[] 501 5.5.2");
  EXPECT_EQ(plain("\0us\ner\0p"sv), "501 5.5.2");
  EXPECT_EQ(plain("a\rb\0user\0p"sv), "501 5.5.2");
}

// All messages over {NUL, 'a'}: exactly those with two NULs and something behind each are messages of PLAIN.
TEST(Sasl, PlainTakesWhatItsGrammarHas) {
  for (std::size_t size = 0; size <= 8; ++size) {
    for (unsigned bits = 0; bits < 1U << size; ++bits) {
      std::string message;
      for (std::size_t i = 0; i < size; ++i) message += (bits >> i & 1U) != 0 ? 'a' : '\0';
      const std::size_t first = message.find('\0');
      const std::size_t second = first == message.npos ? first : message.find('\0', first + 1);
      const bool good = second != message.npos && second > first + 1 && second + 1 < size &&
                        message.find('\0', second + 1) == message.npos;
      const std::string expected = good ? "plain/" + message.substr(0, first) + "/" +
                                              message.substr(first + 1, second - first - 1) + "/" +
                                              message.substr(second + 1) + "//"
                                        : "501 5.5.2";
      EXPECT_EQ(run(Mechanism::plain, b64(message), {}), expected) << testing::PrintToString(message);
    }
  }
}

TEST(Sasl, Login) {
  const std::string user = b64("user");
  const std::string password = b64("pa ss");
  EXPECT_EQ(run(Mechanism::login, {}, {user, password}), "[Username:] [Password:] plain//user/pa ss//");
  EXPECT_EQ(run(Mechanism::login, user, {password}), "[Password:] plain//user/pa ss//");
  EXPECT_EQ(challenge_of("Username:"), "334 VXNlcm5hbWU6\r\n");
  EXPECT_EQ(challenge_of("Password:"), "334 UGFzc3dvcmQ6\r\n");
  EXPECT_EQ(run(Mechanism::login, {}, {""}), "[Username:] 501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, "=", {}), "501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, {}, {user, ""}), "[Username:] [Password:] 501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, {}, {b64("a\tb")}), "[Username:] 501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, {}, {b64("a\0b"sv)}), "[Username:] 501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, {}, {user, b64("a\0b"sv)}), "[Username:] [Password:] 501 5.5.2");
  EXPECT_EQ(run(Mechanism::login, {}, {user, b64("a\tb")}), "[Username:] [Password:] plain//user/a\tb//");
}

// RFC 2195 section 2 has this one.
TEST(Sasl, CramMd5) {
  const std::string challenge = "<1896.697170952@postoffice.reston.mci.net>";
  EXPECT_EQ(run(Mechanism::cram_md5, {}, {"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"}, challenge),
            "[" + challenge + "] cram-md5//tim/b913a602c7eda7a495b4e6e7334d3890/" + challenge + "/");
  const std::string digest = "b913a602c7eda7a495b4e6e7334d3890";
  const auto answer = [&](std::string_view text) {
    return run(Mechanism::cram_md5, {}, {b64(text)}, "c").substr(4);
  };
  EXPECT_EQ(answer("a b " + digest), "cram-md5//a b/" + digest + "/c/");
  for (const std::string& bad :
       {digest, " " + digest, "a" + digest, "a " + digest + "0", "a " + digest.substr(1),
        "a " + digest.substr(1) + "g", "a\n " + digest, "a "s, ""s}) {
    EXPECT_EQ(answer(bad), "501 5.5.2") << bad;
  }
  // The client does not begin: RFC 4954 section 4.
  EXPECT_EQ(run(Mechanism::cram_md5, b64("tim " + digest), {}, challenge), "501 5.7.0");
  EXPECT_EQ(run(Mechanism::cram_md5, "=", {}, challenge), "501 5.7.0");
}

TEST(Sasl, External) {
  EXPECT_EQ(run(Mechanism::external, "=", {}), "external/////");
  EXPECT_EQ(run(Mechanism::external, {}, {""}), "[] external/////");
  EXPECT_EQ(run(Mechanism::external, b64("me@x"), {}), "external//me@x///");
  EXPECT_EQ(run(Mechanism::external, b64("a\0"sv), {}), "501 5.5.2");
  // "=" is none of no octets in the command alone.
  EXPECT_EQ(run(Mechanism::external, {}, {"="}), "[] 501 5.5.2");
}

TEST(Sasl, Oauthbearer) {
  const auto say = [](std::string_view message) { return run(Mechanism::oauthbearer, b64(message), {}); };
  EXPECT_EQ(say("n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer vF9dft4qmTc2\1\1"),
            "oauthbearer//user@example.com/vF9dft4qmTc2//");
  EXPECT_EQ(say("n,,\1auth=Bearer t\1\1"), "oauthbearer///t//");
  EXPECT_EQ(say("y,a=a=2Cb=3Dc,\1auth=bearer  t\1\1"), "oauthbearer//a,b=c/t//");
  for (const std::string_view bad : {"n,a=u,\1auth=Bearer \1\1",
                                     "n,a=u,\1auth=Bearer t\1",
                                     "n,a=u,\1auth=Bearer t",
                                     "n,a=u,\1\1",
                                     "n,a=u,auth=Bearer t\1\1",
                                     "p=tls-unique,a=u,\1auth=Bearer t\1\1",
                                     "n,u,\1auth=Bearer t\1\1",
                                     "n,a=,\1auth=Bearer t\1\1",
                                     "n,a==2c,\1auth=Bearer t\1\1",
                                     "n,a=x=,\1auth=Bearer t\1\1",
                                     "n,a=x=2,\1auth=Bearer t\1\1",
                                     "n,a=u,\1auth=Basic t\1\1",
                                     "n,a=u,\1auth=Bearer t u\1\1",
                                     "n,a=u\n,\1auth=Bearer t\1\1",
                                     "n,a=u,\1auth\1\1",
                                     "n,a=u,\1=x\1auth=Bearer t\1\1",
                                     "n,a=u,\1auth=Bearer t\1\1\1",
                                     "",
                                     ",",
                                     ",,",
                                     "n",
                                     "n,",
                                     "n,,",
                                     "\1"}) {
    EXPECT_EQ(say(bad), "501 5.5.2") << testing::PrintToString(bad);
  }
}

TEST(Sasl, Xoauth2) {
  const auto say = [](std::string_view message) { return run(Mechanism::xoauth2, b64(message), {}); };
  // The example in Google's description.
  EXPECT_EQ(run(Mechanism::xoauth2,
                "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJo"
                "ZG1semRHRXVZ"
                "MjltQ2cBAQ==",
                {}),
            "xoauth2//someuser@example.com/ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29mCg//");
  EXPECT_EQ(run(Mechanism::xoauth2, {}, {b64("user=u\1auth=Bearer t\1\1")}), "[] xoauth2//u/t//");
  for (const std::string_view bad :
       {"user=\1auth=Bearer t\1\1", "user=u\1auth=Bearer \1\1", "user=u\1auth=Bearer t\1",
        "user=u\1auth=Bearer t", "auth=Bearer t\1user=u\1\1", "user=u\1auth=Bearer t\1\1\1",
        "user=u\x02\1auth=Bearer t\1\1", "user=u", ""}) {
    EXPECT_EQ(say(bad), "501 5.5.2") << testing::PrintToString(bad);
  }
}

TEST(Sasl, LongUsersAndPasswords) {
  for (const std::size_t size :
       {std::size_t{255}, sasl_field_limit - 1, sasl_field_limit, sasl_field_limit + 1, sasl_field_limit + 2,
        sasl_field_limit + 3, std::size_t{9000}}) {
    const std::string s(size, 's');
    const std::string most(sasl_field_limit, 'm');
    const std::string nul(1, '\0');
    const std::string digest(32, 'd');
    const auto ends = [&](Mechanism mechanism, const std::string& message) {
      return run(mechanism, {}, {b64(message)}, "c");
    };
    const auto taken = [](const std::string& out) {
      EXPECT_EQ(out.ends_with("501 5.5.2"), !out.ends_with("/")) << out;
      return out.ends_with("/");
    };
    const bool fits = size <= sasl_field_limit;
    EXPECT_EQ(taken(ends(Mechanism::plain, s + nul + most + nul + most)), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::plain, most + nul + s + nul + most)), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::plain, most + nul + most + nul + s)), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::plain, nul + s + nul + "p")), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::plain, nul + "u" + nul + s)), fits) << size;
    EXPECT_EQ(taken(run(Mechanism::login, b64("u"), {b64(s)})), fits) << size;
    if (fits) {
      EXPECT_TRUE(taken(run(Mechanism::login, b64(s), {b64("p")}))) << size;
    } else {
      EXPECT_EQ(run(Mechanism::login, b64(s), {}), "501 5.5.2") << size;
    }
    EXPECT_EQ(taken(ends(Mechanism::cram_md5, s + " " + digest)), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::external, s)), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::oauthbearer, "n,a=" + s + ",\1auth=Bearer t\1\1")), fits) << size;
    EXPECT_EQ(taken(ends(Mechanism::xoauth2, "user=" + s + "\1auth=Bearer t\1\1")), fits) << size;
    // Tokens are long.
    EXPECT_TRUE(taken(ends(Mechanism::oauthbearer, "n,a=u,\1auth=Bearer " + s + "\1\1"))) << size;
    EXPECT_TRUE(taken(ends(Mechanism::xoauth2, "user=u\1auth=Bearer " + s + "\1\1"))) << size;
  }
}

TEST(Sasl, ACancelledExchangeHasFailed) {
  for (std::size_t i = 0; i < mechanism_count; ++i) {
    const std::string end = run(static_cast<Mechanism>(i), {}, {"*"}, "c");
    EXPECT_TRUE(end.ends_with("] 501 5.7.0")) << end;
    // In the command it is no base64, and nothing more.
    EXPECT_TRUE(run(static_cast<Mechanism>(i), "*", {}, "c").starts_with("501 5.")) << i;
  }
  EXPECT_EQ(run(Mechanism::login, b64("u"), {"*"}), "[Password:] 501 5.7.0");
}

TEST(Sasl, BadBase64) {
  for (std::size_t i = 0; i < mechanism_count; ++i) {
    for (const std::string bad : {"Zg", "Zg==\t", "Zh==", "**", "* ", "Zm9v Zm9v"}) {
      EXPECT_TRUE(run(static_cast<Mechanism>(i), {}, {bad}, "c").ends_with("] 501 5.5.2")) << i << bad;
    }
  }
}

TEST(Sasl, Refused) {
  const auto refuse = [](Mechanism mechanism, std::string_view message, std::string_view reply) {
    SaslExchange exchange(mechanism);
    EXPECT_EQ(exchange.begin(b64(message)), State::complete);
    std::string out;
    if (exchange.refuse(reply) == State::responding) {
      out = exchange.reply();
      EXPECT_EQ(exchange.respond("AQ=="), State::failed);
    }
    EXPECT_TRUE(exchange.credentials().password.empty());
    return out + std::string(exchange.reply());
  };
  const std::string no = "535 5.7.8 No\r\n";
  const std::string later = "454 4.7.0 Later\r\n";
  const std::string oauthbearer = "n,a=u,\1auth=Bearer t\1\1";
  const std::string xoauth2 = "user=u\1auth=Bearer t\1\1";
  EXPECT_EQ(refuse(Mechanism::plain, "\0u\0p"sv, no), no);
  EXPECT_EQ(refuse(Mechanism::oauthbearer, oauthbearer, no),
            challenge_of(R"({"status":"invalid_token"})") + no);
  EXPECT_EQ(refuse(Mechanism::xoauth2, xoauth2, no),
            challenge_of(R"({"status":"401","schemes":"bearer"})") + no);
  EXPECT_EQ(refuse(Mechanism::oauthbearer, oauthbearer, later), later);
  EXPECT_EQ(refuse(Mechanism::xoauth2, xoauth2, later), later);
}

TEST(Sasl, SecretsAreWiped) {
  Secret secret("hunter2");
  const char* const where = secret.view().data();
  std::string copy("hunter2");
  wipe(copy.data(), copy.size());
  EXPECT_EQ(copy, std::string(7, '\0'));
  Secret other(std::move(secret));
  EXPECT_EQ(other.view().data(), where);  // moved, not copied
  EXPECT_TRUE(secret.view().empty());     // NOLINT: that it is left empty is the point
  other.clear();
  EXPECT_TRUE(other.view().empty());
}

}  // namespace
}  // namespace ringmx::smtp
